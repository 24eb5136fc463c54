"""Exceptions in the codec. Storing one never fails; one that cannot be rebuilt comes back as a RemoteError.

Kept: class, arguments, message, attributes, notes, cause, the members of a group, and the traceback as text,
which a rebuilt exception carries along (`traceback_text`).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.msgpack import Ext

from weft.core.classes import module_name, resolve
from weft.core.errors import RemoteError, StoreCorrupt, UnknownType
from weft.core.pack import FINDERS, RECODE, Packer, Packing, Unstorable, register

EXCEPTION = 40
TRACEBACK_LIMIT = 8 * 1024
"""Bytes of traceback text kept: the end of it."""
CAUSES = 16
TRACEBACK = "__weft_traceback__"
NATIVE: dict[type[BaseException], tuple[str, ...]] = {
    OSError: ("filename", "filename2"),
    ImportError: ("name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
}
"""Attributes that live in C structures, not in `__dict__` or `args`."""


def text_of(value: Any, form: Callable[[Any], str] = str) -> str:
    """`str(value)` or its repr, whatever the class does."""
    try:
        return form(value)
    except Exception:
        return f"<{type(value).__qualname__} that cannot be shown>"


def tail(text: str, limit: int) -> str:
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= limit else "…" + data[3 - limit :].decode("utf-8", "ignore")


def traceback_text(error: BaseException) -> str:
    """The traceback as text: of this process, of the one that stored the exception, or of both in turn."""
    kept = vars(error).get(TRACEBACK)
    if isinstance(kept, str) and error.__traceback__ is None:
        return kept
    try:
        shown = traceback.TracebackException(type(error), error, error.__traceback__, limit=-50, compact=True)
        text = "".join(shown.format(chain=False))
    except Exception as trouble:
        text = f"{type(error).__qualname__} (no traceback: {type(trouble).__qualname__})\n"
    if isinstance(kept, str):
        half = TRACEBACK_LIMIT // 2
        return f"{tail(kept, half)}\nwhich came back here:\n{tail(text, half - 32)}"
    return tail(text, TRACEBACK_LIMIT)


def attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, value in vars(error).items():
        if name not in (TRACEBACK, "__notes__"):
            yield name, value
    for base, names in NATIVE.items():
        if isinstance(error, base):
            yield from ((name, getattr(error, name)) for name in names if getattr(error, name) is not None)


def attempt(packing: Packing, value: Any) -> tuple[bool, Any]:
    depth = packing.depth
    try:
        return True, packing.pack(value)
    except RECODE:
        raise
    except Exception:  # any part may be beyond storing; the exception itself must not be
        packing.depth = depth
        return False, None


def pack_exception(packing: Packing, error: BaseException) -> Ext | None:
    if id(error) in packing.active:
        raise Unstorable("the exception contains itself")
    packing.active.add(id(error))
    try:
        return packing.ext(EXCEPTION, content_of(packing, error))
    finally:
        packing.active.discard(id(error))


def content_of(packing: Packing, error: BaseException) -> dict[str, Any]:
    args: Any = error.args
    if isinstance(error, BaseExceptionGroup):
        args = (error.message, list(error.exceptions))
    packed = []
    for arg in args:
        done, part = attempt(packing, arg)
        packed.append(part if done else packing.pack(text_of(arg)))
    cls = type(error)
    content: dict[str, Any] = {
        "type": f"{module_name(cls)}:{cls.__qualname__}",
        "message": packing.pack(text_of(error)),
        "args": packed,
        "traceback": traceback_text(error),
    }
    notes = getattr(error, "__notes__", ())
    if notes:
        content["notes"] = [packing.pack(text_of(note)) for note in notes]
    kept = {}
    for name, value in attributes(error):
        done, part = attempt(packing, value)
        if done:
            kept[name] = part
    if kept:
        content["attributes"] = kept
    if error.__cause__ is not None and len(packing.active) < CAUSES:
        done, part = attempt(packing, error.__cause__)
        if done:
            content["cause"] = part
    return content


def unpack_exception(content: Any) -> BaseException:
    error = rebuilt(content)
    for note in content.get("notes", ()):
        error.add_note(note)
    if "cause" in content:
        error.__cause__ = content["cause"]
    vars(error)[TRACEBACK] = content["traceback"]
    return error


def rebuilt(content: Any) -> BaseException:
    ref = content["type"]
    try:
        cls = resolve(ref)
    except UnknownType as missing:
        return remote(content, str(missing))
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise StoreCorrupt(f"A stored exception names {ref}, which is none: the journal is damaged or forged.")
    try:
        error = bare(cls, content["args"])
        native = {name for base, names in NATIVE.items() if issubclass(cls, base) for name in names}
        for name, value in content.get("attributes", {}).items():
            if name in native:
                setattr(error, name, value)
            else:
                vars(error)[name] = value
        str(error)  # a class that counts on an attribute that was not stored fails here, not later
        return error
    except Exception as trouble:
        return remote(content, f"{ref} cannot be rebuilt: {text_of(trouble)}")


def bare(cls: type[BaseException], args: list[Any]) -> BaseException:
    """An instance made by the built-in class beneath, so that no code of the user's runs."""
    base: Any = cls
    while base.__module__ != "builtins" and base.__base__ is not None:
        base = base.__base__
    error: BaseException = base.__new__(cls, *args)
    base.__init__(error, *args)
    if not isinstance(error, BaseExceptionGroup):
        error.args = tuple(args)
    return error


def remote(content: Any, why: str) -> RemoteError:
    error = RemoteError(type_name(content["type"]), content["message"])
    error.add_note(why)
    return error


def type_name(ref: str) -> str:
    return ref.removeprefix("builtins:").replace(":", ".")


def show_exception(content: Any) -> dict[str, Any]:
    shown = {
        "type": type_name(content["type"]),
        "message": content["message"],
        "traceback": content["traceback"],
    }
    return shown | {key: content[key] for key in ("notes", "cause") if key in content}


def find(cls: type) -> Packer | None:
    return pack_exception if issubclass(cls, BaseException) else None


FINDERS.insert(0, find)
register(EXCEPTION, "exception", unpack_exception, show_exception)

"""Values ⇄ JSON, for people and command lines: lossy on the way out, guided by annotations on the way in."""

from __future__ import annotations

import base64
import inspect
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.core.failure import text_of
from weft.core.pack import CAREFUL, Packing, decode_shown, decode_with, encode_plain

SHORT = 48
"""Bytes of a bytes value that a display shows."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# --- out ----------------------------------------------------------------------------------------------------


class Showing(Packing):
    """A walk that cannot fail: what has no journal form is shown by its repr, a cycle by an ellipsis."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        super().__init__(CAREFUL)
        self.open: set[int] = set()

    def pack(self, value: Any) -> Any:
        if type(value) in self.plain:
            return value
        if id(value) in self.open:
            return "…"
        depth = self.depth
        self.open.add(id(value))
        try:
            return super().pack(value)
        except Exception:  # not storable, or a class whose own code fails
            self.depth = depth
            return super().pack(text_of(value, repr))
        finally:
            self.open.discard(id(value))


def to_plain(value: Any, whole: bool = False) -> Any:
    """The value in JSON types: an object for a dataclass, {type, message, traceback} for an exception, base64
    for bytes (abbreviated unless `whole`), ISO 8601 for times, the repr of the unstorable. Never fails."""
    return decode_plain(encode_plain(Showing().pack(value)), whole)


def decode_plain(data: bytes, whole: bool = False) -> Any:
    """`to_plain(decode(data))` without the classes: nothing of theirs is imported. Raises StoreCorrupt."""
    return _json(decode_with(decode_shown, data), whole)


def _json(value: Any, whole: bool) -> Any:
    if isinstance(value, bytes | bytearray):
        if whole or len(value) <= SHORT:
            return base64.b64encode(value).decode()
        return f"{base64.b64encode(value[:SHORT]).decode()}… ({len(value)} bytes)"
    if isinstance(value, list):
        return [_json(item, whole) for item in value]
    if isinstance(value, dict):
        return {_key(key): _json(item, whole) for key, item in value.items()}
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return base64.b64encode(key).decode() if isinstance(key, bytes) else json.dumps(key)


# --- in -----------------------------------------------------------------------------------------------------


def from_plain(value: Any, annotation: Any, root: str = "input") -> Any:
    """JSON data (or a value that fits already) as the annotated type: dataclass, Struct, pydantic model,
    Enum, datetime, Path, set, union, ... Raises BadInput, whose message gives the path in the value from `root`."""
    if annotation is Any or annotation is object or annotation is inspect.Parameter.empty:
        return value
    if isinstance(annotation, type) and type(value) is annotation and annotation not in (list, dict):
        return value
    try:
        return msgspec.convert(value, annotation, dec_hook=_custom)
    except msgspec.ValidationError as error:
        raise BadInput(_located(str(error), root)) from error
    except TypeError as error:  # a type that msgspec has no opinion of: unions of dataclasses or models
        return _by_pydantic(value, annotation, root, error)


def _custom(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if issubclass(kind, pathlib.PurePath) and isinstance(value, str):
        return kind(value)
    if issubclass(kind, complex) and isinstance(value, str | int | float):
        return kind(value)
    if hasattr(kind, "__pydantic_fields__"):
        return kind.model_validate(value)  # type: ignore[attr-defined]
    raise msgspec.ValidationError(f"Expected `{kind.__qualname__}`, got `{type(value).__name__}`")


def _by_pydantic(value: Any, annotation: Any, root: str, why: TypeError) -> Any:
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        raise BadInput(f"{root}: JSON cannot be converted to {annotation}; use a simpler annotation") from why
    try:
        return pydantic.TypeAdapter(annotation).validate_python(value)
    except (ValueError, pydantic.PydanticUserError) as error:
        raise BadInput(f"{root}: {error}") from error


def _located(message: str, root: str) -> str:
    what, _, path = message.rpartition(" - at `$")
    if not what:
        return f"{root}: {message}"
    return f"{root}{path.rstrip('`')}: {what}"


# --- in, to a function's parameters -------------------------------------------------------------------------


def bind_plain(fn: Callable[..., Any], plain: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A command line's JSON input as arguments for `fn`, converted to its annotations.

    An object gives keyword arguments; a list positional ones; None nothing. If `fn` has a single parameter,
    input that fits it as a whole is that argument. Raises BadInput, which shows the signature.
    """
    signature = _signature(fn)
    name = getattr(fn, "__name__", "the workflow")
    parameters = list(signature.parameters.values())
    needed = [p for p in parameters if p.kind in _NAMED and p.default is p.empty]
    only = parameters[0] if len(parameters) == 1 and parameters[0].kind in _POSITIONAL else None
    try:
        if plain is None and not needed:
            return (), {}
        if isinstance(plain, dict) and not (only and plain and only.name not in plain):
            return _by_name(parameters, plain)
        if isinstance(plain, list) and not only:
            return _by_position(parameters, plain)
        if only:
            return _whole(only, plain)
        if parameters and parameters[0].kind in _POSITIONAL and len(needed) <= 1 and needed in ([], parameters[:1]):
            return _whole(parameters[0], plain)
        raise BadInput(f"give its {len(needed)} arguments as a JSON object")
    except BadInput as error:
        raise BadInput(f"{name}: {error}. Its parameters: {name}{signature}") from error


_NAMED = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    """With annotations evaluated where that is possible (not so for names imported for checkers only)."""
    signature = inspect.signature(fn)
    space = getattr(inspect.unwrap(fn), "__globals__", {})

    def evaluated(annotation: Any) -> Any:
        if not isinstance(annotation, str):
            return annotation
        try:
            return eval(annotation, space)
        except Exception:
            return inspect.Parameter.empty

    parameters = [p.replace(annotation=evaluated(p.annotation)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def _argument(parameter: inspect.Parameter, value: Any) -> Any:
    return from_plain(value, parameter.annotation, f"argument {parameter.name!r}")


def _whole(only: inspect.Parameter, plain: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        return (_argument(only, plain),), {}
    except BadInput:
        if isinstance(plain, list) and len(plain) == 1:
            return (_argument(only, plain[0]),), {}
        if isinstance(plain, dict) and all(key.isidentifier() for key in plain):
            raise BadInput(f"no argument {', '.join(map(repr, plain))}") from None
        raise


def _by_position(parameters: list[inspect.Parameter], plain: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    slots = [p for p in parameters if p.kind in _POSITIONAL]
    rest = next((p for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    if len(plain) > len(slots) and rest is None:
        raise BadInput(f"{len(plain)} arguments given, at most {len(slots)} taken")
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    missing = [p.name for p in [*slots[len(plain) :], *named] if p.default is p.empty]
    if missing:
        raise BadInput(f"missing argument {', '.join(map(repr, missing))}")
    return tuple(_argument(slots[i] if i < len(slots) else rest or slots[-1], v) for i, v in enumerate(plain)), {}


def _by_name(parameters: list[inspect.Parameter], plain: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    known = {p.name: p for p in parameters if p.kind in _NAMED}
    rest = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
    unknown = [name for name in plain if name not in known]
    if unknown and rest is None:
        raise BadInput(f"no argument {', '.join(map(repr, unknown))}")
    missing = [name for name, p in known.items() if name not in plain and p.default is p.empty]
    if missing:
        raise BadInput(f"missing argument {', '.join(map(repr, missing))}")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, value in plain.items():
        kwargs[name] = _argument(known.get(name) or rest or parameters[0], value)
    for parameter in parameters:  # those that cannot be named, up to the first one left to its default
        if parameter.kind is not parameter.POSITIONAL_ONLY or parameter.name not in kwargs:
            break
        args.append(kwargs.pop(parameter.name))
    return tuple(args), kwargs

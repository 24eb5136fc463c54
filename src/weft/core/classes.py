"""Instances of the user's classes in the codec: dataclasses, Structs, pydantic models, enums, named tuples.

A class is written as `module:qualname`. Reading one back only ever makes an instance of the kind that was
written, by its state: a journal that names `os:system` is refused.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from weft.core.errors import StoreCorrupt, UnknownType
from weft.core.pack import FINDERS, Packer, Packing, Unstorable, register

DATACLASS, STRUCT, PYDANTIC, ENUM, NAMEDTUPLE = 32, 33, 34, 35, 36
MAIN = ("__main__", "__mp_main__")
KEPT = 64_000
"""Bytes that a value may take whose packed form is kept: a larger one is a few large parts, which cost little."""

# --- names ------------------------------------------------------------------------------------------------


def main_name() -> str | None:
    """The name under which the script being run would be imported; None if there is no script."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return _stem(file) if file else None


@functools.cache
def _stem(file: str) -> str:
    return Path(file).stem


def module_name(thing: Any) -> str:
    """The module that defines a class or function, as one that imports it would say it (never `__main__`)."""
    name = str(thing.__module__)
    return main_name() or name if name in MAIN else name


def modules_called(name: str) -> Iterator[ModuleType]:
    """The running script, if `name` means it, then the module imported under that name, if any."""
    if name in MAIN or name == main_name():
        yield sys.modules["__main__"]
    if name in sys.modules:
        yield sys.modules[name]


def member(module: ModuleType, qualname: str) -> Any:
    if qualname in vars(module):  # first as a whole: pydantic files generic models under "Box[int]"
        return vars(module)[qualname]
    return functools.reduce(getattr, qualname.split("."), module)


def resolve(reference: str) -> Any:
    """What `module:qualname` names; imports the module if need be. Raises UnknownType."""
    name, colon, qualname = reference.partition(":")
    if not (name and colon and qualname):
        raise UnknownType(f"{reference!r} is not of the form module:name.")
    for module in modules_called(name):
        try:
            return member(module, qualname)
        except AttributeError:
            continue
    try:
        return member(importlib.import_module(name), qualname)
    except Exception as error:
        raise UnknownType(
            f"{reference} is not in the code at hand ({error}); run with the code that stored it."
        ) from error


def reference(cls: type) -> str:
    """`module:qualname` of a class that can be found again by it; raises Unstorable otherwise."""
    name, qualname = module_name(cls), cls.__qualname__
    if "<locals>" in qualname:
        raise Unstorable(f"{qualname} is defined inside a function; move it to the top level of its module")
    for module in modules_called(name):
        try:
            if member(module, qualname) is cls:
                return f"{name}:{qualname}"
        except AttributeError:
            continue
    raise Unstorable(f"{name}:{qualname} does not name its class; give the class a name in its module")


def resolve_as(ref: str, what: str, fits: Callable[[type], bool]) -> Any:
    cls = resolve(ref)
    if not isinstance(cls, type):
        raise StoreCorrupt(f"A stored {what} names {ref}, which is no class: the journal is damaged or forged.")
    if not fits(cls):
        raise UnknownType(f"{ref} is not a {what} any more; run with the code that stored it.")
    return cls


def no_default(cls: type, field: str) -> UnknownType:
    ref = f"{module_name(cls)}:{cls.__qualname__}"
    return UnknownType(f"{ref} has a field {field!r} that the stored value lacks; give the field a default.")


# --- dataclasses --------------------------------------------------------------------------------------------


def is_dataclass(cls: type) -> bool:
    builtin = (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, BaseException)
    return dataclasses.is_dataclass(cls) and not issubclass(cls, builtin)


def pack_dataclass(cls: type) -> Packer:
    ref = reference(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    known = {"__orig_class__", *names}
    known |= {n for c in cls.__mro__ for n, v in vars(c).items() if isinstance(v, functools.cached_property)}

    def pack(packing: Packing, value: Any) -> Ext:
        content: list[Any] = [ref, packing.fields(present(value, names), value)]
        state: dict[str, Any] = getattr(value, "__dict__", {})
        if not known.issuperset(state):  # attributes that are no fields
            content.append(packing.fields(((k, v) for k, v in state.items() if k not in known), value))
        return packing.ext(DATACLASS, content)

    return pack


def present(value: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        if hasattr(value, name):  # a field(init=False) may not be set yet
            yield name, getattr(value, name)


def unpack_dataclass(content: Any) -> Any:
    ref, state = content[0], content[1]
    cls = resolve_as(ref, "dataclass", is_dataclass)
    value = object.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.name in state:
            part = state[field.name]
        elif field.default is not dataclasses.MISSING:
            part = field.default
        elif field.default_factory is not dataclasses.MISSING:
            part = field.default_factory()
        elif field.init:
            raise no_default(cls, field.name)
        else:
            continue
        object.__setattr__(value, field.name, part)
    if len(content) > 2 and hasattr(value, "__dict__"):
        value.__dict__.update(content[2])
    return value


# --- msgspec and pydantic -----------------------------------------------------------------------------------


def pack_struct(cls: type[msgspec.Struct]) -> Packer:
    ref, names, state = reference(cls), list(cls.__struct_fields__), msgspec.structs.asdict

    def pack(packing: Packing, value: Any) -> Ext:
        try:
            pairs: Iterable[tuple[str, Any]] = state(value).items()
        except AttributeError:  # a field that is not set
            pairs = present(value, names)
        return packing.ext(STRUCT, [ref, packing.fields(pairs, value)])

    return pack_once(pack) if hasattr(cls, "__packed_once__") else pack


def pack_once(pack: Packer) -> Packer:
    """For a frozen Struct with a `__dict__` whose values are written again and again, as the messages of a conversation
    are with each turn: a class says so by the property `__packed_once__`. A value of which that is true, for nothing
    in it can be changed, keeps its packed form."""

    def packed(packing: Packing, value: Any) -> Ext:
        kept: dict[str, Any] = value.__dict__
        found: Ext | None = kept.get("__packed__")
        if found is None:
            found = pack(packing, value)
            if value.__packed_once__ and memoryview(found.data).nbytes <= KEPT:
                kept["__packed__"] = found
        return found

    return packed


def unpack_struct(content: Any) -> Any:
    ref, state = content
    cls = resolve_as(ref, "Struct", lambda c: issubclass(c, msgspec.Struct))
    names, defaults = cls.__struct_fields__, cls.__struct_defaults__
    defaults = (msgspec.NODEFAULT,) * (len(names) - len(defaults)) + defaults
    for name, default in zip(names, defaults, strict=True):
        if default is msgspec.NODEFAULT and name not in state:
            raise no_default(cls, name)
    state = {name: part for name, part in state.items() if name in names}
    value = cls(**state)
    for name, part in state.items():  # undo what __post_init__ may have changed
        msgspec.structs.force_setattr(value, name, part)
    return value


def base_model() -> Any:
    """pydantic's BaseModel if the program has imported it: Weft itself never does."""
    return getattr(sys.modules.get("pydantic.main"), "BaseModel", ())


def pack_pydantic(cls: type) -> Packer:
    ref, base = reference(cls), base_model()

    def pack(packing: Packing, value: Any) -> Ext:
        state = base.__getstate__(value)
        fields = {k: v for k, v in state["__dict__"].items() if k in cls.__pydantic_fields__}  # type: ignore[attr-defined]
        extra, private = state["__pydantic_extra__"], state["__pydantic_private__"]
        content = [
            ref,
            packing.fields(fields.items(), value),
            sorted(state["__pydantic_fields_set__"]),
            packing.fields(extra.items(), value) if extra is not None else None,
            packing.fields(private.items(), value) if private is not None else None,
        ]
        return packing.ext(PYDANTIC, content)

    return pack


def unpack_pydantic(content: Any) -> Any:
    ref, state, fields_set, extra, private = content
    cls = resolve_as(ref, "pydantic model", lambda c: issubclass(c, base_model()))
    fields = {}
    for name, field in cls.__pydantic_fields__.items():
        if name in state:
            fields[name] = state[name]
        elif field.is_required():
            raise no_default(cls, name)
        else:
            fields[name] = field.get_default(call_default_factory=True, validated_data=fields)
    value = cls.__new__(cls)
    base_model().__setstate__(
        value,
        {
            "__dict__": fields,
            "__pydantic_fields_set__": set(fields_set),
            "__pydantic_extra__": extra,
            "__pydantic_private__": private,
        },
    )
    return value


# --- enum members and named tuples --------------------------------------------------------------------------


def pack_enum(cls: type[enum.Enum]) -> Packer:
    ref = reference(cls)

    def pack(packing: Packing, member: enum.Enum) -> Ext:
        if isinstance(member, enum.Flag):
            return packing.ext(ENUM, [ref, None, packing.pack(member.value)])
        value = member.value if type(member.value) in (int, str) else None
        return packing.ext(ENUM, [ref, member.name, packing.pack(value)])

    return pack


def unpack_enum(content: Any) -> Any:
    ref, name, value = content
    cls = resolve_as(ref, "Enum", lambda c: issubclass(c, enum.Enum))
    if name in cls.__members__:
        return cls.__members__[name]
    try:
        return cls(value)
    except (ValueError, TypeError) as error:
        raise UnknownType(f"{ref} has no member {name or value!r} any more; add it again.") from error


def is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def pack_namedtuple(cls: Any) -> Packer:
    ref, names = reference(cls), cls._fields

    def pack(packing: Packing, value: Any) -> Ext:
        parts = packing.fields(zip(names, value, strict=True), value)
        return packing.ext(NAMEDTUPLE, [ref, list(parts.values())])

    return pack


def unpack_namedtuple(content: Any) -> Any:
    ref, parts = content
    cls = resolve_as(ref, "NamedTuple", is_namedtuple)
    if len(parts) > len(cls._fields):
        raise UnknownType(f"{ref} has fewer fields than the stored value; add them again.")
    for name in cls._fields[len(parts) :]:
        if name not in cls._field_defaults:
            raise no_default(cls, name)
        parts.append(cls._field_defaults[name])
    return tuple.__new__(cls, parts)


# --- registration -------------------------------------------------------------------------------------------


def find(cls: type) -> Packer | None:
    if issubclass(cls, enum.Enum):
        return pack_enum(cls)
    if issubclass(cls, msgspec.Struct):
        return pack_struct(cls)
    if is_namedtuple(cls):
        return pack_namedtuple(cls)
    if issubclass(cls, base_model()):
        return pack_pydantic(cls)
    return pack_dataclass(cls) if is_dataclass(cls) else None


def show_state(content: Any) -> Mapping[str, Any]:
    state: dict[str, Any] = content[1]
    return state


def show_pydantic(content: Any) -> Any:
    state = content[1] | (content[3] or {})
    return state["root"] if state.keys() == {"root"} else state


FINDERS.append(find)
register(DATACLASS, "dataclass", unpack_dataclass, show_state)
register(STRUCT, "Struct", unpack_struct, show_state)
register(PYDANTIC, "pydantic model", unpack_pydantic, show_pydantic)
register(ENUM, "Enum", unpack_enum, lambda c: c[1] if c[2] is None else c[2])
register(NAMEDTUPLE, "NamedTuple", unpack_namedtuple, lambda c: c[1])

"""The codec: any value a program may pass, return, raise or send ⇄ bytes, with the same value and type.

    decode(encode(value)) == value          decode_args(encode_args(args, kwargs, "fetch")) == (args, kwargs)

The format is msgpack and describes itself. JSON types and bytes go straight to msgspec's C encoder (well
under a microsecond); `pack` walks everything else, `kinds`, `classes` and `failure` say how each kind is
written, `plain` gives the JSON forms. Supported:

    JSON types, integers of any size, bytes, bytearray, complex, range, Decimal, UUID, Path, Enum and Flag
    datetime, date, time, timedelta (zones: zoneinfo and fixed offsets)
    tuples, sets, frozensets, deques, dicts with any keys, OrderedDict, defaultdict, Counter
    dataclasses, NamedTuples, msgspec Structs, pydantic models, exceptions and their groups

The same value gives the same bytes in every process (sets are sorted; dicts keep their order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weft.core import kinds, sealed  # noqa: F401  (registers them)
from weft.core.classes import module_name, resolve
from weft.core.errors import StoreCorrupt
from weft.core.failure import traceback_text
from weft.core.pack import (
    RECODE,
    SCALARS,
    Packing,
    Unstorable,
    decode_packed,
    decode_with,
    encode_plain,
    encode_with,
)
from weft.core.plain import bind_plain, decode_plain, from_plain, to_plain

__all__ = [
    "bind_plain",
    "decode",
    "decode_args",
    "decode_plain",
    "encode",
    "encode_args",
    "from_plain",
    "module_name",
    "resolve",
    "to_plain",
    "traceback_text",
]


def encode(value: Any, root: str = "value") -> bytes:
    """The value as bytes. Raises NotStorable, whose path begins with `root`."""
    if type(value) in SCALARS:
        try:
            return encode_plain(value)
        except RECODE:
            pass
    return encode_with(lambda packing: packing.pack(value), root)


def decode(data: bytes) -> Any:
    """The value that was encoded. Raises StoreCorrupt for damaged bytes, UnknownType if a class is gone."""
    return decode_with(decode_packed, data)


def encode_args(args: tuple[Any, ...], kwargs: dict[str, Any], root: str, names: Sequence[str] = ()) -> bytes:
    """A call's arguments as bytes.

    `root` (the function's name) and `names` (its parameters) serve the path of a NotStorable only:
    ``fetch(argument 'options').callbacks[3]``.
    """
    for arg in args:
        if type(arg) not in SCALARS:
            break
    else:
        try:
            if not kwargs:
                return encode_plain(args)
            if SCALARS.issuperset(map(type, kwargs.values())):
                return encode_plain({"*": args, "**": kwargs})
        except RECODE:
            pass
    return encode_with(lambda packing: _pack_args(packing, args, kwargs, names), root)


def _pack_args(packing: Packing, args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]) -> Any:
    where = ""
    try:
        positional, named = [], {}
        for index, arg in enumerate(args):
            where = f"(argument {names[index]!r})" if index < len(names) else f"(argument {index + 1})"
            positional.append(packing.pack(arg))
        for name, arg in kwargs.items():
            where = f"(argument {name!r})"
            named[name] = packing.pack(arg)
    except Unstorable as stop:
        stop.passing(where, args)
        raise
    return {"*": positional, "**": named} if named else positional


def decode_args(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that `encode_args` wrote; errors as for `decode`."""
    call = decode_with(decode_packed, data)
    if type(call) is list:
        return tuple(call), {}
    if type(call) is dict and call.keys() == {"*", "**"}:
        return tuple(call["*"]), call["**"]
    raise StoreCorrupt("Stored arguments are damaged: neither a list nor a call.")

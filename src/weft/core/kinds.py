"""The standard library's values in the codec: containers, numbers, times. Codes are on disk: keep them."""

from __future__ import annotations

import decimal
import itertools
import json
import pathlib
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from types import EllipsisType, NotImplementedType
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from weft.core.pack import PACKERS, SCALARS, Packing, Unstorable, encode_plain, register

TUPLE, SET, FROZENSET, PAIRS, ORDERED, COUNTER, DEFAULTDICT, DEQUE, RANGE = 1, 2, 3, 4, 5, 6, 7, 8, 9
BIGINT, COMPLEX, DECIMAL, TEXT, BYTEARRAY, UUID, PATH, CONSTANT = 10, 11, 12, 13, 14, 15, 16, 17
DATETIME, DATE, TIME, TIMEDELTA = 20, 21, 22, 23

# --- containers -----------------------------------------------------------------------------------------


def pack_list(packing: Packing, value: list[Any]) -> list[Any]:
    if packing.plain.issuperset(map(type, value)):  # at C speed: a million numbers take 20 ms
        return value
    return packing.items(value, value)


def pack_tuple(packing: Packing, value: tuple[Any, ...]) -> Ext:
    plain = packing.plain.issuperset(map(type, value))
    return packing.ext(TUPLE, value if plain else packing.items(value, value))


def pack_set(packing: Packing, value: set[Any] | frozenset[Any]) -> Ext:
    items = list(value)
    if not packing.plain.issuperset(map(type, items)):
        items = packing.items(items, value)
    items.sort(key=encode_plain)  # the same bytes in every process, whatever the hash seed
    return packing.ext(SET if type(value) is set else FROZENSET, items)


def pack_dict(packing: Packing, value: dict[Any, Any]) -> Any:
    plain = packing.plain
    if plain.issuperset(map(type, value)):
        if plain.issuperset(map(type, value.values())):
            return value
        return packing.fields(value.items(), value, "[{!r}]")
    keys = pack_keys(packing, value)
    values = packing.fields(value.items(), value, "[{!r}]").values()
    if SCALARS.issuperset(map(type, keys)):
        return dict(zip(keys, values, strict=True))
    return packing.ext(PAIRS, list(itertools.chain.from_iterable(zip(keys, values, strict=True))))


def pack_keys(packing: Packing, value: Mapping[Any, Any]) -> list[Any]:
    keys = []
    for key in value:
        try:
            keys.append(packing.pack(key))
        except Unstorable as stop:
            stop.passing(f".keys()[{len(keys)}]", value)
            raise
    return keys


def pack_pairs(packing: Packing, value: Mapping[Any, Any]) -> list[Any]:
    values = packing.fields(value.items(), value, "[{!r}]").values()
    return list(itertools.chain.from_iterable(zip(pack_keys(packing, value), values, strict=True)))


def pairs(flat: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def show_pairs(flat: list[Any]) -> dict[Any, Any]:
    return {key if type(key) in SCALARS else json.dumps(key, default=str): v for key, v in pairs(flat)}


FACTORIES = {f.__name__: f for f in (int, float, str, bytes, bool, list, dict, set, tuple)}


def pack_defaultdict(packing: Packing, value: defaultdict[Any, Any]) -> Ext:
    factory = value.default_factory
    name = getattr(factory, "__name__", None)
    if factory is not None and FACTORIES.get(str(name)) is not factory:
        raise Unstorable("a defaultdict with a factory of its own cannot be stored; convert it with dict(...)")
    return packing.ext(DEFAULTDICT, [name, pack_pairs(packing, value)])


def unpack_defaultdict(content: Any) -> Any:
    name, flat = content
    return defaultdict(FACTORIES[name] if name else None, pairs(flat))


def unpack_counter(flat: list[Any]) -> Any:
    return Counter(dict(pairs(flat)))


PACKERS[list] = pack_list
PACKERS[dict] = pack_dict
PACKERS[tuple] = pack_tuple
PACKERS[set] = PACKERS[frozenset] = pack_set
PACKERS[OrderedDict] = lambda p, v: p.ext(ORDERED, pack_pairs(p, v))
PACKERS[Counter] = lambda p, v: p.ext(COUNTER, pack_pairs(p, v))
PACKERS[defaultdict] = pack_defaultdict
PACKERS[deque] = lambda p, v: p.ext(DEQUE, [v.maxlen, p.items(v, v)])
PACKERS[range] = lambda p, v: p.ext(RANGE, p.items((v.start, v.stop, v.step), v))

register(TUPLE, "tuple", tuple, list)
register(SET, "set", set, list)
register(FROZENSET, "frozenset", frozenset, list)
register(PAIRS, "dict", lambda c: dict(pairs(c)), show_pairs)
register(ORDERED, "OrderedDict", lambda c: OrderedDict(pairs(c)), show_pairs)
register(COUNTER, "Counter", unpack_counter, show_pairs)
register(DEFAULTDICT, "defaultdict", unpack_defaultdict, lambda c: show_pairs(c[1]))
register(DEQUE, "deque", lambda c: deque(c[1], c[0]), lambda c: c[1])
register(RANGE, "range", lambda c: range(*c), list)

# --- numbers, text, names ---------------------------------------------------------------------------------


def pack_int(packing: Packing, value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    return packing.ext(BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def pack_str(packing: Packing, value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, as os.fsdecode makes them from names that are not UTF-8
        return packing.ext(TEXT, value.encode("utf-8", "surrogatepass"))
    return value


def to_int(body: bytes) -> int:
    return int.from_bytes(body, "big", signed=True)


PATHS: dict[str, type[pathlib.PurePath]] = {
    "PosixPath": pathlib.Path,
    "WindowsPath": pathlib.Path,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}
CONSTANTS: dict[str, Any] = {"...": ..., "NotImplemented": NotImplemented, "UNSET": msgspec.UNSET}


def same(content: Any) -> Any:
    return content


PACKERS[int] = pack_int
PACKERS[str] = pack_str
PACKERS[complex] = lambda p, v: p.ext(COMPLEX, (v.real, v.imag))
PACKERS[decimal.Decimal] = lambda p, v: p.ext(DECIMAL, str(v))
PACKERS[bytearray] = lambda p, v: p.ext(BYTEARRAY, bytes(v))
PACKERS[uuid.UUID] = lambda p, v: p.ext(UUID, v.bytes)
PACKERS[EllipsisType] = lambda p, v: p.ext(CONSTANT, "...")
PACKERS[NotImplementedType] = lambda p, v: p.ext(CONSTANT, "NotImplemented")
PACKERS[type(msgspec.UNSET)] = lambda p, v: p.ext(CONSTANT, "UNSET")
for path_type in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath):
    PACKERS[path_type] = lambda p, v: p.ext(PATH, [type(v).__name__, p.pack(str(v))])

register(BIGINT, "int", to_int, to_int)
register(COMPLEX, "complex", lambda c: complex(*c), lambda c: str(complex(*c)))
register(DECIMAL, "Decimal", decimal.Decimal, same)
register(TEXT, "str", lambda c: c.decode("utf-8", "surrogatepass"), lambda c: c.decode("utf-8", "replace"))
register(BYTEARRAY, "bytearray", bytearray, same)
register(UUID, "UUID", lambda c: uuid.UUID(bytes=c), lambda c: str(uuid.UUID(bytes=c)))
register(PATH, "Path", lambda c: PATHS[c[0]](c[1]), lambda c: c[1])
register(CONSTANT, "constant", lambda c: CONSTANTS[c], same)

# --- times --------------------------------------------------------------------------------------------------


def zone_of(value: tzinfo) -> str | None:
    """The key of a zone of rules; None for a fixed offset, which ISO text carries by itself."""
    if isinstance(value, timezone):
        return None
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is not None and isinstance(value, zoneinfo.ZoneInfo) and value.key:
        return str(value.key)
    if value.utcoffset(None) is not None:  # fixed, by another library (dateutil, pytz)
        return None
    raise Unstorable(f"the time zone {value!r} cannot be stored; use zoneinfo.ZoneInfo or datetime.timezone")


def pack_moment(code: int) -> Callable[[Packing, Any], Ext]:
    def pack(packing: Packing, value: datetime | time) -> Ext:
        zone = zone_of(value.tzinfo) if value.tzinfo is not None else None
        if zone is not None:
            return packing.ext(code, [value.replace(tzinfo=None).isoformat(), zone, value.fold])
        return packing.ext(code, [value.isoformat(), None, 1] if value.fold else value.isoformat())

    return pack


def unpack_moment(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    def unpack(content: Any) -> Any:
        if type(content) is str:
            return kind.fromisoformat(content)
        text, zone, fold = content
        value = kind.fromisoformat(text).replace(fold=fold)
        if zone is None:
            return value
        from zoneinfo import ZoneInfo

        return value.replace(tzinfo=ZoneInfo(zone))

    return unpack


PACKERS[datetime] = pack_moment(DATETIME)
PACKERS[time] = pack_moment(TIME)
PACKERS[date] = lambda p, v: p.ext(DATE, v.isoformat())
PACKERS[timedelta] = lambda p, v: p.ext(TIMEDELTA, (v.days, v.seconds, v.microseconds))

for code, moment in ((DATETIME, datetime), (TIME, time)):
    unpack: Callable[[Any], Any] = unpack_moment(moment)
    register(code, moment.__name__, unpack, lambda c, unpack=unpack: unpack(c).isoformat())  # type: ignore[misc]
register(DATE, "date", date.fromisoformat, same)
register(TIMEDELTA, "timedelta", lambda c: timedelta(*c), lambda c: msgspec.to_builtins(timedelta(*c)))

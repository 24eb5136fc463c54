"""The codec's engine: a value of any supported kind ⇄ what msgpack's C coder takes.

Plain values pass as they are. Any other becomes an `Ext`: its code names the kind, its body is again msgpack.
So a reader that knows no class at all (a display, the redactor) can still walk everything in a journal.

    PACKERS[type](packing, value) -> packed value          register(code, name, unpack, show)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec.msgpack import Ext

from weft.core.errors import NotStorable, StoreCorrupt, WeftError

SCALARS: frozenset[type] = frozenset({NoneType, bool, int, float, str, bytes})
CAREFUL: frozenset[type] = SCALARS - {int, str}
"""What is plain after the C encoder has met an integer over 64 bits or a lone surrogate somewhere."""
RECODE = (OverflowError, UnicodeEncodeError)
"""What the C encoder raises then."""
MAX_DEPTH = 200

encode_plain: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


class Unstorable(Exception):
    """Raised where the trouble is; each container on the way out adds its part of the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trail: list[tuple[str, int]] = []

    def passing(self, part: str, container: object) -> None:
        self.trail.append((part, id(container)))

    def named(self, root: str) -> NotStorable:
        """The error for the user; a path that meets one container twice is a cycle and is cut there."""
        path, seen, reason = root, set[int](), self.reason
        for part, container in reversed(self.trail):
            if container in seen:
                reason = "the value contains itself; store identifiers instead of references"
                break
            seen.add(container)
            path += part
        return NotStorable(path, reason)


Packer = Callable[["Packing", Any], Any]
PACKERS: dict[type, Packer] = {}
FINDERS: list[Callable[[type], Packer | None]] = []
"""Asked in turn for a class that is not in PACKERS."""


class Packing:
    """One walk over one value."""

    __slots__ = ("active", "depth", "plain")

    def __init__(self, plain: frozenset[type] = SCALARS) -> None:
        self.plain = plain
        self.depth = 0
        self.active: set[int] = set()

    def pack(self, value: Any) -> Any:
        kind = type(value)
        if kind in self.plain:
            return value
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unstorable(f"nested more than {MAX_DEPTH} levels deep; flatten it")
        packed = (PACKERS.get(kind) or packer_for(kind))(self, value)
        self.depth -= 1
        return packed

    def items(self, values: Iterable[Any], owner: object) -> list[Any]:
        packed: list[Any] = []
        try:
            for value in values:
                packed.append(self.pack(value))
        except Unstorable as stop:
            stop.passing(f"[{len(packed)}]", owner)
            raise
        return packed

    def fields(self, pairs: Iterable[tuple[Any, Any]], owner: object, form: str = ".{}") -> dict[Any, Any]:
        packed: dict[Any, Any] = {}
        name: Any = ""
        plain = self.plain
        try:
            for name, value in pairs:
                packed[name] = value if type(value) in plain else self.pack(value)
        except Unstorable as stop:
            stop.passing(form.format(name), owner)
            raise
        return packed

    def ext(self, code: int, content: Any) -> Ext:
        return Ext(code, encode_plain(content))


def packer_for(kind: type) -> Packer:
    for find in FINDERS:
        packer = find(kind)
        if packer is not None:
            PACKERS[kind] = packer
            return packer
    return refuse


def refuse(packing: Packing, value: Any) -> NoReturn:
    from weft.core.refuse import reason

    raise Unstorable(reason(value))


def encode_with(build: Callable[[Packing], Any], root: str) -> bytes:
    """Pack and encode; once more, carefully, if the C encoder balks at an integer or a string."""
    try:
        try:
            return encode_plain(build(Packing()))
        except RECODE:
            return encode_plain(build(Packing(CAREFUL)))
    except Unstorable as stop:
        raise stop.named(root) from None
    except UnicodeEncodeError:
        raise NotStorable(root, "a keyword argument's name is not Unicode text; rename it") from None
    except RecursionError:
        raise NotStorable(root, "nested too deeply; flatten it") from None


# --- the way back -------------------------------------------------------------------------------------


class Kind(NamedTuple):
    name: str
    unpack: Callable[[Any], Any]
    """Decoded body -> the value."""
    show: Callable[[Any], Any]
    """Decoded body, its own parts shown already -> JSON types (and bytes)."""


KINDS: dict[int, Kind] = {}


def register(code: int, name: str, unpack: Callable[[Any], Any], show: Callable[[Any], Any]) -> None:
    if code in KINDS:
        raise ValueError(f"code {code} is taken by {KINDS[code].name}")
    KINDS[code] = Kind(name, unpack, show)


def _kind(code: int) -> Kind:
    kind = KINDS.get(code)
    if kind is None:
        raise StoreCorrupt(f"A stored value has the unknown kind {code}: it is damaged or of a newer Weft.")
    return kind


def _unpack(code: int, body: memoryview) -> Any:
    kind = _kind(code)
    content = decode_packed(body)
    try:
        return kind.unpack(content)
    except WeftError:
        raise
    except Exception as error:
        raise StoreCorrupt(f"A stored {kind.name} is damaged: {error}.") from error


def _show(code: int, body: memoryview) -> Any:
    kind = _kind(code)
    content = decode_shown(body)
    try:
        return kind.show(content)
    except Exception as error:
        raise StoreCorrupt(f"A stored {kind.name} is damaged: {error}.") from error


decode_packed: Callable[[Any], Any] = msgspec.msgpack.Decoder(ext_hook=_unpack).decode
decode_shown: Callable[[Any], Any] = msgspec.msgpack.Decoder(ext_hook=_show).decode


def decode_with(decode: Callable[[Any], Any], data: bytes) -> Any:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupt(f"A stored value of {len(data)} bytes is damaged: {error}.") from error

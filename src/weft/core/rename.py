"""Other names for processes, wherever they stand in what was written: in arguments, results, errors, letters.

A made-up id (`weft.core.ids`) is unique, so wherever its 16 characters stand, that process is meant: in texts, in
bytes, in the middle of a longer word. An id that a program chose itself ("order-17") may be a word of its data too, and
is replaced only where the id of a process must stand (`Names.exactly`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from weft.core.ids import ALPHABET, LENGTH, new_id
from weft.core.kinds import FROZENSET, SET

_MADE_UP = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")


def fresh(ids: Iterable[str]) -> dict[str, str]:
    """A new id for each of these, in the same order: what a program has sorted stays sorted."""
    ordered = sorted(ids)
    return dict(zip(ordered, sorted(new_id() for _ in ordered), strict=True))


class Names:
    """`new`: old id -> new one."""

    def __init__(self, new: Mapping[str, str]) -> None:
        self.new = dict(new)
        self.chosen = {old for old in new if not _MADE_UP.fullmatch(old)}
        """Old ids that programs chose."""
        self._bytes = {old.encode(): id.encode() for old, id in new.items() if old not in self.chosen}
        shared = _shared(sorted(self._bytes))
        self._search = re.compile(re.escape(shared) + b"[%b]{%d}" % (ALPHABET.encode(), LENGTH - len(shared))).search

    def exactly(self, id: str) -> str:
        """The name of a process, or of its rights since they were numbered anew (`<id>@<effect>`)."""
        if id in self.new:
            return self.new[id]
        process, at, number = id.rpartition("@")
        return f"{self.new[process]}@{number}" if at and process in self.new else id

    def text(self, text: str) -> str:
        """A text, with new ids in place of old ones."""
        if len(text) < LENGTH or not self._bytes:
            return text
        data = text.encode("utf-8", "surrogatepass")
        changed = self.raw(data)
        return text if changed is data else changed.decode("utf-8", "surrogatepass")

    def raw(self, data: bytes) -> bytes:
        """Bytes that are no msgpack; the same object if no id is in them."""
        parts: list[bytes] = []
        at = done = 0
        while self._bytes and (found := self._search(data, at)) is not None:
            id = self._bytes.get(found[0])
            if id is None:
                at = found.start() + 1
                continue
            parts += [data[done : found.start()], id]
            at = done = found.end()
        return b"".join((*parts, data[done:])) if parts else data

    def data(self, data: bytes) -> bytes:
        """The bytes of an encoded value; the same object if no id is in it."""
        if self.raw(data) is data:
            return data
        try:
            return _encode(self._walk(_decode(data)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.raw(data)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.raw(value)
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            return {self._walk(key): self._walk(item) for key, item in value.items()}
        return self._inside(value) if isinstance(value, Ext) else value

    def _inside(self, part: Ext) -> Ext:
        body = bytes(part.data)
        if self.raw(body) is body:
            return part
        value = self._walk(_decode(body))
        if part.code in (SET, FROZENSET):
            value.sort(key=_encode)  # the order in which the codec writes them
        return Ext(part.code, _encode(value))


def _shared(ids: list[bytes]) -> bytes:
    """What all of these begin with: those of one time begin alike, and are found quickly by that."""
    if not ids:
        return b""
    length = 0
    while length < LENGTH and ids[0][length] == ids[-1][length]:
        length += 1
    return ids[0][:length]


_decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode

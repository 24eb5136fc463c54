"""Pages: some lines of a text that is too long to show, read in one pass and in little memory.

A page also says how long the whole is, and the digest of it: who changes a file names the digest of what it has read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from weft.core.errors import BadInput
from weft.runtime.sandbox.streams import plain

LINES = 2_000
"""Lines of a page at most if nothing else is said."""
BYTES = 100_000
"""Bytes of a page at most. What is longer ends at the last line that fits."""
WIDEST = 2_000
"""Characters of a line that are shown to a reader."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Page:
    """Lines `start` to `end` (from 1; none if `end` is smaller) of a text of `lines` lines and `size` bytes. `digest`
    names the whole text. `partial`: the last line is longer than a page, and goes on."""

    text: str
    start: int
    end: int
    lines: int
    size: int
    digest: str
    partial: bool = False

    @property
    def shown(self) -> str:
        """For a reader, a model or a person: numbered lines without what moves a terminal, long ones cut, and last what
        the whole is."""
        rows = self.text.removesuffix("\n").split("\n") if self.text else []
        width = len(str(self.end))
        told = [f"{number:>{width}}\t{shortened(plain(row))}" for number, row in enumerate(rows, self.start)]
        cut = ", of which the last goes on" if self.partial else ""
        part = f"lines {self.start} to {self.end}{cut}, of " if self.end < self.lines or self.start > 1 or cut else ""
        return "\n".join([*told, f"[{part}{self.lines} lines, {self.size} bytes; digest {self.digest}]"])


def shortened(line: str, most: int = WIDEST) -> str:
    """A line of at most that many characters, and how many were left out."""
    return line if len(line) <= most else f"{line[:most]} [... {len(line) - most} more characters]"


def digest_of(data: bytes) -> str:
    """What names a text: 32 hexadecimal digits of its BLAKE2b."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_file(file: BinaryIO) -> str:
    """The same of what is left of an open file, in little memory."""
    digest = hashlib.blake2b(digest_size=16)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class Pass:
    """One pass over a file: its digest, its size, its lines, and the bytes of those that are wanted."""

    def __init__(self, start: int, lines: int, most: int = BYTES) -> None:
        for name, value in (("start", start), ("lines", lines)):
            if not isinstance(value, int) or value < 1:
                raise BadInput(f"{name}={value!r}: lines are counted from 1, and at least one is read")
        self.start, self.stop, self.most = start, start + lines, most
        self.kept = bytearray()
        self.size = 0
        self.partial = False
        self._ends = 0
        self._last = b"\n"
        self._digest = hashlib.blake2b(digest_size=16)

    def over(self, file: BinaryIO) -> Pass:
        """Read all of it."""
        while chunk := file.read(_CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)
            line = self._ends + 1
            self._ends += chunk.count(b"\n")
            self._last = chunk[-1:]
            if line < self.stop and self._ends + 1 >= self.start and len(self.kept) <= self.most:
                self._take(chunk, line)
        if len(self.kept) > self.most:
            self._cut()
        return self

    def _take(self, chunk: bytes, line: int) -> None:
        for number, piece in enumerate(_split(chunk), line):
            if number >= self.stop or len(self.kept) > self.most:
                return
            if number >= self.start:
                self.kept += piece

    def _cut(self) -> None:
        end = self.kept.rfind(b"\n", 0, self.most) + 1
        self.partial = end == 0
        del self.kept[end or self.most :]
        while self.partial and self.kept and self.kept.pop() & 0xC0 == 0x80:
            pass  # no half of a character

    def page(self, text: str) -> Page:
        """The page, whose text was decoded."""
        here = self.kept.count(b"\n") + (not self.kept.endswith(b"\n") if self.kept else 0)
        lines = self._ends + (self._last != b"\n")
        return Page(text, self.start, self.start + here - 1, lines, self.size, self._digest.hexdigest(), self.partial)


def _split(chunk: bytes) -> list[bytes]:
    """Lines, of which only a newline ends one."""
    pieces = chunk.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])

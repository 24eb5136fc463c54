"""Outputs with limits: the first and the last bytes in memory, the whole on disk, and nothing that moves a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from weft.runtime.sandbox.job import Streams

_MOVES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # strings: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)"
)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What came of a stream. `data`: the bytes kept, the first and the last if it was `truncated`; `size`: how many
    came; `whole`: the file that holds all of them, up to the limit `Streams.whole` (None unless truncated)."""

    data: bytes = b""
    size: int = 0
    truncated: bool = False
    whole: Path | None = None
    cut: tuple[int, int] = (0, 0)
    """From and to which byte of the stream nothing was kept in memory."""

    @property
    def text(self) -> str:
        """For reading: escapes that a terminal would act on are taken out, and a cut is marked."""
        return plain(self.marked.decode("utf-8", "replace"))

    @property
    def marked(self) -> bytes:
        begin, end = self.cut
        if not self.truncated:
            return self.data
        where = f"; the whole is in {self.whole}" if self.whole else ""
        note = f"\n[... bytes {begin} to {end} of {self.size} left out{where} ...]\n"
        return self.data[:begin] + note.encode() + self.data[begin:]

    def forget(self) -> None:
        """Remove the file that holds the whole."""
        if self.whole is not None:
            self.whole.unlink(missing_ok=True)


def plain(text: str) -> str:
    """Without escape sequences and control characters other than tab and newline; a lone carriage return is a
    newline."""
    return _MOVES.sub(lambda found: "\n" if found[0] == "\r" else "", text)


class Kept:
    """Collects a stream as it comes."""

    def __init__(self, limits: Streams, spool: Path) -> None:
        self._room = limits.keep // 2
        self._end = limits.keep - self._room
        self._limit = limits.whole
        self._spool = spool
        self._file: BinaryIO | None = None
        self.first = bytearray()
        self.last = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        if self.size + len(data) > self._room + self._end and self._file is None and self._limit:
            self._file = self._spool.open("xb")
            self._file.write((self.first + self.last)[: self._limit])
        if self._file is not None and self.size < self._limit:
            self._file.write(data[: self._limit - self.size])
        self.size += len(data)
        free = self._room - len(self.first)
        self.first += data[: max(0, free)]
        self.last += data[max(0, free) :]
        if len(self.last) > 2 * self._end + 65536:
            del self.last[: len(self.last) - self._end]

    def done(self) -> Output:
        """The output; nothing is added any more."""
        if self._file is not None:
            self._file.close()
        del self.last[: max(0, len(self.last) - self._end)]
        data = bytes(self.first + self.last)
        truncated = self.size > len(data)
        return Output(
            data=data,
            size=self.size,
            truncated=truncated,
            whole=self._spool if truncated and self._file is not None else None,
            cut=(len(self.first), self.size - len(self.last)) if truncated else (0, 0),
        )

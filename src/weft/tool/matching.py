"""Looking for a regular expression in the lines of files, with limits on what it takes and on what it tells.

Python's regular expressions can take for ever on a line that somebody wrote to that end, and can't be stopped; so
another process matches (`match_worker`), and is ended when the time is over. What was found until then is the answer.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from weft.core.errors import BadInput, WeftError
from weft.runtime.sandbox.streams import plain

LONGEST = 10_000
"""Characters of a pattern."""
BYTES = 200_000
"""Bytes of all that is told, at most: what would be more is left out."""
_PIECE = 4 << 20
_BATCH = 256
_PEEK = 8192
"""Bytes of a piece that show in time that it is no text, for most of those that are none."""
_WORKER = str(Path(__file__).with_name("match_worker.py"))


class TimeOver(Exception):
    """The time for a search is over, and what was found is the answer."""


@dataclass(frozen=True)
class Match:
    """A line that matches, `column` characters in (both from 1), and the lines around it. A long line is cut."""

    path: str
    line: int
    column: int
    text: str
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """What was found, in the order of paths and lines. `files`: how many were searched to their end; `left_out`: how
    many were not, by why ("denied", "binary", "too large", "unreadable"); `stopped`: the limit that ended the search
    ("matches", "bytes", "seconds"), None if it is complete."""

    matches: list[Match]
    files: int
    left_out: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def shown(self) -> str:
        """For a reader, a model or a person: the lines below the paths, without what moves a terminal."""
        rows: list[str] = []
        path = None
        for one in self.matches:
            if one.path != path:
                path = one.path
                rows.append(plain(path).replace("\n", "?"))
            rows += [f"{one.line - n}- {plain(text)}" for n, text in zip(range(len(one.before), 0, -1), one.before)]  # noqa: B905
            rows.append(f"{one.line}: {plain(one.text)}")
            rows += [f"{one.line + n}- {plain(text)}" for n, text in enumerate(one.after, 1)]
        left = ", ".join(f"{count} {why}" for why, count in sorted(self.left_out.items()))
        rows.append(
            f"[{len(self.matches)} lines match; {self.files} files searched{f'; left out: {left}' if left else ''}"
            f"{f'; stopped by the limit of {self.stopped}: narrow the search' if self.stopped else ''}]"
        )
        return "\n".join(rows)


@dataclass(frozen=True)
class Look:
    """What is looked for, and how much of it. Raises BadInput for what can't be meant."""

    pattern: str
    literal: bool = False
    case: bool = True
    context: int = 0
    limit: int = 100
    seconds: float = 10.0
    binary: bool = False
    """Also in files that are no text."""

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise BadInput(f"pattern={self.pattern!r}: give a regular expression, or a text with literal=True")
        if len(self.pattern) > LONGEST:
            raise BadInput(f"the pattern has {len(self.pattern)} characters; at most {LONGEST} are looked for")
        if "\n" in self.pattern:
            raise BadInput("the pattern holds a line end, and lines are matched one by one: look for one line of it")
        for name, value, least, most in (
            ("context", self.context, 0, 50), ("limit", self.limit, 1, 10_000), ("seconds", self.seconds, 0.01, 600),
        ):  # fmt: skip
            if not isinstance(value, int | float) or not least <= value <= most:
                raise BadInput(f"{name}={value!r}: give a number from {least} to {most}")


def searched(look: Look, files: Iterator[tuple[str, BinaryIO]], left_out: dict[str, int] | None = None) -> Found:
    """Search these files, each by its name, in this order. `left_out` may grow while they come, and who gives them may
    raise TimeOver."""
    with _Worker(look) as worker:
        stopped = _through(worker, files)
    counts = {**(left_out or {}), "binary": worker.binary}
    return Found(worker.matches, worker.files, {why: count for why, count in counts.items() if count}, stopped)


def _through(worker: _Worker, files: Iterator[tuple[str, BinaryIO]]) -> str | None:
    """Search until all is done, or a limit is reached: which."""
    try:
        for number, (name, file) in enumerate(files):
            worker.names.append(name)
            for line, data, more in _pieces(file):
                if line == 1 and not worker.look.binary and b"\0" in data[:_PEEK]:
                    worker.binary += 1
                    break
                worker.add(number, line, data, more)
                if worker.enough is not None:
                    return worker.enough
        worker.send()
    except TimeOver:
        return "seconds"
    return worker.enough


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """A file in pieces of whole lines, each with the number of its first line, and whether more come. A line that is
    longer than two pieces comes as several, all with its number."""
    line, rest = 1, b""
    while len(data := file.read(_PIECE)) == _PIECE:
        end = data.rfind(b"\n") + 1
        if not end and len(rest) < _PIECE:
            rest += data
            continue
        piece, rest = (rest + data[:end], data[end:]) if end else (rest + data, b"")
        yield line, piece, True
        line += piece.count(b"\n")
    yield line, rest + data, False


class _Worker:
    """The process that matches, what it was sent, and what it has found. Raises TimeOver when the time is over."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.names: list[str] = []
        self.matches: list[Match] = []
        self.files = self.binary = 0
        self.enough: str | None = None
        """The limit that is reached, if any."""
        self.until = time.monotonic() + look.seconds
        self._told = self._size = 0
        self._batch: list[tuple[int, int, int, bool]] = []
        self._data: list[bytes] = []

    def __enter__(self) -> _Worker:
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
        command = [sys.executable, "-I", "-S", _WORKER]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env=kept
        )
        self._clock = threading.Timer(self.look.seconds, self.process.kill)
        self._clock.daemon = True
        self._clock.start()
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.process.wait()

    def _begin(self) -> None:
        asked = {name: getattr(self.look, name) for name in ("pattern", "literal", "case", "context", "binary")}
        asked |= {"limit": self.look.limit + 1, "seconds": math.ceil(self.look.seconds) + 1}
        with contextlib.suppress(TimeOver):  # it is said when the first file is sent
            wrong = self._ask([json.dumps(asked).encode() + b"\n"])
            if wrong is not None:
                raise BadInput(f"{self.look.pattern!r} is no regular expression: {wrong}; or look for a literal text")

    def add(self, file: int, line: int, data: bytes, more: bool) -> None:
        """A piece of a file; small ones are sent together."""
        self._batch.append((file, line, len(data), more))
        self._data.append(data)
        self._size += len(data)
        if self._size >= _PIECE or len(self._batch) >= _BATCH or time.monotonic() > self.until:
            self.send()

    def send(self) -> None:
        """Have the pieces matched."""
        batch, data = self._batch, self._data
        self._batch, self._data, self._size = [], [], 0
        if not batch:
            return
        answer = self._ask([json.dumps(batch).encode() + b"\n", *data])
        binary = set(answer["binary"])
        self.binary += len(binary)
        self.files += sum(not more and file not in binary for file, _, _, more in batch)
        for file, *told in answer["found"]:
            self._take(Match(self.names[file], *told))

    def _take(self, match: Match) -> None:
        self._told += sum(map(len, (match.text, *match.before, *match.after)))
        if self.enough is None:
            self.enough = "matches" if len(self.matches) == self.look.limit else "bytes" if self._told > BYTES else None
        if self.enough is None:
            self.matches.append(match)

    def _ask(self, parts: list[bytes]) -> Any:
        """The answer to this. Raises TimeOver if the time was over, WeftError if the process ended by itself."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            for part in parts:
                self.process.stdin.write(part)
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line.endswith(b"\n"):
            return json.loads(line)
        if time.monotonic() >= self.until:
            raise TimeOver
        raise WeftError(f"the search ended with status {self.process.wait()}: look for something simpler, in less")

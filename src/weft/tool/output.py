"""Long outputs: the first and the last lines for who reads them, the whole on disk under its digest.

    told = await output.keep(report)                    # in a step, or of a stream: output.Collector()
    print(told.shown)                                   # ... [... lines 212 to 90,411 of 90,616 left out; ...] ...
    page = await output.read(told.ref, start=212)
    found = await output.search(told.ref, r"Error:")

A reader, often a model, gets `shown`, which moves no terminal; the whole stays as it came, but for secrets. It is kept
below `$WEFT_OUTPUTS` (else `weft/outputs` in the user's cache), up to 1 GB of each and 4 GB in all; then the oldest go.
Who has a `ref` may read what it names: it can't be guessed, and needs no right, for it came with what was shown.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from weft.core.crossing import crossing, executing
from weft.core.errors import BadInput, WeftError, size_text
from weft.core.step import primitive
from weft.runtime.sandbox.job import Streams
from weft.runtime.sandbox.scratch import home
from weft.runtime.sandbox.streams import Kept, Output, plain
from weft.tool.matching import Found, Look, searched
from weft.tool.paging import LINES, Page, Pass
from weft.tool.redacting import Redacting, without_halves

LIMIT = 30_000
"""Bytes that are shown if nothing else is said."""
WHOLE = 1 << 30
"""Bytes of one output that are kept on disk; what comes after them is counted and thrown away."""
ALL = 4 << 30
"""Bytes of all outputs that are kept."""
_STALE = 3600.0
"""Seconds after which a file that nobody goes on with is taken for one of a dead process."""


class OutputGone(WeftError, LookupError):
    """What a ref names is not on this machine: it was never, or had to make room, or was damaged."""


@dataclass(frozen=True)
class Excerpt:
    """The begin and the end of an output. `size`: bytes of the whole; `left_out`: bytes between the two; `ref`: what
    `read` and `search` take, None if nothing was left out, or it could not be kept. `note` stands in the gap."""

    head: str
    tail: str = ""
    size: int = 0
    left_out: int = 0
    ref: str | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """As it came, with the note where something was left out."""
        return f"{self.head}{self.note}{self.tail}"

    @property
    def shown(self) -> str:
        """The same for a reader: what a terminal would act on is taken out."""
        return plain(self.text)


class Collector:
    """An output as it comes, piece by piece, in `limit` bytes of memory (and some); then its excerpt."""

    _file: BinaryIO | None = None

    def __init__(self, limit: int = LIMIT, whole: int = WHOLE) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise BadInput(f"limit={limit!r}: give the number of bytes to be shown, at least 1")
        self.limit, self.whole = limit, whole
        self.size = 0
        self._ends = 0
        self._kept = Kept(Streams(keep=limit, whole=0), Path())
        self._digest = hashlib.blake2b(digest_size=16)
        self._redacting = Redacting()
        self._trouble = ""
        self._told: Excerpt | None = None

    def add(self, data: bytes) -> None:
        """What came next. Never raises: what can't be kept on disk is left out, and the note says why."""
        if self._file is None and self.size + len(data) > self.limit and not self._trouble:
            self._spill(bytes(self._kept.first + self._kept.last))
        self._write(data[: max(0, self.whole - self.size)])
        self._ends += data.count(b"\n")
        self.size += len(data)
        self._kept.add(data)

    def done(self) -> Excerpt:
        """The excerpt; nothing is added any more."""
        if self._told is None:
            output = self._kept.done()
            if output.truncated:
                ref = self._settle()
                self._told = _excerpt(output, ref, self._ends, self._trouble, min(self.size, self.whole))
            else:
                self._told = Excerpt(output.data.decode("utf-8", "replace"), size=self.size)
        return self._told

    def last(self, most: int = 500) -> str:
        """The last bytes so far."""
        return bytes((self._kept.first + self._kept.last)[-most:]).decode("utf-8", "replace")

    def drop(self) -> None:
        """It is not wanted any more, as if nobody had collected it; does nothing after `done`."""
        file, self._file = self._file, None
        if file is not None:
            with _own():
                _discard(file)

    def __del__(self) -> None:
        self.drop()  # whoever collected it was cancelled

    def _spill(self, before: bytes) -> None:
        try:
            with _own():
                self._file = (folder() / f".new-{secrets.token_hex(8)}").open("xb")
        except OSError as error:
            self._trouble = error.strerror or str(error)
        self._write(before[: self.whole])

    def _write(self, data: bytes) -> None:
        if self._file is not None and data:
            self._put(self._redacting.add(data))

    def _put(self, data: bytes) -> None:
        if self._file is None:
            return
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self._trouble = error.strerror or str(error)
            self.drop()

    def _settle(self) -> str | None:
        self._put(self._redacting.rest())
        file, self._file = self._file, None
        if file is None:
            return None
        with _own():
            try:
                file.close()
                return _named(Path(file.name), self._digest.hexdigest())
            except OSError as error:
                self._trouble = error.strerror or str(error)
                _discard(file)
                return None


@primitive(name="output.keep", effect="idempotent", needs=())
def keep(content: str | bytes, *, limit: int = LIMIT) -> Excerpt:
    """The excerpt of a text of any length, of at most `limit` bytes; if it is longer, the whole is kept."""
    if not isinstance(content, str | bytes):
        raise BadInput(f"output.keep keeps text or bytes, not {type(content).__name__}")
    collector = Collector(limit)
    collector.add(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    return collector.done()


def adopt(output: Output, *, limit: int = LIMIT) -> Excerpt:
    """The excerpt of an output of a sandbox (`done.stdout`), whose whole is kept from now on. Raises BadInput for one
    that lies elsewhere."""
    collector = Collector(limit)
    if not output.truncated:
        collector.add(output.data)
        return collector.done()
    if output.whole is None:
        return _excerpt(_ends(output, limit), None, None, "nobody kept them", 0)
    with _own():
        if output.whole.parent != home() / "out":  # or it would be a way to read any file
            raise BadInput(f"{output.whole} is no output of a sandbox of this process")
        file = output.whole.open("rb")
    with file:
        while chunk := file.read(1 << 20):
            collector.add(chunk)
    kept = collector.done()
    if kept.size == output.size:
        return kept
    return _excerpt(_ends(output, limit), kept.ref, None, "", kept.size)


@primitive(name="output.read", effect="pure", needs=())
def read(ref: str, start: int = 1, lines: int = LINES) -> Page:
    """Lines of a kept output, up to 100 kB of them: `Page.shown` has line numbers. What is no UTF-8 is replaced. Raises
    OutputGone, and BadInput for what is no ref."""
    wanted = Pass(start, lines)
    with _opened(ref) as file:
        page = wanted.over(file).page(bytes(wanted.kept).decode("utf-8", "replace"))
    if page.digest != ref:
        raise OutputGone(f"the output {ref} is damaged: do again what it came of")
    return page


@primitive(name="output.search", effect="pure", needs=())
def search(
    ref: str, pattern: str, *, literal: bool = False, case: bool = True, context: int = 0, limit: int = 100,
    seconds: float = 10.0,
) -> Found:  # fmt: skip
    """Lines of a kept output that a regular expression (Python's; or a `literal` text) matches, at most `limit` of
    them, each with `context` lines around it. After `seconds` what was found is the answer. Raises OutputGone, and
    BadInput for what is no regular expression."""
    look = Look(pattern, literal, case, context, limit, seconds, binary=True)
    with _opened(ref) as file:
        return searched(look, iter([(ref, file)]))


@contextmanager
def _own() -> Iterator[None]:
    """What happens here is Weft's doing, and no act of the step that asked for it."""
    here = crossing()
    token = executing.set(None if here is None else here.within((), {}))
    try:
        yield
    finally:
        executing.reset(token)


def folder() -> Path:
    """Where outputs are kept: made if need be, for this user alone. Raises an OSError, also if others may
    change it."""
    given = os.environ.get("WEFT_OUTPUTS")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "weft" / "outputs"
    place = Path(given or base).expanduser()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = place.stat()
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        why = "others may change it: make it this user's own, or set WEFT_OUTPUTS"
        raise PermissionError(errno.EPERM, f"{place}: {why}")
    return place


@contextmanager
def _opened(ref: str) -> Iterator[BinaryIO]:
    if not isinstance(ref, str) or not re.fullmatch("[0-9a-f]{32}", ref):
        raise BadInput(f"{ref!r} is no ref of an output: give the one that its excerpt names, 32 hexadecimal digits")
    try:
        file = (folder() / ref).open("rb")
    except OSError as error:
        why = "it may lie on another machine, or had to make room for newer ones"
        raise OutputGone(f"there is no output {ref} here ({error.strerror}): {why}; do again what it came of") from None
    with file:
        yield file


def _named(passing: Path, digest: str) -> str:
    """Give a whole output its name, and remove the oldest ones if there are too many."""
    passing.chmod(0o400)
    passing.rename(passing.with_name(digest))
    _make_room(passing.parent, digest)
    return digest


def _discard(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        Path(file.name).unlink()


def _make_room(place: Path, newest: str) -> None:
    found = []
    with contextlib.suppress(OSError):
        for path in place.iterdir():
            with contextlib.suppress(OSError):
                info = path.stat()
                if path.name.startswith(".new-") and time.time() - info.st_mtime > _STALE:
                    path.unlink()
                elif re.fullmatch("[0-9a-f]{32}", path.name) and path.name != newest:
                    found.append((info.st_mtime, info.st_size, path))
        left = ALL - (place / newest).stat().st_size
        for _, size, path in sorted(found, reverse=True):
            left -= size
            if left < 0:
                path.unlink(missing_ok=True)


def _ends(output: Output, limit: int) -> Output:
    """The same in fewer bytes."""
    begin = output.cut[0]
    head, tail = output.data[: min(begin, limit // 2)], output.data[begin:][-(limit - limit // 2) :]
    return Output(data=head + tail, size=output.size, truncated=True, cut=(len(head), output.size - len(tail)))


def _excerpt(output: Output, ref: str | None, ends: int | None, trouble: str, kept: int) -> Excerpt:
    """The two ends of a truncated output, at whole lines where lines are short. `ends`: newlines in all of it, if that
    is known; `kept`: bytes of what `ref` names."""
    begin = output.cut[0]
    head, tail = without_halves(_head(output.data[:begin]), _tail(output.data[begin:]))
    left_out = output.size - len(head) - len(tail)
    what, first = f"{left_out:,} bytes", head.count(b"\n") + 1
    if ends is not None and head.endswith(b"\n") and begin + len(tail) < len(output.data):
        last, lines = ends - tail.count(b"\n"), ends + (not tail.endswith(b"\n"))
        what += f", lines {first:,} to {last:,} of {lines:,},"
    where = f"they could not be kept: {trouble}" if ref is None else f"output.read({ref!r}, {first}) shows them"
    if ref is not None and kept < output.size:
        where += f" up to {size_text(kept)}"
    note = f"[... {what} left out; {where} ...]\n"
    return Excerpt(
        head.decode("utf-8", "replace"), tail.decode("utf-8", "replace"), output.size, left_out, ref,
        note if head.endswith(b"\n") else "\n" + note,
    )  # fmt: skip


def _head(data: bytes) -> bytes:
    """Without the half line at its end, unless that is more than half of it; at least without half a character."""
    end = data.rfind(b"\n") + 1
    if end > len(data) // 2:
        return data[:end]
    return data[: len(data) - len(re.search(rb"(?:[\xc0-\xff][\x80-\xbf]{0,2})?\Z", data)[0])]  # type: ignore[index]


def _tail(data: bytes) -> bytes:
    """The same of its begin."""
    begin = data.find(b"\n") + 1
    if 0 < begin <= len(data) // 2:
        return data[begin:]
    return data[len(re.match(rb"[\x80-\xbf]{0,3}", data)[0]) :]  # type: ignore[index]

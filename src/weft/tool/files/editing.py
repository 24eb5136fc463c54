"""Changing files that were read: an edit, or a new content, of what the caller has seen and nothing else.

    page = await files.read("app.py")
    done = await files.edit("app.py", "port = 80", "port = 8080", seen=page.digest)
    done = await files.edit("app.py", "debug = True", "debug = False", seen=done.digest)

What was seen is named by its digest, which stands in the journal as the outcome of a read: so a replay, a fork or
another process knows no more than it has read. A file that was changed since, by whomever, is left alone: NotRead. An
edit is two effects: one that looks what would come out (`files.plan_edit`), and one that does it (`files.apply_edit`);
so one that was done before a crash is known for done by what came out.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from weft.core.crossing import again, authorised
from weft.core.errors import BadInput, WeftError
from weft.core.step import primitive
from weft.tool.files import diff, opening
from weft.tool.files.diff import Span
from weft.tool.files.opening import trouble
from weft.tool.files.reading import LIMIT, decoded
from weft.tool.files.swapping import NotRead, swap
from weft.tool.paging import digest_of

LONGEST_DIFF = 20_000
"""Characters of a diff that are told."""


@dataclass(frozen=True)
class Edit:
    """A text to be replaced, which the file holds exactly `count` times, and what comes in its place."""

    old: str
    new: str
    count: int = 1


@dataclass(frozen=True)
class Edited:
    """What came of it: the file's real path, its digest now (for the next edit), what changed, and how many places."""

    path: str
    digest: str
    diff: str
    places: int


class NoMatch(BadInput):
    """A text to be replaced is not in the file as often as it was said, or two of them overlap; nothing was changed.
    `found`: how often it is there."""

    def __init__(self, path: str, found: int, why: str) -> None:
        self.path = path
        self.found = found
        self.why = why
        super().__init__(path, found, why)

    def __str__(self) -> str:
        return f"{self.path} was left as it is: {self.why}"


async def edit(path: str | Path, old: str, new: str, *, seen: str, count: int = 1) -> Edited:
    """Replace a text in a UTF-8 file, exactly as it stands there, `count` times in all: `edit_all` with one edit."""
    return await edit_all(path, [Edit(old, new, count)], seen=seen)


async def edit_all(path: str | Path, edits: Sequence[Edit], *, seen: str) -> Edited:
    """Make several edits of one file, all or none. Each is looked for in the file as it was seen; they may not overlap.
    `seen`: the digest that `files.read`, or the edit before, has told. Needs to read and to write the file.

    Raises NotRead if the file is not what was seen; NoMatch if a text is not there, or not `count` times; BadInput for
    an edit that changes nothing; UnicodeDecodeError for what is no text; an OSError of EFBIG above 10 MB."""
    edits = [*edits]
    planned: Edited = await plan_edit(path, edits, seen)
    await apply_edit(path, edits, seen, planned.digest)
    return planned


@primitive(name="files.plan_edit", effect="pure", needs="read:{path}")
def plan_edit(path: str | Path, edits: list[Edit], seen: str) -> Edited:
    """What these edits would make of the file; changes nothing. Errors as those of `edit_all`."""
    _check(edits, seen)
    real = authorised("file.read", path)
    text = _seen(_content(real), seen, real)
    spans = _spans(text, edits, real)
    data = _within(diff.applied(text, spans), real)
    if digest_of(data) == seen:
        raise BadInput(f"the edits of {real} together change nothing")
    told = diff.unified(text, spans, _name(path))
    if len(told) > LONGEST_DIFF:
        told = told[: told.rfind("\n", 0, LONGEST_DIFF) + 1] + f"[... {len(told)} characters in all]\n"
    return Edited(real, digest_of(data), told, len(spans))


@primitive(name="files.apply_edit", effect="idempotent", needs=("read:{path}", "write:{path}"))
def apply_edit(path: str | Path, edits: list[Edit], seen: str, becomes: str) -> None:
    """Make these edits, if the file is what was seen; if it is what it `becomes` by them, they are made already."""
    real = authorised("file.write", path)
    data = _content(real)
    if digest_of(data) == becomes:
        return
    text = _seen(data, seen, real)
    swap(real, seen, diff.applied(text, _spans(text, edits, real)).encode())


@primitive(name="files.write", effect="idempotent", needs=("read:{path}", "write:{path}"))
def write(path: str | Path, text: str, *, seen: str | None = None) -> Edited:
    """Begin a file, or overwrite one that was read: `seen` is the digest that `files.read` has told. One piece,
    durable on return, UTF-8. Its folder must exist. Raises NotRead if there is such a file and it is not what was seen
    (`files.write_text` does not ask)."""
    if not isinstance(text, str):
        raise BadInput(f"files.write writes text, not {type(text).__name__}; bytes with files.write_bytes")
    real = authorised("file.write", path)
    data = _within(text, real)
    done = Edited(real, digest_of(data), "", 1)
    try:
        swap(real, seen, data)
    except NotRead:
        if not _holds(real, data):  # else it was done, before a crash or by somebody with the same idea
            raise
    return done


def _check(edits: list[Edit], seen: str) -> None:
    if not edits:
        raise BadInput("no edits: give at least one Edit(old, new)")
    if not isinstance(seen, str) or not seen:
        raise BadInput(f"seen={seen!r}: read the file with files.read, and give the digest that it tells")
    for one in edits:
        if not isinstance(one, Edit) or not isinstance(one.old, str) or not isinstance(one.new, str):
            raise BadInput(f"{one!r} is no edit: give Edit(old, new), two texts")
        if not one.old:
            raise BadInput("the text to be replaced is empty: give the text that stands there (files.write begins one)")
        if one.old == one.new:
            raise BadInput(f"the edit of {_short(one.old)} changes nothing: old and new are the same")
        if not isinstance(one.count, int) or one.count < 1:
            raise BadInput(f"count={one.count!r}: say how often the text stands there, at least once")


def _content(real: str) -> bytes:
    with opening.reading(real) as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise trouble(errno.EFBIG, real, f"it is larger than the {LIMIT} bytes up to which files are edited")
    return data


def _seen(data: bytes, seen: str, real: str) -> str:
    """The text of the file, which must be the one that was seen."""
    if digest_of(data) != seen:
        perhaps = " (perhaps by this very edit, before the machine died)" if again() else ""
        raise NotRead(real, f"it was changed since it was read{perhaps}, or it was never read")
    return decoded(data, real)


def _holds(real: str, data: bytes) -> bool:
    """Whether the file has exactly this content."""
    try:
        with opening.reading(real) as file:
            return file.read(len(data) + 1) == data
    except (OSError, WeftError):
        return False


def _within(text: str, real: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"the new text of {real} can't be written as UTF-8: {error.reason}") from None
    if len(data) > LIMIT:
        raise trouble(errno.EFBIG, real, f"it would have {len(data)} bytes; at most {LIMIT} are written")
    return data


def _spans(text: str, edits: Sequence[Edit], path: str) -> list[Span]:
    """Where all the edits take place, in order."""
    found = sorted(span for one in edits for span in _places(text, one, path))
    for before, after in pairwise(found):
        if after.begin < before.end:
            both = f"{_short(text[before.begin : before.end])} and {_short(text[after.begin : after.end])}"
            raise NoMatch(path, 2, f"the edits of {both} overlap: make one edit of the two")
    return found


def _places(text: str, one: Edit, path: str) -> list[Span]:
    found, at = [], text.find(one.old)
    while at >= 0:
        found.append(Span(at, at + len(one.old), one.new))
        at = text.find(one.old, at + len(one.old))
    if not found:
        raise NoMatch(path, 0, f"{_short(one.old)} is not in it{_hint(text, one.old)}")
    if len(found) != one.count:
        lines = ", ".join(str(text.count("\n", 0, span.begin) + 1) for span in found[:10])
        why = f"{_short(one.old)} is in it {len(found)} times (line {lines}{', ...' if len(found) > 10 else ''}), not "
        raise NoMatch(path, len(found), f"{why}{one.count}: give more of the text around it, or count={len(found)}")
    return found


def _hint(text: str, old: str) -> str:
    """What may be meant: models lose spaces and line ends."""
    if "\r\n" in text and "\r\n" not in old and old.replace("\n", "\r\n") in text:
        return "; its lines end in \\r\\n: write \\r\\n in the texts"
    wanted = [line.strip() for line in old.strip("\n").split("\n")]
    lines = [line.strip() for line in text.split("\n")]
    first = wanted[0]
    for number, line in enumerate(lines, 1):
        if line == first and lines[number - 1 : number - 1 + len(wanted)] == wanted:
            return f"; line {number} is like it but for spaces: copy them as they are"
    return ": give it exactly as it stands there, without line numbers"


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:40]!r}...{text[-15:]!r}"


def _name(path: str | Path) -> str:
    """A path as a header of a diff tells it, on one line."""
    return str(path).encode("unicode_escape").decode() if not str(path).isprintable() else str(path)

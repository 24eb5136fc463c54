"""Two runs side by side: which effects they share, what is different in them, and what was different first.

    found = await diff(store, one, other)
    found.changes, found.first

Effects are aligned by where they stand in the program, not by when they happened: each line of control (an asyncio
task) is compared with the line that was started at the same place, effect by effect, by kind, name and order; children
are compared with the children that aligned effects started. So two runs that only took their turns in another order are
equal. Where one run made effects that the other did not, the rest of the line is aligned around them.

Values are compared as the journal holds them, by content. What differs by nature (the time, chance, ids of children) is
no change unless `chance` says so, and times and costs never are. `first` is the change with the smallest number in the
uppermost process that has one: effects are numbered in the order in which the program asked for them, so nothing before
it is different.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal

import msgspec

from weft.core.codec import decode_plain
from weft.core.errors import UnknownRun
from weft.core.record import Blob, Outcome, Started, Value, content_hash
from weft.store.base import ProcessRow, Store
from weft.trace.reading import kind_of, read_records

What = Literal["input", "arguments", "outcome", "status", "added", "removed", "result", "state"]
LAST = 1 << 62
"""Stands for the end of a process in a path."""
MOST = 2_000_000
"""Pairs of effects of two lines, up to which the best alignment is looked for; in longer ones all that is between equal
ends is told as removed and added."""
CHANCE = frozenset({"clock", "random"})


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `one`, `other`: the effect in each run, as `RUN:EFFECT` (0: the process itself), None where it is
    not there."""

    what: tuple[What, ...]
    name: str
    kind: str
    one: str | None
    other: str | None
    path: tuple[int, ...]
    """Numbers of the effects that lead to it, of the spawn in the uppermost process, …, its own; the larger one where
    two effects are aligned whose numbers differ."""
    place: str = ""


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """`same`: aligned effects in which nothing is different."""

    one: str
    other: str
    same: int
    changes: tuple[Change, ...]

    @property
    def first(self) -> Change | None:
        """The change that comes before all others; None if there is none."""
        return self.changes[0] if self.changes else None

    @property
    def is_empty(self) -> bool:
        return not self.changes


class _Made(msgspec.Struct, frozen=True):
    """What is compared of one effect."""

    number: int
    kind: str
    name: str
    place: str
    arguments: bytes
    value: bytes
    ok: bool | None
    """None: in flight."""
    line: tuple[int, ...]
    after: int
    child: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, "" if self.kind == "child" else self.name


async def diff(store: Store, one: str, other: str, *, other_store: Store | None = None, chance: bool = False) -> Diff:
    """Compare two runs and all their children. Raises UnknownRun."""
    pair = _Pair(store, other_store or store, chance)
    await pair.compare(one, other, ())
    return Diff(one=one, other=other, same=pair.same, changes=tuple(sorted(pair.changes, key=lambda c: c.path)))


class _Pair:
    def __init__(self, store: Store, other: Store, chance: bool) -> None:
        self.store = store
        self.other = other
        self.chance = chance
        self.same = 0
        self.changes: list[Change] = []

    async def compare(self, one: str, other: str, path: tuple[int, ...]) -> None:
        rows = await _row(self.store, one), await _row(self.other, other)
        mine, theirs = await _made(self.store, one), await _made(self.other, other)
        self._process(rows, path)
        for a, b in aligned(mine, theirs):
            number = max(each.number for each in (a, b) if each is not None)
            self._effect(a, b, (one, other), (*path, number))
            if a is not None and b is not None and a.kind == "spawn" and a.child and b.child:
                await self.compare(a.child, b.child, (*path, number))

    def _process(self, rows: tuple[ProcessRow, ProcessRow], path: tuple[int, ...]) -> None:
        one, other = rows
        if one.input != other.input:
            self._whole(("input",), rows, (*path, 0))
        state, result = one.state != other.state, (one.result, one.error) != (other.result, other.error)
        if state or result:
            what: tuple[What, ...] = ("state", "result") if state and result else ("state",) if state else ("result",)
            self._whole(what, rows, (*path, LAST))

    def _whole(self, what: tuple[What, ...], rows: tuple[ProcessRow, ProcessRow], path: tuple[int, ...]) -> None:
        one, other = rows
        self.changes.append(
            Change(what=what, name=one.workflow, kind="process", one=f"{one.id}:0", other=f"{other.id}:0", path=path)
        )

    def _effect(self, a: _Made | None, b: _Made | None, runs: tuple[str, str], path: tuple[int, ...]) -> None:
        made = a or b
        assert made is not None
        what = self._differs(a, b)
        if not what:
            self.same += 1
            return
        one = None if a is None else f"{runs[0]}:{a.number}"
        other = None if b is None else f"{runs[1]}:{b.number}"
        self.changes.append(
            Change(what=what, name=made.name, kind=made.kind, one=one, other=other, path=path, place=made.place)
        )

    def _differs(self, a: _Made | None, b: _Made | None) -> tuple[What, ...]:
        if a is None or b is None:
            return ("added",) if a is None else ("removed",)
        found: list[What] = []
        if a.arguments != b.arguments and a.kind != "child":
            found.append("arguments")
        if a.ok != b.ok:
            found.append("status")
        elif a.value != b.value and a.kind != "spawn" and (self.chance or a.kind not in CHANCE):
            found.append("outcome")
        return tuple(found)


async def _row(store: Store, run: str) -> ProcessRow:
    row = await store.row(run)
    if row is None:
        raise UnknownRun(f"there is no run {run!r} in {store.url}; `weft ps` lists those there are")
    return row


async def _made(store: Store, run: str) -> list[_Made]:
    """The effects of one process, in the order in which they were issued."""
    found: dict[int, _Made] = {}
    async for _, record in read_records(store, run):
        if isinstance(record, Outcome) and record.kind != "timer":
            found[record.effect] = _of(record, record.value, record.ok)
        elif isinstance(record, Started):
            found.setdefault(record.effect, _of(record, b"", None))
    return [found[number] for number in sorted(found)]


def _of(record: Outcome | Started, value: Value, ok: bool | None) -> _Made:
    kind = kind_of(record.kind, record.role, record.name)
    child = ""
    if kind == "spawn" and ok and isinstance(value, bytes):
        child = str(decode_plain(value))
    return _Made(
        record.effect, kind, record.name, record.place, _digest(record.args), _digest(value), ok, record.line,
        record.after, child,
    )  # fmt: skip


def _digest(value: Value) -> bytes:
    return value.hash if isinstance(value, Blob) else content_hash(value)


# --- alignment ------------------------------------------------------------------------------------------------------

Both = tuple[_Made | None, _Made | None]


def aligned(one: Sequence[_Made], other: Sequence[_Made]) -> Iterator[Both]:
    """Pairs of effects of two processes that stand at the same place of the program; None where one has none."""
    lines, others = _Lines(one), _Lines(other)
    waiting = list(_zipped(lines.after.get(0, []), others.after.get(0, [])))
    while waiting:
        a, b = waiting.pop()
        for mine, theirs in _matched(a, b):
            yield mine, theirs
            roots = lines.after.get(mine.number, []) if mine is not None else []
            waiting += _zipped(roots, others.after.get(theirs.number, []) if theirs is not None else [])


class _Lines:
    """The effects of a process by line. `after`: by number of an effect, the lines started after it, in order. Without
    lines in the journal, all is one."""

    def __init__(self, made: Sequence[_Made]) -> None:
        lines: dict[tuple[int, ...], list[_Made]] = {}
        for each in made:
            lines.setdefault(each.line, []).append(each)
        there = {each.number for each in made}
        self.after: dict[int, list[list[_Made]]] = {}
        for line in lines.values():
            root = line[0].after if line[0].line else 0
            while root and root not in there:
                root -= 1  # the wait for it was given up, so it left no trace
            self.after.setdefault(root, []).append(line)


def _zipped(one: Sequence[list[_Made]], other: Sequence[list[_Made]]) -> Iterator[tuple[list[_Made], list[_Made]]]:
    """Lines that were started at the same place, by what they begin with."""
    left, right = [[(len(line[0].line), line[0].key) for line in lines] for lines in (one, other)]
    for a, b in _blocks(left, right):
        yield [] if a is None else one[a], [] if b is None else other[b]


def _matched(one: Sequence[_Made], other: Sequence[_Made]) -> Iterator[Both]:
    for a, b in _blocks([each.key for each in one], [each.key for each in other]):
        yield None if a is None else one[a], None if b is None else other[b]


def _blocks(left: Sequence[object], right: Sequence[object]) -> Iterator[tuple[int | None, int | None]]:
    """Places of equal elements in both, in order, and of those that are only in one."""
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        yield same, same
        same += 1
    if same == len(left) == len(right):
        return
    tail = 0
    while tail < min(len(left), len(right)) - same and left[-1 - tail] == right[-1 - tail]:
        tail += 1
    middle, other = left[same : len(left) - tail], right[same : len(right) - tail]
    if len(middle) * len(other) <= MOST:
        blocks = SequenceMatcher(None, middle, other, autojunk=False).get_opcodes()
    else:
        blocks = [("replace", 0, len(middle), 0, len(other))]
    for what, a, b, c, d in blocks:
        together = b - a if what == "equal" else 0
        for place in range(together):
            yield same + a + place, same + c + place
        for place in range(a + together, b):
            yield same + place, None
        for place in range(c + together, d):
            yield None, same + place
    for place in range(tail, 0, -1):
        yield len(left) - place, len(right) - place

"""The four anomalies of agents that share memory and tools, found in a history, each with a witness.

The definitions are those of arXiv 2606.17182 (`verify/definitions.py` has them as formulas, and `verify/detectors.py`
compares those with what stands here):

- **A1 stale generation**: operations i and j of *different agents* and a cell c that i read and j wrote, where j's
  write took effect after i's read and before i's commit, and its value is not the one that i read.
- **A2 phantom tool**: a tool that i *planned* to use, called or not, was in the registry when i began, and is gone or
  has another signature at i's commit, or when it was dispatched.
- **A3 causal cascade**: i is live, and one of its transitive predecessors was retracted.
- **A6 tool-effect reordering**: all of i's ordered effects, two or more, took effect (the order of taking effect is a
  permutation of the order of issue), in another order. Two at the same moment are in order.

For traces that do not record predecessors there is the *residue* of A3: a value was read that no earlier operation of
the trace wrote, so somebody wrote it who is not there any more. It is a kind of finding of its own.

Each detector is n log n in the size of the history, for A1 as long as one cell's writers do not alternate in step
with the values that were read. One finding is made for each read (A1, residue), tool (A2) and operation (A3, A6), not
for each pair.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from weft.core.errors import BadInput
from weft.core.memory import LEVELS, Level
from weft.trace.history import Call, Operation, Read, Time

Kind = Literal["A1", "A2", "A3", "A6", "residue"]

NAMES: dict[Kind, str] = {
    "A1": "stale generation",
    "A2": "phantom tool",
    "A3": "causal cascade",
    "A6": "tool-effect reordering",
    "residue": "residue of a causal cascade",
}
EXCLUDES: dict[Level, tuple[Kind, ...]] = {
    "L0": (),
    "L1": ("A1",),
    "L2": ("A1", "A3"),
    "L3": ("A1", "A3", "A6"),
    "L4": ("A1", "A3", "A6", "A2"),
}
"""What each level promises not to let happen."""

DEFAULT: Level = "L1"


class Finding(msgspec.Struct, frozen=True):
    """One anomaly. `operation` and `agent` suffered it; the rest is the witness.

    `others`: the operation that wrote meanwhile (A1), or the way over predecessors to the retracted one, that one last
    (A3). `values` and `times` are named; `tools`: the one that is gone (A2), or all in the order of issue (A6).
    """

    kind: Kind
    operation: str
    agent: str
    words: str
    others: tuple[str, ...] = ()
    cell: str | None = None
    values: dict[str, str | None] = {}
    times: dict[str, Time] = {}
    tools: tuple[str, ...] = ()


def check(
    history: Sequence[Operation],
    level: Level | None = None,
    *,
    residue: bool | None = None,
    initial: Mapping[str, str] | None = None,
) -> list[Finding]:
    """The findings that a level excludes, in the order of the history.

    Without `level`, each operation is judged by the one that it ran at, or L1. `residue`: look for it, too; by default
    where A3 is excluded and the trace has no predecessors at all. `initial`: see `residues`.
    """
    if level is not None and level not in LEVELS:
        raise BadInput(f"there is no level {level!r}; there are {', '.join(LEVELS)}")
    excluded = {one.id: EXCLUDES[level or one.level or DEFAULT] for one in history}
    wanted = {kind for kinds in excluded.values() for kind in kinds}
    found = [one for kind in ("A1", "A2", "A3", "A6") if kind in wanted for one in DETECTORS[kind](history)]
    found = [one for one in found if one.kind in excluded[one.operation]]
    if residue is None:
        residue = not any(one.predecessors for one in history)
    if residue:
        found += [one for one in residues(history, initial) if "A3" in excluded[one.operation]]
    place = {one.id: number for number, one in enumerate(history)}
    return sorted(found, key=lambda one: (place[one.operation], one.kind))


# --- A1 -----------------------------------------------------------------------------------------------------------


class _Writes:
    """The writes of one cell in the order in which they took effect, to be searched for one that makes a read stale."""

    def __init__(self, writes: Iterable[tuple[Operation, str | None]]) -> None:
        self.writes = sorted(writes, key=lambda pair: pair[0].end)
        self.ends = [operation.end for operation, _ in self.writes]
        self.next_agent = _runs([operation.agent for operation, _ in self.writes])
        self.next_value = _runs([value for _, value in self.writes])

    def stale(self, reader: Operation, read: Read) -> tuple[Operation, str | None] | None:
        """The first write of another value by another agent between a read and its operation's commit."""
        at, until = bisect_right(self.ends, read.at), bisect_left(self.ends, reader.end)
        while at < until:
            writer, value = self.writes[at]
            if writer.agent == reader.agent:
                at = self.next_agent[at]
            elif not differs(read.value, value):
                at = self.next_value[at]
            else:
                return writer, value
        return None


def _runs(values: Sequence[object]) -> list[int]:
    """For each place, the next one with another value."""
    after = [len(values)] * len(values)
    for at in range(len(values) - 2, -1, -1):
        after[at] = after[at + 1] if values[at] == values[at + 1] else at + 1
    return after


def differs(read: str | None, written: str | None) -> bool:
    """Whether two values differ. One that the trace does not tell counts as another: a write is a change."""
    return read is None or written is None or read != written


def stale_generations(history: Sequence[Operation]) -> Iterator[Finding]:
    """A1, one for each read, with the first write that made it stale."""
    by_cell: dict[str, list[tuple[Operation, str | None]]] = {}
    for operation in history:
        for write in operation.writes:
            by_cell.setdefault(write.cell, []).append((operation, write.value))
    writes = {cell: _Writes(found) for cell, found in by_cell.items()}
    for operation in history:
        for read in operation.reads:
            if read.cell in writes and (found := writes[read.cell].stale(operation, read)) is not None:
                yield _stale(operation, read, *found)


def _stale(reader: Operation, read: Read, writer: Operation, value: str | None) -> Finding:
    return Finding(
        "A1",
        reader.id,
        reader.agent,
        f"{_who(reader)} read {read.cell} = {_value(read.value)} at {read.at}; {_who(writer)} wrote {_value(value)} at "
        f"{writer.end}; the first committed at {reader.end} what it had made of the old value",
        others=(writer.id,),
        cell=read.cell,
        values={"read": read.value, "written": value},
        times={"read": read.at, "written": writer.end, "committed": reader.end},
    )


# --- A2 -----------------------------------------------------------------------------------------------------------


def phantom_tools(history: Sequence[Operation]) -> Iterator[Finding]:
    """A2, one for each planned tool that was not the same any more."""
    for operation in history:
        for tool in dict.fromkeys((*operation.planned, *(call.tool for call in operation.calls))):
            had = operation.tools.get(tool)
            if had is not None and (now := _changed(operation, tool, had)) is not None:
                yield _phantom(operation, tool, had, *now)


def _changed(operation: Operation, tool: str, had: str) -> tuple[str, str | None] | None:
    """When a tool had become another one, and which (None: gone)."""
    if operation.tools_at_end is not None and (now := operation.tools_at_end.get(tool)) != had:
        return "commit", now
    for call in operation.calls:
        if call.tool == tool and call.signature not in ("", had):
            return "dispatch", call.signature
    return None


def _phantom(operation: Operation, tool: str, had: str, when: str, now: str | None) -> Finding:
    became = "it was gone" if now is None else f"its signature was {now}"
    used = "called" if any(call.tool == tool for call in operation.calls) else "planned"
    return Finding(
        "A2",
        operation.id,
        operation.agent,
        f"{_who(operation)} {used} the tool {tool}, which was there with signature {had} at {operation.begin}; at "
        f"{when} {became}",
        values={"begin": had, when: now},
        times={"begin": operation.begin, "committed": operation.end},
        tools=(tool,),
    )


# --- A3 -----------------------------------------------------------------------------------------------------------


def causal_cascades(history: Sequence[Operation]) -> Iterator[Finding]:
    """A3, one for each live operation, with a shortest way to a retracted predecessor."""
    operations = {one.id: one for one in history}
    dependants: dict[str, list[str]] = {}
    for one in history:
        for predecessor in one.predecessors:
            dependants.setdefault(predecessor, []).append(one.id)
    towards: dict[str, str | None] = {one.id: None for one in history if one.retracted}
    queue = deque(towards)
    while queue:
        at = queue.popleft()
        for dependant in dependants.get(at, ()):
            if dependant not in towards:
                towards[dependant] = at
                queue.append(dependant)
    for one in history:
        if not one.retracted and one.id in towards:
            yield _cascade(operations, one, _way(towards, one.id))


def _way(towards: Mapping[str, str | None], start: str) -> list[str]:
    way = []
    at = towards[start]
    while at is not None:
        way.append(at)
        at = towards[at]
    return way


def _cascade(operations: Mapping[str, Operation], one: Operation, way: Sequence[str]) -> Finding:
    cause = operations[way[-1]]
    over = f" over {', '.join(way[:-1])}" if len(way) > 1 else ""
    return Finding(
        "A3",
        one.id,
        one.agent,
        f"{_who(one)} is live, but comes{over} from {_who(cause)}, which was retracted",
        others=tuple(way),
        times={"committed": one.end, "retracted one committed": cause.end},
    )


def residues(history: Sequence[Operation], initial: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Reads of a value that no earlier operation of the history wrote.

    What a cell held before all operations is not residue. `initial` says what that was; a cell that is not in it held
    nothing. Or the history says it, by an operation that writes the first values. Without `initial`, each cell is
    granted one value that nobody wrote, the first that was read; the price is that a lost write which is read before
    any other unexplained value of its cell is not seen. A value that the trace does not tell is never residue, and
    once an untold one was written to a cell, that write may explain what is read there.
    """
    written: dict[str, dict[str | None, Time]] = {}
    for operation in sorted(history, key=lambda one: one.end):
        for write in operation.writes:
            written.setdefault(write.cell, {}).setdefault(write.value, operation.end)
    granted = dict(initial or {})
    reads = [(operation, read) for operation in history for read in operation.reads if read.value is not None]
    for operation, read in sorted(reads, key=lambda pair: pair[1].at):
        before = written.get(read.cell, {})
        if any(value in before and before[value] <= read.at for value in (read.value, None)):
            continue
        if initial is None:
            granted.setdefault(read.cell, read.value or "")
        if granted.get(read.cell) != read.value:
            yield _residue(operation, read)


def _residue(operation: Operation, read: Read) -> Finding:
    return Finding(
        "residue",
        operation.id,
        operation.agent,
        f"{_who(operation)} read {read.cell} = {_value(read.value)} at {read.at}, which no earlier operation of this "
        f"trace wrote: its writer was undone, or is not in the trace",
        cell=read.cell,
        values={"read": read.value},
        times={"read": read.at, "committed": operation.end},
    )


# --- A6 -----------------------------------------------------------------------------------------------------------


def reorderings(history: Sequence[Operation]) -> Iterator[Finding]:
    """A6, one for each operation whose effects all took effect, in another order than they were issued in."""
    for operation in history:
        calls = sorted((one for one in operation.calls if one.effect == "ordered"), key=lambda one: one.issue)
        if any(call.done is None for call in calls):
            continue  # not a permutation: something was issued and never took effect
        if any(_done(after) < _done(before) for before, after in pairwise(calls)):
            yield _reordering(operation, calls)


def _done(call: Call) -> Time:
    assert call.done is not None
    return call.done


def _reordering(operation: Operation, calls: Sequence[Call]) -> Finding:
    landed = sorted(range(len(calls)), key=lambda number: _done(calls[number]))
    before, after = next((a, b) for a, b in pairwise(calls) if _done(b) < _done(a))
    numbered = [f"{call.tool} #{number}" for number, call in enumerate(calls, 1)]
    return Finding(
        "A6",
        operation.id,
        operation.agent,
        f"{_who(operation)} issued {', '.join(numbered)}; they took effect in the order "
        f"{', '.join(numbered[number] for number in landed)}",
        values={"issued": ", ".join(numbered), "took effect": ", ".join(numbered[number] for number in landed)},
        times={"earlier call done": _done(before), "later call done": _done(after)},
        tools=tuple(call.tool for call in calls),
    )


DETECTORS: dict[Kind, Callable[[Sequence[Operation]], Iterator[Finding]]] = {
    "A1": stale_generations,
    "A2": phantom_tools,
    "A3": causal_cascades,
    "A6": reorderings,
    "residue": residues,
}


def _who(operation: Operation) -> str:
    return f"{operation.id} of {operation.agent}"


def _value(value: str | None) -> str:
    if value is None:
        return "(a value that the trace does not tell)"
    return repr(value) if len(value) <= 60 else repr(value[:59]) + "…"

"""The anomalies of arXiv 2606.17182, straight from their definitions: every quantifier, no index, no early way out.

Over `PLAIN` this is the brute-force oracle; over z3's terms it is what the detectors must equal (`verify.detectors`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, permutations

from verify.logic import Logic, Truth
from verify.table import UNTOLD, CallSlot, ReadSlot, Row, Table


def differ(logic: Logic, read: int, written: int) -> Truth:
    """Two values differ; one that is not told differs from every other."""
    return logic.any([read < 0, written < 0, read != written])


def stale(logic: Logic, table: Table, i: int, read: ReadSlot) -> Truth:
    """A1 for one read of i: for a j of another agent and a cell c, rt_i < wt_j < wt_i and rv_i(c) != wv_j(c)."""
    one = table[i]
    return logic.any(
        logic.all(
            (
                read.used,
                read.cell == c,
                other.writes[c].used,
                one.agent != other.agent,
                read.at < other.end,
                other.end < one.end,
                differ(logic, read.value, other.writes[c].value),
            )
        )
        for j, other in enumerate(table)
        if j != i
        for c in range(len(other.writes))
    )


def planned(logic: Logic, row: Row, tool: int) -> Truth:
    """A tool was planned: by word, or by a call."""
    return logic.any([row.tools[tool].planned, *(logic.all([c.used, c.tool == tool]) for c in row.calls)])


def phantom(logic: Logic, table: Table, i: int, tool: int) -> Truth:
    """A2: a planned tool was in the registry at begin, and at commit or dispatch it is not, or with another
    signature."""
    row, seen = table[i], table[i].tools[tool]
    at_commit = logic.all(
        [row.end_known, logic.any([logic.no(seen.kept), seen.signature_at_end != seen.signature])],
    )
    at_dispatch = logic.any(
        logic.all([c.used, c.tool == tool, c.signature != UNTOLD, c.signature != seen.signature]) for c in row.calls
    )
    return logic.all([planned(logic, row, tool), seen.had, logic.any([at_commit, at_dispatch])])


def cascade(logic: Logic, table: Table, i: int) -> Truth:
    """A3: i is live and there is a chain of predecessors from it to a retracted operation."""
    others = [j for j in range(len(table)) if j != i]
    chains = ((i, *chain) for length in range(1, len(others) + 1) for chain in permutations(others, length))
    return logic.all(
        [
            logic.no(table[i].retracted),
            logic.any(
                logic.all(
                    [
                        table[chain[-1]].retracted,
                        *(table[a].predecessors[b] for a, b in pairwise(chain)),
                    ]
                )
                for chain in chains
            ),
        ]
    )


def reordered(logic: Logic, table: Table, i: int) -> Truth:
    """A6: at least two effects, co is a permutation of io, and co != io.

    io and co list the ordered effects by issue and by taking effect (the earlier issued first, if at once). co is a
    permutation of io if each effect that was issued took effect. They differ if some effect has not the same place.
    """
    calls = table[i].calls
    effects = [logic.all([c.used, c.ordered]) for c in calls]

    def place(number: int, before: Sequence[Truth]) -> int:
        return sum(logic.choose(logic.all([effects[n], before[n]]), 1, 0) for n in range(len(calls)) if n != number)

    def moved(number: int, one: CallSlot) -> Truth:
        io = [other.issue < one.issue for other in calls]
        co = [
            logic.any([other.done < one.done, logic.all([other.done == one.done, other.issue < one.issue])])
            for other in calls
        ]
        return logic.all([effects[number], place(number, io) != place(number, co)])

    count = sum(logic.choose(effect, 1, 0) for effect in effects)
    permutation = logic.all(logic.any([logic.no(effects[n]), c.took]) for n, c in enumerate(calls))
    return logic.all([count >= 2, permutation, logic.any(moved(n, c) for n, c in enumerate(calls))])


# --- the residue of A3, for plain tables ---------------------------------------------------------------------------


def unexplained(table: Table) -> Iterator[tuple[int, ReadSlot]]:
    """Reads of a told value that no operation had written by then, if none may have by a value that is not told."""
    for i, row in enumerate(table):
        for read in row.reads:
            explained = any(
                other.writes[read.cell].used
                and other.end <= read.at
                and other.writes[read.cell].value in (read.value, UNTOLD)
                for other in table
            )
            if read.value != UNTOLD and not explained:
                yield i, read


def residue(table: Table, initial: Mapping[int, int] | None) -> list[tuple[int, ReadSlot]]:
    """Unexplained reads of another value than the cell's first: the given one, or else the first unexplained one."""
    reads = list(unexplained(table))
    return [(i, read) for i, read in reads if read.value != _first(reads, read.cell, initial)]


def _first(reads: Sequence[tuple[int, ReadSlot]], cell: int, initial: Mapping[int, int] | None) -> int | None:
    if initial is not None:
        return initial.get(cell)
    of_cell = [read for _, read in reads if read.cell == cell]
    return int(min(of_cell, key=lambda read: read.at).value)

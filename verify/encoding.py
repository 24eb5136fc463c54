"""What the detectors of `weft.trace.anomalies` compute, step by step, as formulas.

Where the definitions quantify, this follows the code: the scan over one cell's writes with its jumps (A1), the
look-ups in their order (A2), the search outwards from what was retracted (A3), the comparison of neighbours (A6).
That it says what the code does is tested on random histories; that it equals the definitions, z3 shows for all
histories up to a bound. The operations of a table must stand in the order of their commits, as the detector of A1
sorts them.

`without` names tests to leave out, the seeded bugs: "agent" (A1), "planned" (A2: only used tools), "way" (A3: only
direct predecessors), "permutation" (A6: what never took effect is passed over).
"""

from __future__ import annotations

from collections.abc import Sequence

from verify.definitions import differ, planned
from verify.logic import Logic, Truth
from verify.table import UNTOLD, ReadSlot, Row, Table

Without = frozenset[str]
NOTHING: Without = frozenset()


def stale(logic: Logic, table: Table, i: int, read: ReadSlot, without: Without = NOTHING) -> Truth:
    """`_Writes.stale` for each cell that the read may be of."""
    cells = range(len(table[i].writes))
    return logic.any(
        [logic.all([read.used, read.cell == c, _scan(logic, table, table[i], read, c, without)]) for c in cells]
    )


def _scan(logic: Logic, table: Table, reader: Row, read: ReadSlot, c: int, without: Without) -> Truth:
    """Along one cell's writes from the first after the read to the last before the commit, over runs to be skipped."""
    found: Truth = False
    skips_agent: Truth = False  # within a run of writes by the reader's agent
    skips_value: Truth = False  # within a run of writes of the value that was read
    run_value: int = 0
    for writer in table:
        write = writer.writes[c]
        here = logic.all([write.used, read.at < writer.end, writer.end < reader.end, logic.no(found)])
        same_agent = False if "agent" in without else writer.agent == reader.agent
        agent_goes_on = logic.all([skips_agent, same_agent])
        value_goes_on = logic.all([skips_value, write.value == run_value])
        visited = logic.all([here, logic.no(agent_goes_on), logic.no(value_goes_on)])
        other_value = differ(logic, read.value, write.value)
        found = logic.any([found, logic.all([visited, logic.no(same_agent), other_value])])
        begins_value = logic.all([visited, logic.no(same_agent), logic.no(other_value)])
        skips_agent = logic.choose(here, logic.any([agent_goes_on, logic.all([visited, same_agent])]), skips_agent)
        skips_value = logic.choose(here, logic.any([value_goes_on, begins_value]), skips_value)
        run_value = logic.choose(begins_value, write.value, run_value)
    return found


def phantom(logic: Logic, table: Table, i: int, tool: int, without: Without = NOTHING) -> Truth:
    """`phantom_tools` for one tool: is it looked at; was it there; then at commit, then call by call."""
    row, seen = table[i], table[i].tools[tool]
    if "planned" in without:
        looked_at = logic.any([logic.all([c.used, c.tool == tool]) for c in row.calls])
    else:
        looked_at = planned(logic, row, tool)
    now = logic.choose(seen.kept, seen.signature_at_end, -3)
    changed = logic.choose(row.end_known, now != seen.signature, False)
    for call in row.calls:
        excused = logic.any([call.signature == UNTOLD, call.signature == seen.signature])
        changed = logic.choose(changed, True, logic.all([call.used, call.tool == tool, logic.no(excused)]))
    return logic.all([looked_at, seen.had, changed])


def cascade(logic: Logic, table: Table, i: int, without: Without = NOTHING) -> Truth:
    """`causal_cascades`: what is reached from the retracted ones, one step further each round."""
    reached: Sequence[Truth] = [row.retracted for row in table]
    for _ in range(1 if "way" in without else len(table)):
        reached = [
            logic.any([reached[n], *(logic.all([row.predecessors[j], reached[j]]) for j in range(len(table)))])
            for n, row in enumerate(table)
        ]
    return logic.all([logic.no(table[i].retracted), reached[i]])


def reordered(logic: Logic, table: Table, i: int, without: Without = NOTHING) -> Truth:
    """`reorderings`: nothing unfinished, and two neighbours in the order of issue that took effect the other way."""
    calls = table[i].calls
    counted = [logic.all([c.used, c.ordered]) for c in calls]
    if "permutation" in without:
        counted = [logic.all([counts, c.took]) for counts, c in zip(counted, calls, strict=True)]
    finished = logic.all([logic.any([logic.no(counted[n]), c.took]) for n, c in enumerate(calls)])

    def between(a: int, b: int) -> Truth:
        return logic.any(
            [
                logic.all([counted[n], calls[a].issue < c.issue, c.issue < calls[b].issue])
                for n, c in enumerate(calls)
                if n not in (a, b)
            ]
        )

    swapped = logic.any(
        [
            logic.all(
                [
                    counted[a],
                    counted[b],
                    calls[a].issue < calls[b].issue,
                    logic.no(between(a, b)),
                    calls[b].done < calls[a].done,
                ]
            )
            for a in range(len(calls))
            for b in range(len(calls))
            if a != b
        ]
    )
    return logic.all([finished, swapped])

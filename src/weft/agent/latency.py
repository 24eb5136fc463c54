"""How long tools usually take, by what past runs of the same workflow took."""

from __future__ import annotations

from statistics import median
from typing import Any

from weft.core.boundary import boundary
from weft.core.crossing import executing
from weft.core.record import Outcome, decode_records
from weft.core.step import primitive

SLOW = 5.0
"""Seconds from which a call is slow."""
RUNS = 20
"""Past runs that are looked at."""
LOOKED = 500
"""Newest processes of the store among which they are sought."""


async def usual(tools: list[str]) -> dict[str, float]:
    """The median seconds of each of these tools that was called in the newest runs of this workflow; a tool that was
    not is left out. An effect."""
    return await usual_seconds(boundary().workflow, sorted(tools))


@primitive(name="tool.usual_seconds", effect="pure", needs=())
async def usual_seconds(workflow: str, tools: list[str]) -> dict[str, float]:
    execution: Any = executing.get()
    if execution is None:
        return {}
    runtime = execution.process.runtime
    rows = await runtime.store.rows(limit=LOOKED)
    ids = [row.id for row in rows if row.workflow == workflow and row.id != execution.process.id][:RUNS]
    taken: dict[str, list[float]] = {name: [] for name in tools}
    for segment in await runtime.store.segments(ids):
        for record in decode_records(segment.records):
            if type(record) is Outcome and record.kind == "step" and record.name in taken and record.started:
                taken[record.name].append(record.at - record.started)
    return {name: round(median(seconds), 3) for name, seconds in taken.items() if seconds}

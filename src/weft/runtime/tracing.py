"""Which trace an effect belongs to: what it tells those whom it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.core.traceparent import read, span_of, trace_of, written

if TYPE_CHECKING:
    from weft.runtime.process import Process


async def traceparent_of(process: Process, effect: int) -> str:
    """The W3C traceparent of an effect: in the trace of whoever started its run, else in that of its uppermost
    process."""
    caller = process.rights.image.caller
    trace = read(caller).trace if caller else trace_of(await _root(process))
    return written(trace, span_of(process.id, effect))


async def _root(process: Process) -> str:
    """The uppermost process above that is still there."""
    runtime, id, above = process.runtime, process.id, process.row.parent
    while above is not None:
        active = runtime.active.get(above)
        row = active.row if active is not None else await runtime.store.row(above)
        if row is None:
            break
        id, above = row.id, row.parent
    return id

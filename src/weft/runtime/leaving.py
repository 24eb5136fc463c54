"""How a process leaves memory: because it is over, because it waits for long, or because its journal has everything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from weft.core.codec import decode_args, encode
from weft.core.errors import WeftError
from weft.core.label import PUBLIC, Label
from weft.core.record import End, to_column
from weft.core.sealed import carry
from weft.runtime.pending import Pending, Stopped
from weft.runtime.writing import Writing
from weft.store.base import CANCELLED, DONE, ENDED, FAILED, WAITING

if TYPE_CHECKING:
    from weft.runtime.ends import Ends
    from weft.runtime.process import Process


def finish(process: Process) -> None:
    """The body's main task is done: end with what it says, or do what comes after it."""
    main = process.main
    assert main is not None
    rest = process.loop.tasks
    for task in rest:
        task.cancel()
    if rest:
        process.loop.drain()
    if process.error is not None:
        abort(process, process.error)
    elif main.cancelled() and process.leave is not None:
        leave, process.leave = process.leave, None
        leave()
    elif main.cancelled():
        end(process, CANCELLED, encode(asyncio.CancelledError()))
    elif isinstance(error := main.exception(), Stopped):
        abort(process, WeftError(f"run {process.id} was stopped"))
    elif error is not None:
        end(process, FAILED, encode(error))
    else:
        try:
            state, data = DONE, encode(main.result(), f"{process.workflow}() result")
        except Exception as unfit:
            state, data = FAILED, encode(unfit)
        end(process, state, data)


def end(process: Process, state: str, data: bytes) -> None:
    """It is over, with this encoded result or error."""
    for pending in process.pending.values():
        if pending.bill is not None:
            pending.bill.settle(begun=pending.started > 0)
    process.runtime.people.ended(process)
    _put_away(process)
    conclude(process, state, data, process.mark)


def conclude(writing: Writing, state: str, data: bytes, mark: Label = PUBLIC) -> None:
    """The last word in the journal of a process that is out of memory, and in its row."""
    journal, row = writing.runtime.journal, writing.row
    data = carry(journal.clean(data), mark)
    value = journal.keep(writing.id, data)
    writing.append(End(writing.tick(), state, value))
    row.state, row.wake_at = state, None
    if state == DONE:
        row.result = to_column(value)
    else:
        row.error = to_column(value)
    writing.runtime.ends.finished(writing, data)


def abort(process: Process, error: WeftError) -> None:
    """Stop here without a word in the journal: the run can be resumed by code that fits."""
    _put_away(process)
    process.runtime.ends.aborted(process, error)


def evict(process: Process) -> None:
    """Leave memory; the journal has everything."""
    if not process.over:
        with process.loop.running():
            _put_away(process)


def park(process: Process, now: float, after: float, *, timed: bool) -> bool:
    """Leave memory if all that is awaited can be awaited without it, and nothing is due within `after` s.
    `timed`: only if a time is all that it waits for (what others do may come at once)."""
    if process.busy or process.arrived or not process.live or process.over or process.queued:
        return False
    pending = process.pending.values()
    deadlines = [p.deadline for p in pending if p.deadline is not None]
    wake = min(deadlines, default=None)
    if wake is not None and wake - now < after:
        return False
    if timed and (wake is None or len(deadlines) < len(pending)):
        return False
    process.mail.drop_stale()
    process.row.state = WAITING
    process.row.wake_at = wake
    events = [_awaited(p, process.runtime.ends) for p in pending if p.kind in ("event", "child")]
    process.runtime.parked(process, events, for_others=len(deadlines) < len(pending))
    evict(process)
    return True


def _awaited(pending: Pending, ends: Ends) -> str:
    """What a parked process waits for, as the store knows it."""
    return pending.name if pending.kind == "event" else ENDED + ends.known_heir(decode_args(pending.args)[0][0])


def _put_away(process: Process) -> None:
    process.over = process.stopping = True
    for pending in list(process.pending.values()):
        process.drop(pending)
    for task in process.loop.tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        try:
            coroutine.close()
        except BaseException as error:  # a body that awaits in `finally` while it is put away
            process.runtime.log.debug("putting %s away: %r", process.id, error)
    process.loop.ready.clear()

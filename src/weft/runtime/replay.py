"""Replay: delivering again what the journal says, in its order, until the body stands where it ends.

Then the process goes live: what it has issued and the journal has no outcome of is launched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.core.codec import decode
from weft.core.record import Blob, Cancel, Fork, Outcome, Value
from weft.runtime.divergence import diverged
from weft.runtime.leaving import abort
from weft.runtime.protect import launch

if TYPE_CHECKING:
    from weft.runtime.process import Process


def replay(process: Process) -> bool:
    """Deliver recorded outcomes in order; True once the body stands where the journal ends."""
    assert process.main is not None
    history = process.history
    while history:
        if process.error is not None:
            abort(process, process.error)
            return False
        record = history.order[history.cursor]
        if type(record) is Outcome:
            pending = process.pending.get(record.effect)
            if pending is None or not history.fits(record, pending.kind, pending.name, pending.args):
                abort(process, diverged(process, record, pending))
                return False
            if type(record.value) is Blob and record.value.hash not in process.blobs:
                process.runtime.recovery.fetch(process, record.value)
                return False
            history.cursor += 1
            process.clock = record.at
            process.forget(pending)
            if record.label is not None:
                process.mark |= record.label
            if pending.turn is not None:
                pending.turn.turns.passed(record.turn)
                pending.turn.over()
            process.resolve(pending, record.ok, decode(_bytes(process, record.value)))
        elif type(record) is Cancel:
            history.cursor += 1
            process.clock = record.at
            if record.label is not None:
                process.mark |= record.label
            process.main.cancel()
        elif type(record) is Fork:
            history.pass_fork()
        else:  # a Patch that the body did not ask for
            abort(process, diverged(process, record, None))
            return False
        process.loop.drain()
    if process.error is not None:
        abort(process, process.error)
        return False
    _go_live(process)
    return True


def _go_live(process: Process) -> None:
    process.live = True
    process.history.forget()
    for pending in list(process.pending.values()):
        started = process.history.intents.get(pending.number)
        if started is not None and not process.history.fits(started, pending.kind, pending.name, pending.args):
            process.error = diverged(process, started, pending)
            return
        pending.noted = started is not None
        if not process.signals.held:
            launch(process, pending)


def _bytes(process: Process, value: Value) -> bytes:
    return process.blobs.pop(value.hash) if isinstance(value, Blob) else value

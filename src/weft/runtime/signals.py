"""Signals from outside: pause, resume, kill. They travel as letters, and come before anything else.

A paused process has ended the steps that were under way, begins no others, and leaves memory; nobody executes it until
somebody says so. A killed one is over where it stands.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, get_args

from weft.core.codec import encode
from weft.core.errors import BadInput, Cancelled, Restored, RunBusy
from weft.runtime.leaving import end, evict
from weft.runtime.mail import SIGNAL_BOX
from weft.store.base import CLAIMABLE, FINISHED, KILLED, PAUSED, QUEUED, RUNNING, UNFINISHED

if TYPE_CHECKING:
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime

Signal = Literal["pause", "resume", "kill"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)
MOST = 1_000_000


class Signals:
    """Those to one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.held = False
        """It is being paused: no effect begins."""

    def take(self, what: Signal | Restored) -> None:
        process = self.process
        if process.over:
            return
        if isinstance(what, Restored):
            with process.loop.running():
                end(process, KILLED, encode(what))
        elif what == "kill":
            with process.loop.running():
                end(process, KILLED, encode(Cancelled(f"run {process.id} ({process.workflow}) was killed")))
        elif what == "pause":
            self.held = True
            self.rest()

    def rest(self) -> None:
        """Leave memory, once nothing is under way."""
        process = self.process
        under_way = any(p.host is not None and not p.parkable for p in process.pending.values())
        if process.live and (process.arrived or under_way):
            return  # `Process.pump` asks again
        row = process.row
        row.state, row.owner, row.wake_at = PAUSED, None, None
        row.length = process.length
        evict(process)
        process.runtime.ends.left(row)


async def signal(runtime: Runtime, id: str, what: Signal, tree: bool) -> None:
    """See `Runtime.signal`."""
    if what not in SIGNALS:
        raise BadInput(f"{what!r} is no signal; there are {', '.join(SIGNALS)}")
    id = (await runtime.ends.present(id)).id
    ids = [id, *(await below(runtime, id) if tree or what == "kill" else ())]
    for one in ids:
        await _send(runtime, one, what)


async def below(runtime: Runtime, id: str) -> list[str]:
    """All descendants of a process."""
    await runtime.journal.barrier()
    found: list[str] = []
    waiting = [id]
    while waiting:
        children = [row.id for row in await runtime.store.rows(parent=waiting.pop(), limit=MOST)]
        found += children
        waiting += children
    return found


async def _send(runtime: Runtime, id: str, what: Signal) -> None:
    row = await runtime.row(id)
    if row.state in FINISHED or (what == "pause" and row.state == PAUSED):
        return
    if what == "resume":
        if row.state == PAUSED:
            await _hand_on(runtime, id)
        return
    runtime.post.put(id, SIGNAL_BOX, what)
    await runtime.journal.barrier()
    if id not in runtime.active:
        with contextlib.suppress(RunBusy):  # its executor finds the letter
            # If nobody executes it, it is taken in to hear it.
            await runtime.recovery.resume(id, True, UNFINISHED if what == "kill" else CLAIMABLE)


async def _hand_on(runtime: Runtime, id: str) -> None:
    """A paused process is anybody's again."""
    for row in await runtime.store.claim(runtime.owner, [id], states=(PAUSED,)):
        row.state, row.owner = RUNNING if row.queue is None else QUEUED, None
        runtime.put(row)
    await runtime.journal.barrier()

"""Ends of processes, and who waits for them: callers, parents, wherever the process is executed.

The end of a process that another runtime executes is noticed by the store's hint; besides, all that are waited for
are asked about once in a while, in one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from weft.core.codec import decode
from weft.core.errors import RunBusy, WeftError
from weft.core.queue import find_queue
from weft.runtime.commit import settle
from weft.runtime.handle import outcome_of, restored
from weft.runtime.look import Look
from weft.runtime.mail import CANCEL_BOX
from weft.store.base import DONE, ENDED, FINISHED, PAUSED, QUEUED, ProcessRow

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime
    from weft.runtime.writing import Writing

GLANCE = 0.1
"""Seconds between two looks for an heir that is still to come."""
Leaving = Callable[[], Coroutine[Any, Any, None]]
Waiter = Callable[[ProcessRow | WeftError], None]


class Ends:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.waiters: dict[str, list[Waiter]] = {}
        self.stuck: dict[str, WeftError] = {}
        """Processes that could not go on here, and why."""
        self._heirs: dict[str, str] = {}
        """Restored processes -> those that go on in their place, as far as they were met here."""
        self._leaving: dict[str, list[Leaving]] = {}
        """What is to be done when a process leaves this runtime."""
        self._elsewhere: set[str] = set()
        self._unfollowed: set[str] = set()
        self._look = Look(runtime, self._see)

    # --- of processes here -------------------------------------------------------------------------------

    def finished(self, writing: Writing, data: bytes) -> None:
        """`data`: the encoded result or error."""
        row = writing.row
        row.length = writing.length
        self.runtime.put(row)
        self.runtime.active.pop(row.id, None)
        self._leave(row)
        end = replace(row, result=data) if row.state == DONE else replace(row, error=data)
        self.runtime.journal.when_durable(lambda: self._announce(end))

    def _announce(self, row: ProcessRow) -> None:
        self.tell(row.id, row)
        if row.parent is not None and row.parent not in self.runtime.active:
            self.runtime.post.look()  # it may be parked here

    def aborted(self, process: Process, error: WeftError) -> None:
        """It could not go on, through no word of its journal: let others have it."""
        self.runtime.active.pop(process.id, None)
        self.stuck[process.id] = error
        process.row.owner = None
        process.row.length = process.length
        self.runtime.put(process.row)
        self._leave(process.row)
        self.tell(process.id, error)

    def left(self, row: ProcessRow) -> None:
        """It was paused: it is nobody's, and who waits for it waits on."""
        self.runtime.put(row)
        self.runtime.active.pop(row.id, None)
        self._leave(row)
        if row.id in self.waiters:
            self.watch(row.id)

    def _leave(self, row: ProcessRow) -> None:
        """Its place in its queue and in memory is free."""
        self.runtime.recovery.gone(row.id)
        for do in self._leaving.pop(row.id, ()):
            self.runtime.task(do())
        if row.queue is not None:
            gate = self.runtime.gates[find_queue(row.queue)]
            gate.processes.pop(row.id, None)
            gate.free()
        if self.runtime.worker is not None:
            self.runtime.worker.wake()

    def at_leave(self, id: str, do: Leaving) -> None:
        """Do this when process `id` leaves this runtime: at its end, paused, or with the runtime."""
        self._leaving.setdefault(id, []).append(do)

    async def all_leave(self) -> None:
        """The runtime closes."""
        leaving, self._leaving = self._leaving, {}
        await asyncio.gather(*(do() for each in leaving.values() for do in each), return_exceptions=True)

    # --- who waits ---------------------------------------------------------------------------------------

    def tell(self, id: str, end: ProcessRow | WeftError) -> None:
        self._elsewhere.discard(id)
        for waiter in self.waiters.pop(id, ()):
            waiter(end)

    async def of(self, id: str) -> ProcessRow:
        """The row of process `id` once it has ended, durably. Waits for it wherever it runs."""
        runtime = self.runtime
        if id not in runtime.active:
            if id in self.stuck:
                raise self.stuck[id]
            row = await runtime.row(id)
            if row.state in FINISHED:
                await runtime.journal.barrier()
                return await self._last(row)
        ended: asyncio.Future[ProcessRow | WeftError] = runtime.host.create_future()
        self.waiters.setdefault(id, []).append(partial(settle, ended))
        if runtime.journal.broken:
            raise runtime.journal.broken
        if id not in runtime.active:
            self.watch(id)
        end = await ended
        if isinstance(end, WeftError):
            raise end
        return await self._last(end)

    async def _last(self, row: ProcessRow) -> ProcessRow:
        """The end of a run is the end of what goes on in its place."""
        heir = await self.heir(row)
        return await self.of(heir) if heir is not None else await self.runtime.recovery.opened(row)

    def join(self, parent: Process, pending: Pending, child: str) -> None:
        """Deliver the end of `child` to `parent`."""

        def tell(end: ProcessRow | WeftError) -> None:
            if isinstance(end, ProcessRow) and restored(end) is not None:
                self.runtime.task(self._follow(parent, pending, end))
            elif isinstance(end, ProcessRow):
                _deliver(parent, pending, end)
            else:  # the child can't go on, so neither can its parent: both can be resumed
                parent.error = end
                self.runtime.wake(parent)

        self.waiters.setdefault(child, []).append(tell)
        if child not in self.runtime.active:
            self.runtime.task(self._seek(child))

    async def _seek(self, child: str) -> None:
        runtime = self.runtime
        try:
            row = await runtime.row(child)
            if row.state in FINISHED:
                self.tell(child, await runtime.recovery.opened(row))
            elif row.state == PAUSED or (row.state == QUEUED and row.owner is None) or self._for_others(row):
                self.watch(child)  # it waits for a worker
            elif child not in runtime.active:
                await runtime.resume(child)
        except RunBusy:
            self.watch(child)
        except WeftError as error:
            self.tell(child, error)

    def _for_others(self, row: ProcessRow) -> bool:
        """Whether it belongs to a queue that this worker does not serve."""
        worker = self.runtime.worker
        return worker is not None and row.queue is not None and row.queue not in worker.queues

    # --- restored ones -----------------------------------------------------------------------------------

    async def heir(self, row: ProcessRow, *, patient: bool = True) -> str | None:
        """The process that goes on in place of one that was restored; None if none does. `patient`: wait for it if
        whoever restores is not that far (or died: then it is to be done again)."""
        reason = restored(row)
        while reason is not None and reason.goes_on:
            checkpoint = await self.runtime.store.checkpoint(reason.checkpoint)
            if checkpoint is None:
                return None
            heirs = decode(checkpoint.heirs) if checkpoint.heirs else {}
            if row.id in heirs:
                self._heirs[row.id] = heirs[row.id]
                return self._heirs[row.id]
            if not patient:
                return None
            await asyncio.sleep(GLANCE)
        return None

    async def present(self, id: str) -> ProcessRow:
        """The row of a process, or of the one that goes on in its place. Raises UnknownRun."""
        row = await self.runtime.row(id)
        while (heir := await self.heir(row, patient=False)) is not None:
            row = await self.runtime.row(heir)
        return row

    def known_heir(self, id: str) -> str:
        """The same, as far as it was met here; `id` itself if it has none."""
        while id in self._heirs:
            id = self._heirs[id]
        return id

    async def _follow(self, parent: Process, pending: Pending, end: ProcessRow) -> None:
        """`parent` waits on, for the heir of its child."""
        heir = await self.heir(end)
        if heir is None:
            _deliver(parent, pending, end)
        elif pending.number in parent.pending and not parent.over:
            if pending.name in parent.children.told:
                self.runtime.post.put(heir, CANCEL_BOX, None, parent.mark)
            self.join(parent, pending, heir)

    # --- of processes elsewhere --------------------------------------------------------------------------

    def watch(self, id: str) -> None:
        """Tell those who wait for process `id` when it has ended."""
        if id not in self._elsewhere:
            self._elsewhere.add(id)
            self._unfollowed.add(id)
            self.look()

    def look(self) -> None:
        """Some that are watched may have ended."""
        if self._elsewhere:
            self._look.ask()

    async def _see(self) -> None:
        runtime = self.runtime
        await runtime.journal.barrier()
        fresh, self._unfollowed = self._unfollowed, set()
        if fresh:
            await runtime.store.follow(runtime.owner, [ENDED + id for id in fresh])
        for row in await runtime.store.ended(list(self._elsewhere)):
            self.tell(row.id, await runtime.recovery.opened(row))


def _deliver(parent: Process, pending: Pending, end: ProcessRow) -> None:
    ok, value, label = outcome_of(end)
    pending.brings(label)
    parent.arrive(pending, ok, value)

"""The runtime: opens a store, and runs processes on the host's event loop.

It works in turns. Outcomes arrive between turns; a turn lets each process that has some go as far as it can, then
hands what became known to the committer. Processes that only wait leave memory (they are *parked*), and come back
by replay when their time or their mail comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from msgspec.structs import replace

from weft.core.codec import encode_args
from weft.core.declare import Queue, Workflow, find_workflow, queues
from weft.core.errors import (
    BadInput,
    KeyConflict,
    RunBusy,
    StoreError,
    UnknownRun,
    WeftError,
)
from weft.core.ids import new_id
from weft.core.record import AnyRecord, Blob, to_column
from weft.runtime import guard, scan
from weft.runtime.admission import Gates, Ticket
from weft.runtime.alarms import Alarms
from weft.runtime.commit import Committer, settle
from weft.runtime.execute import Steps
from weft.runtime.fork import forked
from weft.runtime.handle import Run, outcome_of
from weft.runtime.mail import CANCEL_BOX
from weft.runtime.pending import Pending
from weft.runtime.post import Post
from weft.runtime.process import Process
from weft.runtime.recovery import PARK_AFTER, Recovery
from weft.runtime.watch import Watch
from weft.store import Durability, open_store
from weft.store.base import DONE, FINISHED, QUEUED, RUNNING, WAITING, ProcessRow, Store

P = ParamSpec("P")
R = TypeVar("R")

SWEEP = 0.25
"""Seconds between looks for processes to park, for mail from elsewhere and for steps that take long."""
FEW = 4
"""Pending effects of a process that may be looked at in every turn."""
CROWD = 512
"""Processes that may wait for their first turn before `start` lets it happen."""

Observer = Callable[[str, AnyRecord], None]
Waiter = Callable[[ProcessRow | WeftError], None]


class Runtime:
    """Use it as ``async with weft.Runtime() as runtime:``.

    `store`: a path or URL; default ``$WEFT_STORE``, else ``.weft/journal.db`` here. `durability`: "full" (what a
    run knows is on disk before it touches the world or returns) or "process" (it survives the death of this
    process, not of the machine). `threads`: how many sync steps run at once.
    """

    def __init__(
        self, store: str | Path | Store | None = None, *, durability: Durability = "full", threads: int = 32
    ) -> None:
        self._given = store
        self._durability = durability
        self._threads = threads
        self.log = logging.getLogger("weft")
        self.owner = f"{new_id()}-{os.getpid()}"
        self.active: dict[str, Process] = {}
        self.waiters: dict[str, list[Waiter]] = {}
        self.tickets: dict[str, Ticket] = {}
        self.stuck: dict[str, WeftError] = {}
        self.observers: list[Observer] = []
        self._ready: list[Process] = []
        self._turn_set = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = False

    # --- opening and closing -------------------------------------------------------------------------

    async def __aenter__(self) -> Runtime:
        if self._opened:
            raise BadInput("this Runtime is open already; make another one")
        given = self._given
        self.store: Store = (
            open_store(given, self._durability) if given is None or isinstance(given, str | Path) else given
        )
        self.host = asyncio.get_running_loop()
        self.journal = Committer(self.store, self.host, self._broke)
        self.gates = Gates(self.host)
        self.steps = Steps(self, self._threads)
        self.alarms = Alarms(self)
        self.post = Post(self)
        self.recovery = Recovery(self)
        self.watch = Watch(self)
        await self.store.register(self.owner)
        guard.install()
        self._opened = True
        self._sweeper = self.host.call_later(SWEEP, self._sweep)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop cleanly: unfinished runs keep their journals and can be resumed by anybody."""
        if not self._opened:
            return
        self._opened = False
        self._sweeper.cancel()
        self.watch.close()
        self.alarms.close()
        for task in list(self._tasks):
            task.cancel()
        for process in list(self.active.values()):
            process.evict()
            if process.row.state in (RUNNING, WAITING, QUEUED) and not self.journal.broken:
                process.row.owner = None
                self.journal.row(process.row)
        await asyncio.gather(*self._tasks, *self.steps.close(), return_exceptions=True)
        try:
            if not self.journal.broken:
                await self.journal.barrier()
        finally:
            for id in list(self.waiters):
                self.tell(id, WeftError(f"run {id} was interrupted; continue it with: weft resume {id}"))
            self.active.clear()
            await self.store.close()

    def _broke(self, error: StoreError) -> None:
        """The journal can't be written: nothing more may happen."""
        self.log.error("%s", error)
        for process in list(self.active.values()):
            process.evict()
        self.active.clear()
        for id in list(self.waiters):
            self.tell(id, error)

    def task(self, work: Any) -> None:
        """Run a coroutine of the runtime's own on the host; its failure is logged."""
        task = self.host.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("in the runtime: %s", error, exc_info=error)

    # --- starting --------------------------------------------------------------------------------------

    async def start(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Start a run and return its handle. With an idempotency key that was used before, the first run's."""
        self._check_open()
        if not isinstance(workflow, Workflow):
            raise BadInput(f"{workflow!r} is not a workflow; mark the function with @weft.workflow")
        scan.check(workflow.fn)
        workflow.bind(args, kwargs)
        input = self.journal.clean(encode_args(args, kwargs, workflow.name, workflow.names))
        row = self.new_row(workflow, input, parent=None)
        if workflow.id is not None and await self.store.row(workflow.id) is not None:
            raise BadInput(f"a run with id {workflow.id!r} exists; choose another id, or use an idempotency key")
        if row.key is not None:
            await self.journal.barrier()
            known = await self.store.insert(row)
            if known is not None:
                return await self._again(row, known)
        self.begin(row, input, workflow.queue)
        if len(self._ready) >= CROWD:
            await asyncio.sleep(0)  # let some of them come to rest before more are taken in
        return Run(self, row.id)

    async def _again(self, row: ProcessRow, known: ProcessRow) -> Run[Any]:
        if known.workflow != row.workflow or known.input != row.input:
            raise KeyConflict(
                f"key {row.key!r} belongs to run {known.id} of {known.workflow} with other input; use another key"
            )
        if known.state not in FINISHED and known.id not in self.active:
            try:
                return await self.resume(known.id)
            except RunBusy:
                pass  # somebody runs it: its handle waits
        return Run(self, known.id)

    async def run(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a run and wait for its result."""
        return await (await self.start(workflow, *args, **kwargs)).result()

    def new_row(self, workflow: Workflow[..., Any], input: bytes, *, parent: str | None) -> ProcessRow:
        """`input`: encoded arguments, without secrets."""
        now = time()
        id = workflow.id or new_id(now)
        return ProcessRow(
            id=id,
            workflow=workflow.name,
            source=workflow.source,
            version=workflow.version,
            parent=parent,
            key=workflow.key,
            queue=workflow.queue.name if workflow.queue else None,
            priority=workflow.priority,
            created=now,
            updated=now,
            owner=self.owner,
            input=to_column(self.journal.keep(id, input)),
        )

    def begin(self, row: ProcessRow, input: bytes, queue: Queue | None = None) -> None:
        """Enter a new process; its row is durable with its first records."""
        self.enter(Process(self, row, input, []), queue or (queues.get(row.queue) if row.queue else None))

    def enter(self, process: Process, queue: Queue | None, *, written: bool = False) -> None:
        """Take a process into memory; it begins in the next turn, or when its queue admits it. `written`: the store
        has its row as it is."""
        row = process.row
        self.active[row.id] = process
        self.stuck.pop(row.id, None)
        if queue is None or row.id in self.tickets:
            row.state = RUNNING
            self.wake(process)
        else:
            row.state = QUEUED
            self.tickets[row.id] = self.gates[queue].enter(row.priority, lambda: self._admitted(process))
            written = False
        if not written:
            self.put(row)

    def _admitted(self, process: Process) -> None:
        if not process.over:
            process.row.state = RUNNING
            self.put(process.row)
            self.wake(process)

    def put(self, row: ProcessRow) -> None:
        row.updated = time()
        self.journal.row(row)
        self.kick()

    def _check_open(self) -> None:
        if not self._opened:
            raise BadInput("the Runtime is not open; use it as `async with weft.Runtime() as runtime:`")
        if self.journal.broken:
            raise self.journal.broken

    async def resume(self, id: str, *, force: bool = False) -> Run[Any]:
        """Continue a run that nobody executes. RunBusy if somebody does; CrashLoop if it keeps killing its process
        (`force` tries once more)."""
        self._check_open()
        await self.recovery.resume(id, force)
        return Run(self, id)

    async def resume_all(self) -> list[Run[Any]]:
        """Continue every unfinished run that nobody executes; those whose workflow is not declared here are left."""
        self._check_open()
        await self.journal.barrier()
        return await self.recovery.resume_all()

    # --- turns -------------------------------------------------------------------------------------------

    def wake(self, process: Process) -> None:
        """Let `process` go on in the next turn."""
        if not process.queued:
            process.queued = True
            self._ready.append(process)
            self.kick()

    def kick(self) -> None:
        if not self._turn_set:
            self._turn_set = True
            self.host.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_set = False
        ready, self._ready = self._ready, []
        now = time()
        for process in ready:
            process.queued = False
            if process.row.state == QUEUED and not process.over and not process.arrived:
                continue
            try:
                process.pump()
            except Exception as error:
                process.evict()
                self.aborted(process, _as_weft(process.id, error))
            else:
                if not process.busy and len(process.pending) <= FEW:
                    process.park(now, PARK_AFTER, timed=True)
        self.journal.kick()

    def append(self, process: Process, record: AnyRecord) -> None:
        self.journal.append(process.id, process.length, record)
        process.length += 1
        for observer in self.observers:
            observer(process.id, record)

    def observe(self, observer: Observer) -> None:
        """Call `observer(process id, record)` for every record appended from now on (for live displays)."""
        self.observers.append(observer)

    # --- ends --------------------------------------------------------------------------------------------

    def finished(self, process: Process, data: bytes) -> None:
        """`data`: the encoded result or error."""
        row = process.row
        row.length = process.length
        self.put(row)
        self.active.pop(row.id, None)
        self._release(row.id)
        end = replace(row, result=data) if row.state == DONE else replace(row, error=data)
        self.journal.when_durable(lambda: self._announce(end))

    def _announce(self, row: ProcessRow) -> None:
        self.tell(row.id, row)
        if row.parent is not None and row.parent not in self.active:
            self.task(self.recovery.revive(row.parent))

    def aborted(self, process: Process, error: WeftError) -> None:
        """It could not go on, through no word of its journal: let others have it."""
        self.active.pop(process.id, None)
        self.stuck[process.id] = error
        self._release(process.id)
        process.row.owner = None
        process.row.length = process.length
        self.put(process.row)
        self.tell(process.id, error)

    def _release(self, id: str) -> None:
        ticket = self.tickets.pop(id, None)
        if ticket is not None:
            ticket.release()

    def tell(self, id: str, end: ProcessRow | WeftError) -> None:
        for waiter in self.waiters.pop(id, ()):
            waiter(end)

    async def end_of(self, id: str) -> ProcessRow:
        """The row of process `id` once it has ended, durably. Waits for it wherever it runs."""
        if id not in self.active:
            if id in self.stuck:
                raise self.stuck[id]
            row = await self.row(id)
            if row.state in FINISHED:
                await self.journal.barrier()
                return await self.recovery.opened(row)
        ended: asyncio.Future[ProcessRow | WeftError] = self.host.create_future()
        self.waiters.setdefault(id, []).append(partial(settle, ended))
        if self.journal.broken:
            raise self.journal.broken
        while not ended.done():
            # Woken by `_tell`; a run that somebody else executes has to be looked at now and then.
            await asyncio.wait([ended], timeout=None if id in self.active else SWEEP)
            if not ended.done() and id not in self.active and (row := await self.row(id)).state in FINISHED:
                return await self.recovery.opened(row)
        end = ended.result()
        if isinstance(end, WeftError):
            raise end
        return end

    async def row(self, id: str) -> ProcessRow:
        """What the store says of process `id` now; UnknownRun if there is none."""
        process = self.active.get(id)
        if process is not None:
            return process.row
        if self._opened and not self.journal.broken:
            await self.journal.barrier()
        row = await self.store.row(id)
        if row is None:
            raise UnknownRun(f"there is no run {id!r} in {self.store.url}; `weft ps` lists those there are")
        return row

    # --- children ------------------------------------------------------------------------------------------

    def join(self, parent: Process, pending: Pending, child: str) -> None:
        """Deliver the end of `child` to `parent`."""

        def tell(end: ProcessRow | WeftError) -> None:
            if isinstance(end, ProcessRow):
                parent.arrive(pending, *outcome_of(end))
            else:  # the child can't go on, so neither can its parent: both can be resumed
                parent.error = end
                self.wake(parent)

        self.waiters.setdefault(child, []).append(tell)
        if child not in self.active:
            self.task(self._seek(child))

    async def _seek(self, child: str) -> None:
        try:
            row = await self.row(child)
            if row.state in FINISHED:
                self.tell(child, await self.recovery.opened(row))
            elif child not in self.active:
                await self.resume(child)
        except RunBusy:
            self.tell(child, await self.end_of(child))
        except WeftError as error:
            self.tell(child, error)

    def parked(self, process: Process, events: list[str]) -> None:
        row = process.row
        row.length = process.length
        self.active.pop(row.id, None)
        self.put(row)
        if events:
            self.journal.batch.waits[row.id] = events
        if row.wake_at is not None:
            self.alarms.expect(row.wake_at)

    def _sweep(self) -> None:
        now = time()
        for process in list(self.active.values()):
            if not process.busy and now - process.idle_since > SWEEP and process.park(now, PARK_AFTER, timed=False):
                continue
            for pending in process.pending.values():
                if pending.kind == "step" and not pending.noted and 0 < pending.started < now - 1:
                    process.note(pending, intent=False)
        self.kick()
        if self.store.changed():
            self.task(self.post.news())
        self._sweeper = self.host.call_later(SWEEP, self._sweep)

    async def send(self, id: str, box: str, value: Any) -> None:
        """Send a letter to a run, wherever it is executed. Durable on return."""
        self._check_open()
        await self.post.address(id)
        self.post.put(id, box, value)
        await self.journal.barrier()

    async def cancel(self, id: str) -> None:
        """Ask a run to stop, wherever it is executed. If nobody executes it, it is continued here to be cancelled."""
        self._check_open()
        row = await self.row(id)
        if row.state in FINISHED:
            return
        self.post.put(id, CANCEL_BOX, None)
        await self.journal.barrier()
        if id not in self.active:
            with contextlib.suppress(RunBusy):  # its executor finds the letter
                await self.resume(id)

    # --- time travel --------------------------------------------------------------------------------------------

    async def fork(
        self,
        id: str,
        *,
        at: int,
        input: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
        value: Any = ...,
    ) -> Run[Any]:
        """A new run with the history of `id` up to effect number `at`, which is made anew, as is all after it.

        `input`: other arguments `(args, kwargs)` for the workflow. `value`: take this as the outcome of effect
        `at` instead of making it. The code is what is declared now: history that does not fit it is a Divergence.
        """
        self._check_open()
        origin = await self.row(id)
        await self.journal.barrier()
        workflow = find_workflow(origin.workflow)
        if input is not None:
            workflow.bind(*input)
        given = encode_args(*input, workflow.name) if input else (await self.recovery.opened(origin)).input
        given = self.journal.clean(given)
        row = self.new_row(workflow, given, parent=None)
        row.started, row.forked, row.key, row.queue = origin.started, f"{id}@{at}", None, None
        records = forked(origin, await self.recovery.records(id), at, checked=input is None, value=value, now=time())
        for number, record in enumerate(records):
            self.journal.append(row.id, number, record)
        self.journal.batch.references |= {(row.id, blob.hash) for blob in _blobs(records)}
        self.enter(Process(self, row, given, records), None)
        await self.journal.barrier()
        return Run(self, row.id)


def _blobs(records: Sequence[AnyRecord]) -> list[Blob]:
    fields = (getattr(record, name, None) for record in records for name in ("args", "value", "error"))
    return [field for field in fields if isinstance(field, Blob)]


def _as_weft(id: str, error: Exception) -> WeftError:
    return error if isinstance(error, WeftError) else WeftError(f"run {id} could not go on: {error!r}")

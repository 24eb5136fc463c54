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
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

from weft.core.errors import (
    BadInput,
    LeaseLost,
    RunBusy,
    StoreError,
    UnknownRun,
    WeftError,
)
from weft.core.ids import new_id
from weft.core.record import AnyRecord
from weft.core.workflow import Workflow, registry
from weft.runtime import checkpoint, guard
from weft.runtime.admission import Gates
from weft.runtime.alarms import Alarms
from weft.runtime.commit import Committer, settle
from weft.runtime.ends import Ends
from weft.runtime.execute import Steps
from weft.runtime.flow import release
from weft.runtime.fork import fork
from weft.runtime.handle import Run
from weft.runtime.inbox import OpenQuestion
from weft.runtime.leaving import evict, park
from weft.runtime.ledger import Ledger
from weft.runtime.mail import CANCEL_BOX
from weft.runtime.people import People
from weft.runtime.policy import Policy, ambient
from weft.runtime.post import Post
from weft.runtime.process import Process
from weft.runtime.recovery import PARK_AFTER, Recovery
from weft.runtime.rights import Rights
from weft.runtime.shared import Shared
from weft.runtime.signals import Signal, signal
from weft.runtime.since import Touch, effects_since
from weft.runtime.starting import Starting
from weft.runtime.watch import Watch
from weft.runtime.worker import Worker
from weft.runtime.writing import Writing
from weft.store import Durability, open_store
from weft.store.base import FINISHED, QUEUED, RUNNING, WAITING, Checkpoint, Hint, ProcessRow, Store
from weft.store.handover import check_present

if TYPE_CHECKING:
    from weft.runtime.probes.asked import Probe
    from weft.runtime.probes.runs import Probes

P = ParamSpec("P")
R = TypeVar("R")

SWEEP = 0.25
"""Seconds between looks for processes to park, for mail from elsewhere and for steps that take long."""
FEW = 4
"""Pending effects of a process that may be looked at in every turn."""
CROWD = 512
"""Processes that may wait for their first turn before `start` lets it happen."""

Observer = Callable[[str, AnyRecord], None]


class Counters(msgspec.Struct):
    """What a runtime has done since it was opened."""

    effects: int = 0
    replayed: int = 0
    """Recorded outcomes delivered again."""
    lease_losses: int = 0


class Runtime:
    """Use it as ``async with weft.Runtime() as runtime:``.

    `store`: a path or URL; default ``$WEFT_STORE``, else ``.weft/journal.db`` here. `durability`: "full" (what a
    run knows is on disk before it touches the world or returns) or "process" (it survives the death of this
    process, not of the machine). `threads`: how many sync steps run at once.

    `policy`: the rights of what is started here; default: what `weft.toml` and the environment say, else "workspace".

    `probes`: what is to be seen of the steps that are carried out here, such as "hotness:shop.parse"
    (`weft.runtime.probes`); the figures are in the journals, with the effects that they are of.

    With `queues` it is a worker too: it executes processes that wait for anybody, those submitted to these queues and
    those that the dead have left, up to `slots` at once. Without, it executes what is started or resumed here.
    """

    def __init__(
        self,
        store: str | Path | Store | None = None,
        *,
        durability: Durability = "full",
        threads: int = 32,
        queues: Sequence[str] | None = None,
        slots: int = 100,
        policy: Policy | None = None,
        probes: Sequence[Probe | str] = (),
    ) -> None:
        self.policy = policy
        self.probes: Probes | None = None
        self._probes = probes
        self.queues = queues
        self.slots = slots
        self._given = store
        self._durability = durability
        self._threads = threads
        self.log = logging.getLogger("weft")
        self.owner = f"{new_id()}-{os.getpid()}"
        self.active: dict[str, Process] = {}
        self.worker: Worker | None = None
        self.counters = Counters()
        self.closing = False
        self.observers: list[Observer] = []
        self._ready: list[Process] = []
        self._turn_set = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = False

    # --- opening and closing -------------------------------------------------------------------------

    async def __aenter__(self) -> Runtime:
        if self._opened:
            raise BadInput("this Runtime is open already; make another one")
        if self._probes:
            from weft.runtime.probes.runs import Probes

            self.probes = Probes(self._probes)
        given = self._given
        self.store: Store = (
            open_store(given, self._durability) if given is None or isinstance(given, str | Path) else given
        )
        self.host = asyncio.get_running_loop()
        self.clock = self.store.clock
        self.failure: asyncio.Future[StoreError] = self.host.create_future()
        self.journal = Committer(self.store, self.host, self._broke)
        self.rights = Rights(self, self.policy if self.policy is not None else ambient())
        self.gates = Gates(self)
        self.steps = Steps(self, self._threads)
        self.alarms = Alarms(self)
        self.people = People(self)
        self.ledger = Ledger(self)
        self.shared = Shared(self)
        self.post = Post(self)
        self.recovery = Recovery(self)
        self.starting = Starting(self)
        self.ends = Ends(self)
        programs = {name: workflow.version for name, workflow in registry.items()} if self.queues is not None else {}
        try:
            await self.store.register(self.owner, programs)
            await self.rights.refresh()
        except BaseException:
            await self.store.close()
            raise
        await self.rights.refresh()
        self.store.listen(self.hint, self.journal.fail)
        self.watch = Watch(self)
        guard.install()
        self._opened = True
        if self.queues is not None:
            self.worker = Worker(self, self.queues, self.slots)
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
        self.closing = True
        self._sweeper.cancel()
        self.watch.close()
        self.alarms.close()
        for task in list(self._tasks):
            task.cancel()
        for process in list(self.active.values()):
            evict(process)
            if process.row.state in (RUNNING, WAITING, QUEUED) and not self.journal.broken:
                process.row.owner = None
                self.journal.row(process.row)
        await asyncio.gather(*self._tasks, *self.steps.close(), return_exceptions=True)
        await self.ends.all_leave()
        try:
            if not self.journal.broken:
                await self.journal.barrier()
        finally:
            for id in list(self.ends.waiters):
                self.ends.tell(id, WeftError(f"run {id} was interrupted; continue it with: weft resume {id}"))
            self.active.clear()
            await self.store.close()

    async def drain(self, grace: float = 30.0) -> None:
        """Take nothing new in, and let the steps under way end, for up to `grace` seconds. Then close: what is
        unfinished is anybody's."""
        if self.worker is not None:
            self.worker.draining = True
        await self.steps.drain(grace)
        await self.close()

    def _broke(self, error: StoreError) -> None:
        """The journal can't be written: nothing more may happen."""
        self.log.error("%s", error)
        self.counters.lease_losses += isinstance(error, LeaseLost)
        settle(self.failure, error)
        for process in list(self.active.values()):
            evict(process)
        self.active.clear()
        for id in list(self.ends.waiters):
            self.ends.tell(id, error)

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
        run: Run[R] = await self.starting.here(workflow, args, kwargs)
        if len(self._ready) >= CROWD:
            await asyncio.sleep(0)  # let some of them come to rest before more are taken in
        return run

    async def run(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a run and wait for its result."""
        return await (await self.start(workflow, *args, **kwargs)).result()

    async def submit(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Leave a run to the workers of its queue (of "default" if it has none); durable on return."""
        self._check_open()
        run: Run[R] = await self.starting.anywhere(workflow, args, kwargs)
        return run

    def room(self, queue: str) -> int:
        """How many processes of this queue could be taken in that wait for anybody."""
        return 0 if self.worker is None else self.worker.room(queue)

    def put(self, row: ProcessRow) -> None:
        row.updated = self.clock()
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
        now = self.clock()
        for process in ready:
            process.queued = False
            if process.row.state == QUEUED and not process.over and not process.arrived:
                continue
            try:
                process.pump()
            except Exception as error:
                evict(process)
                self.ends.aborted(process, _as_weft(process.id, error))
            else:
                if not process.busy and len(process.pending) <= FEW:
                    park(process, now, PARK_AFTER, timed=True)
        self.journal.kick()

    def append(self, process: Writing, record: AnyRecord) -> None:
        self.journal.append(process.id, process.length, record)
        process.length += 1
        for observer in self.observers:
            observer(process.id, record)

    def observe(self, observer: Observer) -> None:
        """Call `observer(process id, record)` for every record appended from now on (for live displays)."""
        self.observers.append(observer)

    # --- processes ---------------------------------------------------------------------------------------

    async def end_of(self, id: str) -> ProcessRow:
        """The row of process `id` once it has ended, durably. Waits for it wherever it runs."""
        return await self.ends.of(id)

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

    def parked(self, process: Process, events: list[str], *, for_others: bool) -> None:
        """`for_others`: it waits for what others do, and they may have done it while this was being written."""
        row = process.row
        row.length = process.length
        self.active.pop(row.id, None)
        self.put(row)
        self.recovery.gone(row.id)
        if events:
            self.journal.batch.waits[row.id] = events
        if for_others:
            self.journal.when_durable(self.post.look)
        if row.wake_at is not None:
            self.alarms.expect(row.wake_at)

    # --- what others did ------------------------------------------------------------------------------------

    def hint(self, hint: Hint) -> None:
        """The store says what to look at."""
        match hint:
            case "news" | "event":
                self.post.look()
            case "ended":
                self.ends.look()
            case "rights":
                self.rights.look()
            case "owned":
                self.gates.ask_anew()
                self.task(self.recovery.reconcile())
            case "queue":
                self.gates.poke()
                if self.worker is not None:
                    self.worker.wake()

    def fault(self, error: StoreError) -> None:
        """A look at the store failed, and may have taken something whose answer was lost."""
        if not self.journal.broken and not self.closing:
            self.log.error("%s", error)
            self.host.call_later(1.0, self.hint, "owned")

    def _sweep(self) -> None:
        now = self.clock()
        for process in list(self.active.values()):
            if not process.busy and now - process.idle_since > SWEEP and park(process, now, PARK_AFTER, timed=False):
                continue
            for pending in process.pending.values():
                if pending.kind == "step" and not pending.noted and 0 < pending.started < now - 1:
                    process.note(pending, intent=False)
        self.kick()
        if self.store.changed():
            self.rights.look()
            self.post.look()
            self.ends.look()
            self.gates.poke()
        self._sweeper = self.host.call_later(SWEEP, self._sweep)

    async def send(self, id: str, box: str, value: Any) -> None:
        """Send a letter to a run, wherever it is executed. Durable on return."""
        self._check_open()
        if box.startswith("weft."):
            raise BadInput(f"box {box!r} is Weft's own; answer a question with runtime.answer(...) or `weft answer`")
        self.post.put((await self.post.address(id)).id, box, value)
        await self.journal.barrier()

    async def questions(self, queue: str | None = None) -> list[OpenQuestion]:
        """What processes of this store ask of people (of one queue, or of all), the oldest first."""
        self._check_open()
        return await self.people.questions(queue)

    async def answer(self, id: str, value: Any, *, who: str = "code") -> OpenQuestion:
        """Answer an open question, by its id or a part of it: a value of its type, or for an approval "once", "always"
        or "never". The process that asked goes on, wherever it is executed. Durable on return. Raises UnknownQuestion,
        and BadInput for a value that does not fit."""
        self._check_open()
        return await self.people.answer(id, value, who)

    async def release(self, id: str, sink: str, value: str, who: str = "host") -> None:
        """Let one value of a run go once to one place that is not cleared for it. `sink` and `value` are those of the
        ReleaseNeeded that it got; then it may try again. Durable on return. Raises UnknownRun, BadInput."""
        self._check_open()
        await release(self, id, sink, value, who)

    async def cancel(self, id: str) -> None:
        """Ask a run to stop, wherever it is executed. If nobody executes it, it is continued here to be cancelled."""
        self._check_open()
        row = await self.ends.present(id)
        check_present(row)
        if row.state in FINISHED:
            return
        self.post.put(row.id, CANCEL_BOX, None)
        await self.journal.barrier()
        if row.id not in self.active:
            with contextlib.suppress(RunBusy):  # its executor finds the letter
                await self.resume(row.id)

    async def signal(self, id: str, what: Signal, *, tree: bool = False) -> None:
        """Pause a process, or kill it, wherever it is executed; with `tree`, all below it too. A paused one ends the
        steps under way and begins no others, until somebody resumes it. A killed one stops at once, cleans nothing up,
        and takes all below it along. "resume" lets a paused one go on: with the workers, if it has a queue or they
        serve its workflow; `Runtime.resume` lets it go on here. Durable on return."""
        self._check_open()
        await signal(self, id, what, tree)

    # --- time travel --------------------------------------------------------------------------------------------

    async def fork(
        self,
        id: str,
        *,
        at: int,
        input: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
        value: Any = ...,
        policy: Policy | None = None,
    ) -> Run[Any]:
        """A new run with the history of `id` up to effect number `at`, which is made anew, as is all after it.

        `input`: other arguments `(args, kwargs)` for the workflow. `value`: take this as the outcome of effect
        `at` instead of making it. The code is what is declared now: history that does not fit it is a Divergence.
        It holds what `id` held when it began, and what `policy` allows, asks for and denies besides.
        """
        self._check_open()
        return await fork(self, id, at, input, value, policy)

    # --- checkpoints --------------------------------------------------------------------------------------------

    async def checkpoint(self, id: str, name: str = "", note: str = "") -> str:
        """Remember a process and all below it as they are now, wherever they are executed; returns the checkpoint's id.
        They are not stopped. Durable on return."""
        self._check_open()
        return await checkpoint.create(self, id, name, note)

    async def checkpoints(self, id: str | None = None) -> list[Checkpoint]:
        """Those of process `id`, or all, the newest first."""
        self._check_open()
        await self.journal.barrier()
        return await self.store.checkpoints(id)

    async def fork_checkpoint(self, checkpoint_id: str, *, here: bool = True) -> Run[Any]:
        """A new run that goes on from a checkpoint (given by id or name), with all that was below it; the origin goes
        on as it is. It has its origin's rights, but for those revoked (whenever that is) or used only so often, and
        spends its origin's budget. `here`: execute it in this runtime, else leave it to workers. Raises
        UnknownCheckpoint."""
        self._check_open()
        return await checkpoint.fork(self, checkpoint_id, here)

    async def restore(self, checkpoint_id: str, *, here: bool = True) -> Run[Any]:
        """Go back to a checkpoint: fork it, and end what goes on now (its origin with all below it, or what it was
        restored as before) in the same transaction. Who waits for the old run waits for the new one; effects done
        since are not undone (`effects_since`). Raises UnknownCheckpoint; RunBusy if another runtime does not end what
        it executes."""
        self._check_open()
        return await checkpoint.restore(self, checkpoint_id, here)

    async def effects_since(self, checkpoint_id: str) -> list[Touch]:
        """What was done outside since a checkpoint was made, or is under way, by its origin and all below it: the
        oldest first. Raises UnknownCheckpoint."""
        self._check_open()
        await self.journal.barrier()
        return await effects_since(self.store, await checkpoint.find(self.store, checkpoint_id), self.active)


def _as_weft(id: str, error: Exception) -> WeftError:
    return error if isinstance(error, WeftError) else WeftError(f"run {id} could not go on: {error!r}")

"""How processes begin: here, in line for their queue, or left to the workers of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weft.core.codec import encode_args
from weft.core.errors import BadInput, KeyConflict, RunBusy
from weft.core.ids import new_id
from weft.core.queue import Queue, find_queue
from weft.core.record import to_column
from weft.core.workflow import Workflow
from weft.runtime import scan
from weft.runtime.beginning import Beginning
from weft.runtime.handle import Run
from weft.runtime.process import Process
from weft.store.base import FINISHED, PAUSED, QUEUED, RUNNING, ProcessRow

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

DEFAULT_QUEUE = "default"
"""Where what is submitted without a queue waits."""


class Starting:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.entered: set[str] | None = None
        """Processes that came into memory since this was set (by `Recovery.reconcile`)."""
        self.inserting: set[str] = set()
        """What nothing else takes into memory: runs with a key that the store may have already, which begin when it has
        answered; and those that are ended to be restored."""

    async def here(self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run[Any]:
        row, input = self._new(workflow, args, kwargs)
        return await self._once(workflow, row, lambda: self.begin(row, input), here=True)

    async def anywhere(self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run[Any]:
        """Leave a run to the workers of its queue; durable on return."""
        row, _ = self._new(workflow, args, kwargs)
        row.state, row.owner, row.queue = QUEUED, None, row.queue or DEFAULT_QUEUE
        run = await self._once(workflow, row, lambda: self._hand_over(row), here=False)
        await self.runtime.journal.barrier()
        return run

    def _new(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ProcessRow, bytes]:
        if not isinstance(workflow, Workflow):
            raise BadInput(f"{workflow!r} is not a workflow; mark the function with @weft.workflow")
        scan.check(workflow.fn)
        workflow.bind(args, kwargs)
        input = self.runtime.journal.clean(encode_args(args, kwargs, workflow.name, workflow.names))
        return self.new_row(workflow, input), input

    async def _once(
        self, workflow: Workflow[..., Any], row: ProcessRow, begin: Callable[[], None], *, here: bool
    ) -> Run[Any]:
        """Begin, unless the idempotency key was used before: then it is the first run that counts. `here`: it may be
        continued by this runtime."""
        runtime = self.runtime
        if workflow.id is not None and await runtime.store.row(workflow.id) is not None:
            raise BadInput(f"a run with id {workflow.id!r} exists; choose another id, or use an idempotency key")
        if row.key is None:
            begin()
            return Run(runtime, row.id)
        await runtime.journal.barrier()
        self.inserting.add(row.id)
        try:
            known = await runtime.store.insert(row)
            if known is None:
                begin()
        finally:
            self.inserting.discard(row.id)
        return Run(runtime, row.id) if known is None else await self._again(row, known, here)

    async def _again(self, row: ProcessRow, known: ProcessRow, here: bool) -> Run[Any]:
        if known.workflow != row.workflow or known.input != row.input:
            raise KeyConflict(
                f"key {row.key!r} belongs to run {known.id} of {known.workflow} with other input; use another key"
            )
        left = known.state == PAUSED or (known.state == QUEUED and known.owner is None)
        if here and known.state not in FINISHED and known.id not in self.runtime.active and not left:
            try:
                return await self.runtime.resume(known.id)
            except RunBusy:
                pass  # somebody runs it: its handle waits
        return Run(self.runtime, known.id)

    def new_row(
        self, workflow: Workflow[..., Any], input: bytes, *, parent: Process | None = None, image: bytes = b""
    ) -> ProcessRow:
        """`input`: encoded arguments, without secrets. `image`: if it is not the one that the workflow gets."""
        runtime = self.runtime
        now = runtime.clock()
        id = workflow.id or new_id(now)
        return ProcessRow(
            id=id,
            workflow=workflow.name,
            source=workflow.source,
            version=workflow.version,
            parent=None if parent is None else parent.id,
            key=workflow.key,
            queue=workflow.queue.name if workflow.queue else None,
            priority=workflow.priority,
            tenant=workflow.tenant,
            created=now,
            updated=now,
            owner=runtime.owner,
            input=to_column(runtime.journal.keep(id, input)),
            image=image or runtime.rights.of(workflow, parent),
        )

    def begin(self, row: ProcessRow, input: bytes) -> None:
        """Enter a new process; its row is durable with its first records. A worker leaves those with a queue to
        whoever serves it, perhaps itself."""
        self.runtime.ledger.open(row)
        if row.queue is None:
            self.enter(self._process(row, input), None)
            return
        row.state = QUEUED
        if self.runtime.worker is None:
            self.enter(self._process(row, input), find_queue(row.queue))
        else:
            self._hand_over(row)

    def _process(self, row: ProcessRow, input: bytes) -> Process:
        return Process(self.runtime, row, Beginning(row.workflow, input, row.image, row.id))

    def _hand_over(self, row: ProcessRow) -> None:
        row.owner = None
        self.runtime.ledger.open(row)
        self.runtime.put(row)
        self.runtime.journal.when_durable(self.runtime.gates[find_queue(row.queue or DEFAULT_QUEUE)].poke)

    def enter(self, process: Process, queue: Queue | None, *, written: bool = False) -> None:
        """Take a process into memory; it begins in the next turn, or when its queue admits it. `written`: the store
        has its row as it is."""
        row, runtime = process.row, self.runtime
        runtime.active[row.id] = process
        runtime.ledger.open(row, process.rights.image)  # a fork has none yet, nor one that died before it was written
        if row.id not in runtime.journal.links:
            runtime.journal.opened(row)
        runtime.ends.stuck.pop(row.id, None)
        if self.entered is not None:
            self.entered.add(row.id)
        in_line = queue is not None and row.state == QUEUED
        if not in_line:
            written = written and row.state == RUNNING
            row.state = RUNNING
            runtime.wake(process)
        if not written:
            runtime.put(row)
        if queue is not None and in_line:
            runtime.gates[queue].queue_up(row.id, lambda _: self._admitted(process))

    def _admitted(self, process: Process) -> None:
        if not process.over:
            process.row.state = RUNNING
            self.runtime.wake(process)

"""Bringing processes back: those another runtime left, and our own that were parked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from weft.core.errors import CrashLoop, RunBusy, StoreCorrupt, StoreError, WeftError
from weft.core.queue import find_queue
from weft.core.record import AnyRecord, Blob, Started, decode_records, from_column
from weft.core.workflow import find_workflow, registry
from weft.runtime.beginning import Beginning, beginning
from weft.runtime.handle import Run
from weft.runtime.process import Process
from weft.store.base import (
    CLAIMABLE,
    FINISHED,
    MAX_STRIKES,
    PAUSED,
    QUEUED,
    RUNNING,
    UNFINISHED,
    WAITING,
    ProcessRow,
    Segment,
)
from weft.store.handover import check_present

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

PARK_AFTER = 2.0
"""Seconds: a process that sleeps longer than this leaves memory."""


class Recovery:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._left: dict[str, int] = {}
        """Processes that left memory, and the number of the batch that says so."""
        self.brought: set[str] = set()
        """Processes that were brought into memory here, and that the store does not know to have left it."""
        self._readers: list[set[str]] = []
        self._read = asyncio.Event()
        """Set when the next of them is done."""

    # --- what the store says may be old ------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[set[str]]:
        """While rows are read and acted on: the processes that left memory meanwhile, or so lately that the store
        may not know. What was read of them is to be read again."""
        durable = self.runtime.journal.durable
        self._left = {id: number for id, number in self._left.items() if number > durable}
        left = set(self._left)
        self._readers.append(left)
        try:
            yield left
        finally:
            self._readers = [reader for reader in self._readers if reader is not left]
            self._read.set()
            self._read = asyncio.Event()

    async def _others_end(self, mine: set[str]) -> None:
        """Wait until all others who are reading now have acted on it."""
        others = [reader for reader in self._readers if reader is not mine]
        while any(reader is other for reader in self._readers for other in others):
            await self._read.wait()

    def gone(self, id: str) -> None:
        """Process `id` has left memory, by what is in the open batch."""
        self._left[id] = self.runtime.journal.ticket
        self.runtime.journal.closed.add(id)
        self.runtime.journal.when_durable(partial(self.brought.discard, id))
        for left in self._readers:
            left.add(id)

    # --- taking in ---------------------------------------------------------------------------------------

    async def resume(self, id: str, force: bool, states: Sequence[str] = UNFINISHED) -> None:
        """`states`: only if it is in one of these."""
        runtime = self.runtime
        row = await runtime.row(id)
        check_present(row)
        if id in runtime.active or row.state not in states:
            return
        find_workflow(row.workflow)
        with self.reading() as left:
            taken = await runtime.store.claim(runtime.owner, [id], states=states)
            if taken:
                await self._go_on(taken[0], left, force)
                return
        row = await runtime.row(id)
        if row.owner == runtime.owner:
            await self.revive([id])
        elif row.state in states:
            raise RunBusy(
                f"run {id} is being executed by another process ({row.owner}); wait for it or stop that one (if it has "
                f"just died, a server takes some seconds to be sure of that: try again)"
            )

    async def resume_all(self) -> list[Run[Any]]:
        runtime = self.runtime
        rows = await runtime.store.rows(states=(RUNNING, WAITING, QUEUED), limit=1_000_000)
        for missing in {row.workflow for row in rows} - registry.keys():
            runtime.log.warning("runs of %s are left as they are: that workflow is not declared here", missing)
        wanted = [row.id for row in rows if row.workflow in registry]
        with self.reading() as left:
            claimed = await runtime.store.claim(runtime.owner, wanted, len(wanted))
            return [Run[Any](runtime, row.id) for row in await self.take(claimed, left)]

    async def take(self, rows: Sequence[ProcessRow], left: set[str]) -> list[ProcessRow]:
        """Go on with rows that were just claimed, but for those that keep killing their process; returns the others."""
        taken, now = [], []
        for row in rows:
            try:
                if await self._comes_now(row, force=False):
                    now.append(row)
                taken.append(row)
            except CrashLoop as error:
                self.runtime.log.error("%s", error)
                self.runtime.ends.stuck[row.id] = error
        await self.activate(now, left)
        return taken

    async def _go_on(self, row: ProcessRow, left: set[str], force: bool) -> None:
        """Go on with a row that was just claimed. Raises CrashLoop unless `force`."""
        if await self._comes_now(row, force):
            await self.activate([row], left)
            if row.id in self.runtime.ends.stuck:
                raise self.runtime.ends.stuck[row.id]

    async def _comes_now(self, row: ProcessRow, force: bool) -> bool:
        """Whether a claimed row is to be executed now; not if it sleeps on."""
        if row.strikes >= MAX_STRIKES and not force:
            started = [f"{r.name} ({r.place})" for r in await self.records(row.id) if isinstance(r, Started)]
            await self.give_back([row])
            raise CrashLoop(
                f"run {row.id} ({row.workflow}) has killed its process {row.strikes} times without progress, last "
                f"started: {', '.join(started[-3:]) or 'unknown'}; mend that step, then weft resume {row.id} --force"
            )
        later = row.state == WAITING and row.wake_at is not None and row.wake_at > self.runtime.clock() + PARK_AFTER
        if not later or await self.runtime.store.inbox([row.id]):
            return True
        assert row.wake_at is not None
        self.runtime.alarms.expect(row.wake_at)
        return False

    async def set_going(self, rows: Sequence[ProcessRow], *, here: bool) -> None:
        """Execute those of these that nobody does: here, or by the workers of their queues."""
        runtime = self.runtime
        for_workers = {row.id for row in rows if row.state == QUEUED and (runtime.worker is not None or not here)}
        ids = [row.id for row in rows if here and row.state in CLAIMABLE and row.id not in for_workers]
        with self.reading() as left:
            await self.take(await runtime.store.claim(runtime.owner, ids, len(ids)), left)
        runtime.gates.poke()
        if runtime.worker is not None:
            runtime.worker.wake()

    async def give_back(self, rows: Sequence[ProcessRow]) -> None:
        """Let others have processes that were just claimed; durable on return."""
        for row in rows:
            row.owner = None
            self.runtime.put(row)
        await self.runtime.journal.barrier()

    async def activate(self, rows: Sequence[ProcessRow], left: set[str], *, written: bool = False) -> None:
        """Bring processes of ours into memory, to be replayed in the next turn. One that can't go on is given back
        and its waiters are told. `left`: of the `reading` of these rows. `written`: the store has them as they are,
        running."""
        runtime = self.runtime
        rows = [row for row in rows if row.id not in runtime.active and row.id not in runtime.starting.inserting]
        if not rows:
            return
        old = [row.id for row in rows if row.length or row.state == WAITING or row.started]
        segments = _by_process(await runtime.store.segments(old)) if old else {}
        inbox = _by_process(await runtime.store.inbox([row.id for row in rows]))
        late: list[str] = []
        for row in rows:
            if row.id in runtime.active:
                continue
            if row.id in left:
                late.append(row.id)
                continue
            try:
                records = self.decoded(row.id, segments.get(row.id, []))
                begin = await self._beginning(row, records)
            except WeftError as error:
                if isinstance(error, StoreError) and not isinstance(error, StoreCorrupt):
                    raise
                await self.give_back([row])
                runtime.ends.stuck[row.id] = error
                runtime.ends.tell(row.id, error)
                continue
            if row.id in runtime.active or row.id in left:
                late.append(row.id)
                continue
            if row.state == WAITING:
                runtime.journal.batch.waits[row.id] = []
            runtime.journal.opened(row, segments.get(row.id, ()))
            row.wake_at = None
            if row.state == PAUSED:
                row.state = RUNNING if row.queue is None else QUEUED  # it has given its place in the queue away
            process = Process(runtime, row, begin, len(records))
            self.brought.add(row.id)
            runtime.starting.enter(process, find_queue(row.queue) if row.queue else None, written=written)
            process.mail.put(inbox.get(row.id, []))
        if late:
            await self.revive(late)

    async def _beginning(self, row: ProcessRow, records: list[AnyRecord]) -> Beginning:
        """Where a process begins, with all that its program needs from the store."""
        begin = beginning(row, records)
        find_workflow(begin.workflow)
        if isinstance(begin.input, Blob):
            begin = begin._replace(input=await self.runtime.store.payload(begin.input.hash))
        await self.runtime.rights.image(begin.image, carried=begin.number > 0)
        return begin

    async def revive(self, ids: Sequence[str]) -> None:
        """Wake those of these processes that are ours and parked."""
        runtime = self.runtime
        await runtime.journal.barrier()
        with self.reading() as left:
            rows = [await runtime.store.row(id) for id in ids if id not in runtime.active]
            ours = [row for row in rows if row is not None and row.owner == runtime.owner and row.state not in FINISHED]
            await self.activate([row for row in ours if row.state != QUEUED], left)

    async def reconcile(self) -> None:
        """Take in processes that the store gave us in an answer which got lost."""
        runtime, starting = self.runtime, self.runtime.starting
        if starting.entered is not None or runtime.closing:
            return  # under way
        there, starting.entered = set(runtime.active), set()
        try:
            await runtime.journal.barrier()
            with self.reading() as left:
                before = {row.id for row in await runtime.store.owned(runtime.owner)}
                await self._others_end(left)  # what they are about to take in, or to give back, is no lost answer
                rows = [row for row in await runtime.store.owned(runtime.owner) if row.id in before]
                for row in rows:
                    if row.state == RUNNING and row.queue is not None:
                        runtime.gates[find_queue(row.queue)].let_in(row)
                await self.take([row for row in rows if row.id not in there | starting.entered], left)
        except StoreError as error:
            runtime.fault(error)
        finally:
            starting.entered = None

    async def records(self, id: str) -> list[AnyRecord]:
        """The journal of process `id`. StoreCorrupt if it can't be read."""
        return self.decoded(id, await self.runtime.store.segments([id]))

    def decoded(self, id: str, segments: Sequence[Segment]) -> list[AnyRecord]:
        """All records of a journal. StoreCorrupt if it can't be read."""
        records: list[AnyRecord] = []
        for segment in segments:
            if segment.first != len(records):
                raise _damaged(id, len(records), "records are missing")
            try:
                records += decode_records(segment.records)
            except msgspec.MsgspecError as error:
                raise _damaged(id, segment.first, error) from None
        return records

    async def opened(self, row: ProcessRow) -> ProcessRow:
        """The row with the contents of its payloads instead of their names."""
        found: dict[str, bytes] = {}
        for name in ("input", "result", "error"):
            value = from_column(getattr(row, name) or b"")
            if isinstance(value, Blob):
                found[name] = await self.runtime.store.payload(value.hash)
        return replace(row, **found) if found else row

    def fetch(self, process: Process, blob: Blob) -> None:
        """Bring a large payload that `process` needs for its replay."""

        async def fetch() -> None:
            try:
                process.blobs[blob.hash] = await self.runtime.store.payload(blob.hash)
            except WeftError as error:
                process.error = error
            self.runtime.wake(process)

        self.runtime.task(fetch())


def _by_process(items: Sequence[Any]) -> dict[str, list[Any]]:
    """Segments or messages, by their process."""
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(item.process, []).append(item)
    return found


def _damaged(id: str, number: int, why: object) -> StoreCorrupt:
    return StoreCorrupt(f"the journal of run {id} is damaged at record {number}: {why}; restore a backup of the store")

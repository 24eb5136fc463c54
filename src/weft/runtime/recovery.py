"""Bringing processes back: those another operating-system process left, and our own that were parked."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from weft.core.declare import find_workflow, queues, registry
from weft.core.errors import CrashLoop, RunBusy, StoreCorrupt, WeftError
from weft.core.record import AnyRecord, Blob, Started, decode_records, from_column
from weft.runtime.handle import Run
from weft.runtime.process import Process
from weft.store.base import FINISHED, QUEUED, RUNNING, WAITING, ProcessRow

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

PARK_AFTER = 2.0
"""Seconds: a process that sleeps longer than this leaves memory."""
MAX_STRIKES = 5
"""A run found orphaned this often without any progress is not started again by itself."""


class Recovery:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def resume(self, id: str, force: bool) -> None:
        runtime = self.runtime
        row = await runtime.row(id)
        if id in runtime.active or row.state in FINISHED:
            return
        find_workflow(row.workflow)
        taken = await runtime.store.claim(runtime.owner, [id])
        if taken:
            await self._take(taken[0], force)
            return
        row = await runtime.row(id)
        if row.owner == runtime.owner:
            await self.revive(id)
        elif row.state not in FINISHED:
            raise RunBusy(f"run {id} is being executed by another process ({row.owner}); wait for it or stop that one")

    async def resume_all(self) -> list[Run[Any]]:
        runtime = self.runtime
        rows = await runtime.store.rows(states=(RUNNING, WAITING, QUEUED), limit=1_000_000)
        for missing in {row.workflow for row in rows} - registry.keys():
            runtime.log.warning("runs of %s are left as they are: that workflow is not declared here", missing)
        wanted = [row.id for row in rows if row.workflow in registry]
        runs = []
        for row in await runtime.store.claim(runtime.owner, wanted, len(wanted)):
            try:
                await self._take(row, False)
                runs.append(Run[Any](runtime, row.id))
            except CrashLoop as error:
                runtime.log.error("%s", error)
        return runs

    async def _take(self, row: ProcessRow, force: bool) -> None:
        """Go on with a row that was just claimed."""
        if row.strikes >= MAX_STRIKES and not force:
            started = [f"{r.name} ({r.place})" for r in await self.records(row.id) if isinstance(r, Started)]
            await self._give_back(row)
            raise CrashLoop(
                f"run {row.id} ({row.workflow}) has killed its process {row.strikes} times without progress, last "
                f"started: {', '.join(started[-3:]) or 'unknown'}; mend that step, then weft resume {row.id} --force"
            )
        later = row.state == WAITING and row.wake_at is not None and row.wake_at > time() + PARK_AFTER
        if later and not await self.runtime.store.inbox(row.id):
            assert row.wake_at is not None
            self.runtime.alarms.expect(row.wake_at)
        else:
            await self.activate(row)

    async def _give_back(self, row: ProcessRow) -> None:
        row.owner = None
        self.runtime.put(row)
        await self.runtime.journal.barrier()

    async def activate(self, row: ProcessRow, *, woken: bool = False) -> None:
        """Bring a process of ours into memory, to be replayed in the next turn. `woken`: by its time, and the store
        knows that it is running."""
        runtime = self.runtime
        try:
            find_workflow(row.workflow)
            records = await self.records(row.id)
            input = (await self.opened(row)).input
        except WeftError as error:
            await self._give_back(row)
            runtime.tell(row.id, error)
            raise
        if row.id in runtime.active:
            return
        queue = queues.get(row.queue) if row.queue else None
        if row.queue and queue is None:
            runtime.log.warning("queue %r of run %s is not declared here: no limit applies", row.queue, row.id)
        if row.state == WAITING:
            runtime.journal.batch.waits[row.id] = []
        row.wake_at = None
        process = Process(runtime, row, input, records)
        runtime.enter(process, queue, written=woken)
        process.mail.put(await runtime.store.inbox(row.id))

    async def revive(self, id: str) -> None:
        """Wake a parked process, if it is ours."""
        await self.runtime.journal.barrier()
        row = await self.runtime.store.row(id)
        if row is not None and row.owner == self.runtime.owner and row.state not in FINISHED:
            await self.activate(row)

    async def records(self, id: str) -> list[AnyRecord]:
        """The journal of process `id`. StoreCorrupt if it can't be read."""
        records: list[AnyRecord] = []
        for segment in await self.runtime.store.segments(id):
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


def _damaged(id: str, number: int, why: object) -> StoreCorrupt:
    return StoreCorrupt(f"the journal of run {id} is damaged at record {number}: {why}; restore a backup of the store")

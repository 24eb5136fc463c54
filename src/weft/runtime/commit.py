"""Group commit: what became known goes to the store in as few transactions as the disk allows.

Appending is only a list append. Everything appended while one transaction is being written goes into the next
one. Nobody waits for that except an effect that touches the outside world and the result of a run: they ask for
a *barrier* and go on when all that was appended before it is durable (output commit).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import TypeVar

from weft.core.chain import link
from weft.core.errors import StoreError
from weft.core.record import AnyRecord, Blob, Value, encode_records, hashed
from weft.core.secret import Redactor
from weft.store.base import Batch, ProcessRow, Segment, Store
from weft.store.links import audit_key, origin

T = TypeVar("T")

LINGER = 0.005
"""Seconds that records nobody waits for may gather before they are written."""


def settle(future: asyncio.Future[T], value: T) -> None:
    """Set a future's result unless it has one or was cancelled."""
    if not future.done():
        future.set_result(value)


class Committer:
    """One per runtime. `failed` is called once if the store can't be written; then nothing is durable any more."""

    def __init__(self, store: Store, host: asyncio.AbstractEventLoop, failed: Callable[[StoreError], None]) -> None:
        self.store = store
        self.host = host
        self.failed = failed
        self.redactor = Redactor()
        self.batch = Batch()
        self.records: dict[str, tuple[int, list[AnyRecord]]] = {}
        self.ticket = 1  # number of the open batch
        self.durable = 0  # number of the last batch on disk
        self.waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.in_flight = False
        self.broken: StoreError | None = None
        self.barriers: set[asyncio.Future[None]] = set()
        self.key = audit_key()
        self.links: dict[str, bytes] = {}
        """The last link of each journal that is written here."""
        self.closed: set[str] = set()
        """Journals that nobody here writes to after the open batch."""

    # --- what is to be written -----------------------------------------------------------------------

    def append(self, process: str, number: int, record: AnyRecord) -> None:
        """Record `number` of `process` (from 0)."""
        entry = self.records.get(process)
        if entry is None:
            self.records[process] = (number, [record])
        else:
            entry[1].append(record)

    def opened(self, row: ProcessRow, segments: Sequence[Segment] = ()) -> None:
        """Its journal will be written here; `segments` are what it has."""
        self.closed.discard(row.id)
        self.links[row.id] = segments[-1].chain if segments else origin(row, self.key)

    def row(self, row: ProcessRow) -> None:
        self.batch.rows[row.id] = row

    def value(self, process: str, data: bytes) -> Value:
        """`data` as a journal holds it: without secrets, and by content hash if large."""
        return self.keep(process, self.clean(data))

    def clean(self, data: bytes) -> bytes:
        """The same bytes, unless there is a secret in them."""
        return self.redactor.redact(data) or data

    def keep(self, process: str, data: bytes) -> Value:
        found = hashed(data)
        if isinstance(found, Blob):
            self.batch.payloads[found.hash] = data
            self.batch.references.add((process, found.hash))
        return found

    # --- when it is written ---------------------------------------------------------------------------

    def kick(self) -> None:
        """Called at the end of each turn: write now if somebody waits, else soon."""
        if self.in_flight or not (self.records or self.batch):
            return
        if self.waiting:
            self._submit()
        elif self.timer is None:
            self.timer = self.host.call_later(LINGER, self._submit)

    def when_durable(self, then: Callable[[], None]) -> None:
        """Call `then` once everything appended so far is durable (at once if it is)."""
        ticket = self.ticket if self.records or self.batch else self.ticket - 1
        if ticket <= self.durable:
            then()
        elif self.broken is None:
            self.waiting.append((ticket, then))

    async def barrier(self) -> None:
        """Return once everything appended so far is durable; raises the store's error if it can't be."""
        if self.broken:
            raise self.broken
        done: asyncio.Future[None] = self.host.create_future()
        self.barriers.add(done)
        try:
            self.when_durable(partial(settle, done, None))
            self.kick()
            await done
        finally:
            self.barriers.discard(done)

    def _submit(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.in_flight or self.broken or not (self.records or self.batch):
            return
        batch, self.batch = self.batch, Batch()
        records, self.records = self.records, {}
        batch.segments = [self._segment(id, first, items) for id, (first, items) in records.items()]
        for id in self.closed:
            self.links.pop(id, None)
        self.closed.clear()
        batch.rows = {id: copy(row) for id, row in batch.rows.items()}  # they live on while this is written
        self.in_flight = True
        self.ticket += 1
        self.store.commit(batch, self._written)

    def _segment(self, id: str, first: int, items: Sequence[AnyRecord]) -> Segment:
        records = encode_records(items)
        chain = self.links[id] = link(self.links[id], id, first, records, self.key)
        return Segment(id, first, records, chain)

    def fail(self, error: StoreError) -> None:
        """Nothing can be written any more."""
        if self.broken is not None:
            return
        self.broken = error
        self.waiting.clear()
        for done in self.barriers:
            if not done.done():
                done.set_exception(error)
        self.failed(error)

    def _written(self, error: BaseException | None) -> None:
        self.in_flight = False
        if error is not None:
            self.fail(error if isinstance(error, StoreError) else StoreError(f"the journal was not written: {error}"))
            return
        self.durable = self.ticket - 1
        while self.waiting and self.waiting[0][0] <= self.durable:
            self.waiting.popleft()[1]()
        self.kick()

"""What a store must do: keep processes, their journals, and the mail between them.

A journal is a list of *segments*: each is a msgpack array of records (opaque here) with the sequence number
of its first record. All writes of one turn travel in one `Batch`, which is one transaction. Reads are
coroutines so that a store may live on a network; the embedded one answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

RUNNING, WAITING, QUEUED = "running", "waiting", "queued"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
FINISHED = (DONE, FAILED, CANCELLED)

Done = Callable[[BaseException | None], None]


class ProcessRow(msgspec.Struct, kw_only=True):
    """One process. Times are seconds since the epoch; `input`, `result` and `error` are codec
    bytes, or name a payload (`weft.core.record.from_column`)."""

    id: str
    workflow: str
    """Registered name, `module.qualname` unless given."""
    source: str = ""
    """File that declares the workflow, to load it again."""
    version: str = ""
    """Digest of the workflow's code when the run began."""
    state: str = RUNNING
    parent: str | None = None
    """Set for children, detached ones too."""
    forked: str | None = None
    """`<run id>@<effect number>` this run was forked from."""
    key: str | None = None
    """Idempotency key, unique in the store."""
    queue: str | None = None
    priority: int = 0
    created: float = 0.0
    started: float = 0.0
    """When the body began: where its clock begins. 0 before."""
    updated: float = 0.0
    wake_at: float | None = None
    """When a parked process wants to run again."""
    owner: str | None = None
    """Runtime that executes it; None when nobody does."""
    strikes: int = 0
    """Times in a row that the run was found orphaned; an outcome sets it back."""
    length: int = 0
    """Number of records in the journal."""
    input: bytes = b""
    result: bytes | None = None
    error: bytes | None = None


class Segment(msgspec.Struct):
    process: str
    first: int
    records: bytes


class Message(msgspec.Struct):
    id: int
    """Assigned by the store, increasing; 0 before."""
    process: str
    box: str
    payload: bytes


class Batch(msgspec.Struct):
    """All writes of one transaction, applied in the order of the fields below."""

    payloads: dict[bytes, bytes] = {}
    """Content hash -> bytes of large values; already stored ones are skipped."""
    references: set[tuple[str, bytes]] = set()
    """(process, content hash): which process needs which payload."""
    rows: dict[str, ProcessRow] = {}
    """Inserted, or updated by id: what a process is (workflow, input, parent, key …) never changes."""
    segments: list[Segment] = []
    messages: list[Message] = []
    taken: list[int] = []
    """Ids of messages that were delivered (deleted)."""
    events: list[tuple[str, bytes, str]] = []
    """(key, value, publishing process): last value wins."""
    waits: dict[str, list[str]] = {}
    """Parked process -> event keys it waits for (replaces; empty removes)."""

    def __bool__(self) -> bool:
        return any((self.payloads, self.rows, self.segments, self.messages, self.taken, self.events, self.waits))


class Store(Protocol):
    """Errors: every method raises a `StoreError` subclass that names the file or server and says what to do."""

    url: str

    def commit(self, batch: Batch, done: Done) -> None:
        """Apply `batch` in one transaction; call `done(None)` (or with the error) on the opening loop's thread
        once it is durable. Batches are applied in the order given. May call `done` before returning."""

    async def insert(self, row: ProcessRow) -> ProcessRow | None:
        """Insert a row that has an idempotency key, at once and durably. The existing row if the key is taken."""

    async def row(self, id: str) -> ProcessRow | None: ...
    async def find(self, part: str) -> list[str]:
        """Ids that contain `part` (at most 10)."""

    async def rows(
        self,
        *,
        states: Sequence[str] = (),
        roots: bool = False,
        parent: str | None = None,
        before: float | None = None,
        limit: int = 1000,
    ) -> list[ProcessRow]:
        """Newest first. `before`: last updated earlier than that."""

    async def segments(self, process: str) -> list[Segment]:
        """In order of `first`."""

    async def payload(self, hash: bytes) -> bytes: ...
    async def inbox(self, process: str) -> list[Message]: ...
    async def mail(self, owner: str) -> list[str]:
        """Processes of `owner` that have letters."""

    async def wake(self, ids: Sequence[str], at: float) -> None:
        """Set `wake_at` of waiting processes, at once."""

    async def event(self, key: str) -> bytes | None: ...
    async def waiting(self, key: str) -> list[str]:
        """Processes parked on event `key`."""

    async def claim(self, owner: str, ids: Iterable[str] | None = None, limit: int = 1000) -> list[ProcessRow]:
        """Take unfinished processes that nobody alive owns (all of them, or those of `ids`); returns the rows
        taken, with `owner` set. One taken in state running from a dead owner gets `strikes + 1`."""

    async def due(self, owner: str, now: float, limit: int) -> list[ProcessRow]:
        """Waiting processes of `owner` with `wake_at <= now`, earliest first; from now on they are running."""

    async def next_wake(self, owner: str) -> float | None: ...
    async def alive(self, owner: str) -> bool:
        """Whether the runtime with this name still lives."""

    def changed(self) -> bool:
        """Whether another connection has written since the last call (cheap; polled)."""

    async def register(self, owner: str) -> None:
        """Make `owner` alive until `close` or the death of the operating-system process."""

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete finished processes with journals, mail and the payloads nobody else needs. Returns how many."""

    async def close(self) -> None: ...

"""What a store must do: keep processes, their journals, and the mail between them.

A journal is a list of *segments*: each is a msgpack array of records (opaque here) with the sequence number
of its first record. All writes of one turn travel in one `Batch`, which is one transaction. Reads are
coroutines so that a store may live on a network; the embedded one answers at once.

Who executes a process is its *owner*, a runtime that `register`ed. An owner lives as long as its lease; what a
dead one left is anybody's to `claim`, and the dead can write nothing more (`LeaseLost`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec.structs import astuple

from weft.core.errors import StoreError
from weft.core.memory import Level
from weft.core.queue import Queue
from weft.core.record import Blob, Value, length_of
from weft.store.ledger import Account, Charge, Refusal
from weft.store.memory import Commit, Hold, Look, Object, Operation, Past, Retraction, Space, Verdict

RUNNING, WAITING, QUEUED, PAUSED = "running", "waiting", "queued", "paused"
CLAIMABLE = (RUNNING, WAITING, QUEUED)
UNFINISHED = (*CLAIMABLE, PAUSED)
"""`paused`: executed and owned by nobody until somebody claims it by its id."""
DONE, FAILED, CANCELLED, KILLED, MOVED = "done", "failed", "cancelled", "killed", "moved"
FINISHED = (DONE, FAILED, CANCELLED, KILLED, MOVED)
"""`moved`: the run goes on in another store, which `error` names."""
ARRIVING = "arriving"
"""Neither finished nor unfinished: it is being brought here from another store (`weft.store.handover`), so nobody may
execute or delete it."""

Done = Callable[[BaseException | None], None]
Hint = Literal["news", "ended", "event", "queue", "owned", "rights"]
"""What to look at again: letters and alarms of our processes; ends of processes elsewhere; events; queues;
processes that are ours by an answer that got lost; revocations."""

MAX_STRIKES = 5
"""A run found orphaned this often without any progress is not started again by itself."""
SUSPECT = MAX_STRIKES - 2
"""Strikes from which on a worker takes a process in on trial, one at a time."""

COPY = "copy-"
"""How the names of owners begin that hold processes and never execute them (`weft.store.copy`)."""

ENDED = "process:"
"""Before a process's id: the key under which its end is waited for."""


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
    """`<run id>@<effect number>` or `<run id>@<checkpoint>` this run was forked from."""
    key: str | None = None
    """Idempotency key, unique in the store."""
    queue: str | None = None
    priority: int = 0
    tenant: str = ""
    """On whose behalf: those of one queue take turns."""
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
    image: bytes = b""
    """Content hash of what it executes and with which rights (`Batch.images`); empty: none."""


class Segment(msgspec.Struct):
    process: str
    first: int
    records: bytes
    chain: bytes = b""
    """Its link (`weft.core.chain`); empty in journals of an older Weft."""


def holding(first: int, segments: list[Segment]) -> list[Segment]:
    """These of one journal without the first of them, if record number `first` comes only after it."""
    skip = bool(segments) and segments[0].first + length_of(segments[0].records) <= first
    return segments[1:] if skip else segments


class Message(msgspec.Struct):
    id: int
    """Assigned by the store, increasing; 0 before."""
    process: str
    box: str
    payload: bytes


class Question(msgspec.Struct):
    """What a process asks of people."""

    id: str
    """`<process>:<effect>`"""
    process: str
    queue: str = ""
    """Whom it asks."""
    kind: str = "question"
    """question or approval."""
    asked: float = 0.0
    expires: float | None = None
    body: bytes = b""


class Revocation(msgspec.Struct):
    """Capability `number` of `process` is dead, and with it all that descend from it."""

    seq: int
    """Assigned by the store, increasing in the order in which they can be seen; 0 before."""
    process: str
    number: int
    at: float = 0.0
    """0 before: the store's time."""
    by: str = ""


class Checkpoint(msgspec.Struct):
    """What a process and all below it were at one moment. Their journals are not in it: they only ever grow."""

    id: str
    process: str
    """The uppermost of them; the checkpoint is deleted with it."""
    name: str = ""
    note: str = ""
    at: float = 0.0
    effect: int = 0
    """Number of the effect by which that process made it; 0 if it was made from outside."""
    heir: str = ""
    """The run by which it was restored last."""
    heirs: bytes = b""
    """Every process that was ended by that -> the one that goes on in its place, encoded."""
    body: bytes = b""
    """`weft.runtime.cut.Cut`, encoded."""


class Batch(msgspec.Struct):
    """All writes of one transaction, applied in the order of the fields below."""

    payloads: dict[bytes, bytes] = {}
    """Content hash -> bytes of large values; already stored ones are skipped."""
    images: dict[bytes, bytes] = {}
    """Content hash -> image; already stored ones are skipped. Give one with every row that takes it up: `delete`
    drops those that no process has."""
    references: set[tuple[str, bytes]] = set()
    """(process, content hash): which process needs which payload."""
    rows: dict[str, ProcessRow] = {}
    """Inserted, or updated by id: what a process is (workflow, input, parent, key …) never changes."""
    lineage: dict[str, str | None] = {}
    """In a copy: a deleted process that others descend from -> its parent."""
    segments: list[Segment] = []
    messages: list[Message] = []
    taken: list[int] = []
    """Ids of messages that were delivered (deleted)."""
    events: list[tuple[str, bytes, str]] = []
    """(key, value, publishing process): last value wins."""
    waits: dict[str, list[str]] = {}
    """Parked process -> what it waits for, event keys and `ENDED` + process ids (replaces; empty removes)."""
    released: dict[str, str] = {}
    """Ticket -> queue: steps that hold their place no longer, or gave up waiting."""
    took: dict[str, dict[str, float]] = {}
    """Ticket -> what its step took of its queue's amounts really, by kind; kinds that are not there stay as they were
    said. Empty: it never began, and took nothing."""
    pauses: dict[str, float] = {}
    """Queue -> seconds from when this is written for which it lets nobody in. A longer pause goes on."""
    questions: dict[str, Question] = {}
    """Asked, or asked otherwise, by id."""
    answered: list[str] = []
    """Ids of questions that nobody is to answer any more (deleted)."""
    revoked: list[tuple[str, int, str]] = []
    """(process, number of its capability, by whom); once is enough."""
    revocations: list[Revocation] = []
    """In a copy: the same, with the time when it was done."""
    checkpoints: dict[str, Checkpoint] = {}
    """By id. Of one that is there already only the heirs change."""
    accounts: dict[str, Account] = {}
    """By process; those there already are skipped."""
    charges: dict[str, Charge] = {}
    """In a copy: as they are. The accounts have them in their sums."""
    settled: dict[str, dict[str, float]] = {}
    """Key of a reserved charge -> what was spent really: booked in place of the reservation, once. A key that was
    never reserved is skipped."""
    pasts: list[Past] = []
    """In a copy: what happened in shared memory. One that doesn't go on from what is there is skipped; the large values
    in it are in `payloads`."""

    def __bool__(self) -> bool:
        return any(astuple(self))

    def of_rights(self) -> bool:
        """Whether there is anything of lineage, questions, revocations, checkpoints or accounts in it; most batches are
        without."""
        return bool(
            self.lineage or self.questions or self.answered or self.revoked or self.revocations
            or self.checkpoints or self.accounts or self.charges or self.settled
        )  # fmt: skip


class Family(msgspec.Struct):
    """A process whose parent is not in the store, and all that descend from it."""

    at: int
    """Its place in the order of arrival: later ones have larger numbers, from 1."""
    sizes: dict[str, int]
    """Bytes of each one's journal, by id: first the oldest ancestor's, then in order of arrival."""


class Want(msgspec.Struct, frozen=True):
    """A step that waits for its queue. `ticket`: unique for each attempt. `amounts`: what it says that it will take, by
    kind; of each kind that the queue limits."""

    ticket: str
    tenant: str = ""
    priority: int = 0
    amounts: Mapping[str, float] = {}


class Admission(msgspec.Struct):
    """Whom a queue let in: processes, now running and owned by the caller, and tickets of the caller."""

    rows: list[ProcessRow] = []
    tickets: list[str] = []
    again: float | None = None
    """Seconds until its limits in time, or a pause, let the next one in; None if nobody waits for that."""


class QueueStats(msgspec.Struct):
    depth: int
    """How many processes and steps wait."""
    oldest: float | None
    """Seconds that the first of them has waited."""


class Stats(msgspec.Struct):
    states: dict[str, int]
    """Number of unfinished processes by state."""
    queues: dict[str, QueueStats]


class Store(Protocol):
    """Errors: every method raises a `StoreError` subclass that names the file or server and says what to do."""

    url: str
    private: tuple[str, ...]
    """Paths of the journal itself, which no program is to touch."""

    def clock(self) -> float:
        """Seconds since the epoch, by the one clock that all runtimes of this store share."""

    # --- who is there ------------------------------------------------------------------------------------

    async def register(self, owner: str, programs: Mapping[str, str]) -> None:
        """Make `owner` alive until `close` or the death of the operating-system process. `programs`: version of
        each workflow that it can execute, by name."""

    async def alive(self, owner: str) -> bool:
        """Whether the runtime with this name still lives."""

    def listen(self, hint: Callable[[Hint], None], lost: Callable[[StoreError], None]) -> None:
        """Call `hint` on the opening loop's thread when others did something for this owner, and `lost` when its
        lease is gone. A store that can't tell is asked by `changed`."""

    def changed(self) -> bool:
        """Whether it is time to look at everything that a hint could tell (cheap; polled)."""

    async def close(self) -> None: ...

    # --- writing -----------------------------------------------------------------------------------------

    def commit(self, batch: Batch, done: Done) -> None:
        """Apply `batch` in one transaction; call `done(None)` (or with the error) on the opening loop's thread
        once it is durable. Batches are applied in the order given, each once. May call `done` before returning."""

    async def insert(self, row: ProcessRow) -> ProcessRow | None:
        """Insert a row that has an idempotency key, at once and durably. The existing row if the key is taken."""

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete finished processes with journals, mail, questions, charges, checkpoints and private memories, and the
        payloads and images that nobody else needs; accounts once all that they bound are deleted too. Revocations stay:
        a fork of a fork may be bound by them. Returns how many."""

    async def reserve(self, charges: Sequence[Charge]) -> list[Refusal | None]:
        """Reserve each charge in its account and all above it, durably, in one transaction; or refuse it, and reserve
        nothing of it, where a limit would be broken. A key that was reserved before, settled or not, is let in and
        reserves nothing more. All runtimes together never exceed a limit by reserving."""

    async def operate(self, commits: Sequence[Commit]) -> list[Verdict]:
        """Commit operations on shared memory in their order, durably, in one transaction: each is let in or refused as
        its level says (`weft.store.memory.decide`). One that was let in before gets the same answer again."""

    async def hold(self, hold: Hold) -> bool:
        """Keep others from writing these cells until it commits, or until `hold.until`; stands in line behind those who
        hold one of them already. Whether it is first in the line; ask again if not. Once `until` is over it holds
        nothing and need not wait, so yes."""

    async def let_go(self, operation: str) -> None:
        """It holds nothing any more."""

    async def retract(self, operation: str, level: Level) -> Retraction | None:
        """Take a committed operation back: mark it and all that goes with it (`weft.store.memory.cascade`), and restore
        the cells that they wrote last. None: there is no such operation. One that was retracted before gives what was
        done then."""

    async def prune(self, namespace: str, keep: int) -> int:
        """Delete old versions: all but the newest `keep` of each cell, and large values that nobody else needs. Returns
        how many. A retraction later can restore a cell only to what is left, to nothing if no value is. Raises
        BadInput for a `keep` below 1."""

    # --- reading -----------------------------------------------------------------------------------------

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
        ids: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[ProcessRow]:
        """Newest first. `before`: last updated earlier than that. `ids`: of these; `keys`: with one of these
        idempotency keys."""

    async def listed(
        self,
        *,
        after: int | None = None,
        states: Sequence[str] = (),
        roots: bool = False,
        workflow: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 1000,
    ) -> list[tuple[int, ProcessRow]]:
        """Newest first, each with its place in the order of arrival: those that came before place `after`. `since`,
        `until`: created at or after, before."""

    async def segments(self, ids: Sequence[str]) -> list[Segment]:
        """Of all these processes; those of each in order of `first`."""

    async def growth(self, lengths: Mapping[str, int], limit: int = 1000) -> list[Segment]:
        """At most so many that these journals have got since they had so many records; those of each in order, so that
        what was got is where to go on."""

    async def stretch(self, id: str, first: int = 0, limit: int = 1000) -> list[Segment]:
        """At most so many of one journal, in order, from the one that holds record number `first` on; none if it is
        shorter than that."""

    async def payload(self, hash: bytes) -> bytes: ...
    async def inbox(self, ids: Sequence[str]) -> list[Message]:
        """Letters to these processes, oldest first."""

    async def ended(self, ids: Sequence[str]) -> list[ProcessRow]:
        """Those of these processes that have ended."""

    async def events(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those of these events that were published."""

    async def image(self, hash: bytes) -> bytes: ...
    async def question(self, id: str) -> Question | None: ...
    async def questions(
        self, queue: str | None = None, process: str | None = None, limit: int = 1000
    ) -> list[Question]:
        """Open ones, oldest first."""

    async def revocations(self, after: int = 0) -> list[Revocation]:
        """Those with a larger `seq`, in order. None that can be seen only later has a smaller one."""

    def last_revocation(self) -> int | None:
        """The largest `seq` that can be seen, 0 if there is none; None if that can't be told at once."""

    async def accounts(self, process: str) -> list[Account]:
        """The account of this process, or of its nearest ancestor that has one, then those above it."""

    async def checkpoint(self, id: str) -> Checkpoint | None: ...
    async def checkpoints(self, process: str | None = None, limit: int = 1000) -> list[Checkpoint]:
        """The newest first, without heirs and bodies."""

    async def subtree(self, id: str) -> Batch:
        """A process and all below it, as they are at one moment: rows (the first is its own; `length` as the journals
        are then), letters, events, waits, questions, their accounts and those above. Empty if it is not there."""

    async def stats(self) -> Stats: ...
    def everything(self) -> AsyncIterator[Batch]:
        """The whole store, in batches that another store can commit."""

    async def families(self, after: int = 0, limit: int = 100) -> list[Family]:
        """The next families in order of arrival, each whole: those with a larger number than `after`."""

    async def about(self, ids: Sequence[str]) -> Batch:
        """All that belongs to these processes, but for the contents of their payloads."""

    async def look(self, namespace: str, cells: Sequence[str]) -> Look:
        """The newest versions of these cells of one namespace, and its clock, at one moment."""

    async def under(self, namespace: str, prefix: str = "", after: str = "", limit: int = 1000) -> Look:
        """The same of cells that are not deleted and whose name begins with `prefix` and comes after `after`, by
        name."""

    async def versions(self, cell: str, limit: int = 1000) -> list[Object]:
        """Newest first."""

    async def operations(self, ids: Sequence[str]) -> list[Operation]:
        """Those of these that were committed."""

    async def written(self, operation: str) -> list[str]:
        """The cells that it wrote, without those whose versions of it were pruned."""

    async def recent(self, namespace: str, limit: int = 1000) -> list[Operation]:
        """The operations of a namespace, newest first."""

    async def clocks(self, processes: Sequence[str] | None = None) -> dict[str, int]:
        """The clocks of all namespaces in which something happened, by name; or only of those that are shared or
        private to one of these processes."""

    async def spaces(self) -> list[Space]:
        """All namespaces in which something happened, by name."""

    async def past(self, namespace: str, after: int, at: int) -> Past:
        """What happened while the clock went from `after` to `at`, which it has reached."""

    # --- who executes what -------------------------------------------------------------------------------

    async def claim(
        self,
        owner: str,
        ids: Iterable[str] | None = None,
        limit: int = 1000,
        *,
        states: Sequence[str] = CLAIMABLE,
        queues: Sequence[str] | None = None,
        but: Sequence[str] = (),
    ) -> list[ProcessRow]:
        """Take unfinished processes that nobody alive owns; returns the rows taken, with `owner` set. One taken in
        state running from a dead owner that executed it gets `strikes + 1`. `ids`: of these, paused ones too if
        `states` says so; they stay paused until the new owner writes otherwise. `queues`: a worker asks, for processes
        of these queues and of none whose workflow it registered, and that no living owner has in a version which
        fits better, and that has not killed `MAX_STRIKES` of them; a running one with `SUSPECT` strikes or more is
        stored with one less until the worker writes its row, for the answer may get lost. `but`: not these."""

    async def admit(self, owner: str, queue: Queue, wants: Sequence[Want], room: int) -> Admission:
        """Let in whom the limits of `queue` allow, over all runtimes: queued processes of `owner`, up to `room` that
        nobody owns and that it registered a workflow for, and steps (`wants` are new ones). The most urgent first;
        among equals tenants take turns, and each tenant's in order of arrival. Rates, amounts and pauses count by the
        one clock of the store."""

    async def owned(self, owner: str) -> list[ProcessRow]:
        """Processes of `owner` in state running or queued."""

    async def due(self, owner: str, now: float, limit: int) -> list[ProcessRow]:
        """Waiting processes of `owner` with `wake_at <= now`, earliest first; from now on they are running, as
        returned, and wait for nothing."""

    async def next_wake(self, owner: str) -> float | None: ...
    async def news(self, owner: str) -> list[str]:
        """Unfinished processes of `owner` that have letters, or are parked on something that has come."""

    async def follow(self, owner: str, keys: Sequence[str]) -> None:
        """Hint `owner` when one of these comes: event keys, or `ENDED` + process ids."""


async def bytes_of(store: Store, value: Value) -> bytes:
    """A journal's value, wherever it lies."""
    return await store.payload(value.hash) if isinstance(value, Blob) else value

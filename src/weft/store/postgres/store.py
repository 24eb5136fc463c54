"""The shared store: journals on a PostgreSQL server.

Writes go through one connection, a statement for all batches that have gathered (`commit`); requests that take or
look go through a small pool. A lost connection is made again and what was under way is repeated: a commit is
applied once whatever happens to its answer. What `claim`, `admit` and `due` gave to this runtime in an answer that
got lost is told by the hint "owned".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from msgspec.structs import astuple

from weft.core.clock import monotonic, time
from weft.core.errors import LeaseLost, StoreError
from weft.core.memory import Level
from weft.core.queue import Queue
from weft.store.base import (
    CLAIMABLE,
    UNFINISHED,
    Admission,
    Batch,
    Done,
    Hint,
    ProcessRow,
    Want,
)
from weft.store.ledger import Charge, Refusal
from weft.store.memory import Commit, Hold, Past, Retraction, Verdict, check_keep
from weft.store.postgres import history, ledger, memory, removal
from weft.store.postgres.claim import CLAIM, CLAIM_THESE, DUE, SPARE
from weft.store.postgres.commit import INSERT, ROW, statement
from weft.store.postgres.herald import SERVES, Herald
from weft.store.postgres.lease import Lease
from weft.store.postgres.queue import Line, process
from weft.store.postgres.reading import Reading
from weft.store.postgres.schema import transient
from weft.store.postgres.server import PostgresOptions, Server, load_driver, quietly

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

POLL = 1.0
"""Seconds between two looks at what a lost hint would have told."""
PAGE = 500


class _Write(NamedTuple):
    batch: Batch
    done: Done


class PostgresStore(Reading):
    """A `Store` on the server at `url`. Use it from one event loop. Raises the `StoreError`s of `schema.explain`."""

    def __init__(
        self,
        url: str,
        durability: Literal["full", "process"] = "full",
        options: PostgresOptions | None = None,
    ) -> None:
        load_driver()
        super().__init__(Server(url, options or PostgresOptions(), durable=durability == "full"))
        self._lease: Lease | None = None
        self._herald: Herald | None = None
        self._hint: Callable[[Hint], None] = lambda hint: None
        self._lost: Callable[[StoreError], None] = lambda error: None
        self._polled = 0.0
        self._writer: asyncpg.Connection | None = None
        self._writing: asyncio.Task[None] | None = None
        self._waiting: list[_Write] = []
        self._commits = int.from_bytes(os.urandom(6))
        """So many have been made: counted from a number that nobody else of this name counts from."""
        self._doubtful = False
        """The last statement failed, and may have been applied or may yet be."""
        self._refused: StoreError | None = None
        self._served: set[str] = set()

    def clock(self) -> float:
        offset = self._lease.offset if self._lease is not None else None
        return time() if offset is None else monotonic() + offset

    # --- who is there ------------------------------------------------------------------------------------

    async def register(self, owner: str, programs: Mapping[str, str] | None = None) -> None:
        if self._server.closed:
            raise self._is_closed()
        if self._refused is not None:
            raise self._refused
        loop = asyncio.get_running_loop()
        lease = self._lease
        if lease is None:
            lease = Lease(
                self._server.url, self.url, self._server.options, owner, programs or {},
                lambda error: _on(loop, self._fail, error), lambda: _on(loop, self._hint, "queue"),
            )  # fmt: skip
        if lease.owner != owner:
            raise StoreError(f"this store is registered as {lease.owner} already; open another one for {owner}")
        lease.programs = [f"{name}@{version}" for name, version in (programs or {}).items()]
        await self._server.ask(lambda connection: lease.take(connection, self._commits))
        if self._lease is None:
            self._lease = lease
            self._beat()
            self._herald = Herald(self._server, lease, self._heard)

    def listen(self, hint: Callable[[Hint], None], lost: Callable[[StoreError], None]) -> None:
        self._hint, self._lost = hint, lost

    def changed(self) -> bool:
        if self._lease is None:
            return True  # nobody tells one who only reads
        if monotonic() - self._polled < POLL:
            return False
        self._polled = monotonic()
        return True

    async def alive(self, owner: str) -> bool:
        query = "SELECT true FROM weft.owners WHERE owner = $1 AND expires > clock_timestamp()"
        return bool(await self._fetch(query, owner))

    async def close(self) -> None:
        if self._server.closed:
            return
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        self._server.closed = True
        if self._herald is not None:
            await self._herald.close()
        if self._lease is not None:
            await self._lease.release()
            with contextlib.suppress(StoreError):  # the lease runs out by itself
                await self._server.ask(self._lease.leave)
            self._beating.cancel()
        if self._writer is not None:
            await quietly(self._writer)
        await self._server.close()

    def _heard(self, hint: Hint) -> None:
        if self._lease is not None:
            self._lease.meet()  # somebody told us, perhaps that they are new
        self._hint(hint)

    def _beat(self) -> None:
        """Show the lease's thread that the loop turns."""
        assert self._lease is not None
        self._lease.pulse = monotonic()
        self._beating = asyncio.get_running_loop().call_later(1.0, self._beat)

    def _fail(self, error: StoreError) -> None:
        if self._refused is None:
            self._refused = error
            self._lost(error)

    # --- writing -----------------------------------------------------------------------------------------

    def commit(self, batch: Batch, done: Done) -> None:
        if self._server.closed:
            done(self._is_closed())
        elif self._refused is not None:
            done(self._refused)
        else:
            self._waiting.append(_Write(batch, done))
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write what waits, until nothing does."""
        while self._waiting:
            group, self._waiting = self._waiting, []
            error: BaseException | None = self._refused
            if error is None:
                try:
                    await self._apply([write.batch for write in group])
                except StoreError as refused:
                    error = refused
                except (Exception, asyncio.CancelledError) as fault:
                    error = StoreError(f"the journal was not written: {fault!r}")
            if error is None and self._herald is not None and self._lease is not None:
                # Who came since the last heartbeat finds news by itself, but is told at once what it may not do.
                alone = self._lease.alone
                self._herald.tell([w.batch for w in group if not alone or w.batch.revoked])
            if error:  # what was given before its caller could know fails too: no journal gets a hole
                group, self._waiting = [*group, *self._waiting], []
            for write in group:
                write.done(error)
        self._writing = None

    async def _apply(self, batches: Sequence[Batch]) -> None:
        if self._lease is None:
            raise StoreError(f"nobody is registered to write to {self.url}; use `await store.register(name, {{}})`")
        owner = self._lease.owner
        query, values = statement(batches)
        pasts = [past for batch in batches for past in batch.pasts]

        async def write() -> None:
            if self._writer is None or self._writer.is_closed():
                self._writer = await self._server.connect()
            try:
                if self._doubtful:
                    self._commits = await self._writer.fetchval(_COUNT_ON, owner) or 0
                    self._doubtful = False
                if not await self._put(self._writer, query, (owner, self._commits + 1, *values), pasts):
                    await self._was_applied(self._writer)
            except BaseException:
                self._writer.terminate()
                self._writer = None
                raise

        try:
            await self._server.persist(write)
        except BaseException:
            self._doubtful = True
            raise
        self._commits += 1

    async def _put(
        self, connection: asyncpg.Connection, query: str, values: Sequence[Any], pasts: Sequence[Past]
    ) -> bool:
        """Whether it did anything; if not, because it had been applied or the owner is gone."""
        if not pasts:
            return bool(await connection.fetchval(query, *values))
        async with connection.transaction():
            await memory.lock(connection, sorted({past.namespace for past in pasts}))
            if not await connection.fetchval(query, *values):
                return False
            for past in pasts:
                await history.follow(connection, past)
            return True

    async def _was_applied(self, connection: asyncpg.Connection) -> None:
        """The statement did nothing: because it had been applied and its answer was lost, or the owner is gone."""
        assert self._lease is not None
        query = "SELECT commits FROM weft.owners WHERE owner = $1"
        if await connection.fetchval(query, self._lease.owner) != self._commits + 1:
            raise self._taken_over()

    def _taken_over(self) -> LeaseLost:
        assert self._lease is not None
        error = self._lease.lost()
        self._fail(error)
        return error

    async def insert(self, row: ProcessRow) -> ProcessRow | None:
        owner = self._lease.owner if self._lease is not None else None

        async def work(connection: asyncpg.Connection) -> ProcessRow | None:
            while not await connection.fetchval(INSERT, owner, *astuple(row)):
                found = await connection.fetchrow(f"SELECT {ROW} FROM weft.processes WHERE key = $1", row.key)
                if found is not None:
                    return None if found["id"] == row.id else process(found)
                query = "SELECT true FROM weft.owners WHERE owner = $1"
                if owner is not None and not await connection.fetchval(query, owner):
                    raise self._taken_over()
            return None

        return await self._ask(work)

    async def delete(self, ids: Sequence[str]) -> int:
        count = 0
        for at in range(0, len(ids), PAGE):
            count += await self._ask(partial(_delete, ids=ids[at : at + PAGE]))
        return count

    async def reserve(self, charges: Sequence[Charge]) -> list[Refusal | None]:
        return await self._fenced(lambda connection: ledger.reserve(connection, charges))

    async def operate(self, commits: Sequence[Commit]) -> list[Verdict]:
        now = self.clock()
        return await self._fenced(lambda connection: memory.operate(connection, commits, now))

    async def hold(self, hold: Hold) -> bool:
        now = self.clock()
        return await self._fenced(lambda connection: memory.hold(connection, hold, now))

    async def let_go(self, operation: str) -> None:
        await self._fenced(lambda connection: memory.let_go(connection, [operation]))

    async def retract(self, operation: str, level: Level) -> Retraction | None:
        now = self.clock()
        return await self._fenced(lambda connection: memory.retract(connection, operation, level, now))

    async def prune(self, namespace: str, keep: int) -> int:
        check_keep(keep)

        async def work(connection: asyncpg.Connection) -> int:
            async with connection.transaction():
                return await history.prune(connection, namespace, keep)

        return await self._ask(work)

    async def _fenced(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Write in a transaction, if this owner is alive. Repeated if its answer gets lost: `work` must bear that."""
        if self._lease is None:
            raise StoreError(f"nobody is registered to write to {self.url}; use `await store.register(name, {{}})`")
        owner = self._lease.owner

        async def fenced(connection: asyncpg.Connection) -> tuple[T] | None:
            async with connection.transaction():
                # Locked, so that nobody takes over what this owner executes before what it writes is seen.
                query = "SELECT FROM weft.owners WHERE owner = $1 FOR KEY SHARE"
                alive = await connection.fetchrow(query, owner) is not None
                return (await work(connection),) if alive else None

        done = await self._ask(fenced)
        if done is None:
            raise self._taken_over()
        return done[0]

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
        if queues is not None and not self._served.issuperset(queues):
            await self.follow(owner, [SERVES + queue for queue in ("", *queues)])
            self._served.update(queues)
        wanted = None if ids is None else list(ids)
        open = [state for state in states if state in (CLAIMABLE if wanted is None else UNFINISHED)]
        values = (owner, wanted, open, None if queues is None else list(queues), limit, list(but))
        query = CLAIM if wanted is None else CLAIM_THESE
        found = await self._take(lambda connection: connection.fetch(query, *values))
        return [process(row) for row in sorted(found, key=lambda row: row["seq"])]

    async def admit(self, owner: str, queue: Queue, wants: Sequence[Want], room: int) -> Admission:
        lease = self._lease
        names = [program.rpartition("@")[0] for program in lease.programs] if lease is not None else []
        line = Line(owner, queue, room, names)

        async def work(connection: asyncpg.Connection) -> Admission:
            async with connection.transaction():
                return await line.admit(connection, wants)

        admission = await self._take(work)
        if line.others and self._herald is not None:
            self._herald.poke(queue.name)
        return admission

    async def due(self, owner: str, now: float, limit: int) -> list[ProcessRow]:
        found = await self._take(lambda connection: connection.fetch(DUE, owner, now, limit))
        return [process(row) for row in sorted(found, key=lambda row: row["due"])]

    async def owned(self, owner: str) -> list[ProcessRow]:
        query = f"SELECT {ROW} FROM weft.processes WHERE owner = $1 AND state IN ('running', 'queued')"
        return [process(row) for row in await self._fetch(query, owner)]

    @property
    def stalled(self) -> bool:
        """Whether it was the runtime itself that stood still, for longer than its lease."""
        return self._lease is not None and self._lease.stalled

    async def spare(self, lost: str, ids: Sequence[str]) -> None:
        """The runtime `lost`, which executed these, was not killed, but only cut off: strikes are taken back from those
        that nobody has, and whatever is still its own, known to it or not, is handed back."""
        await self._ask(lambda connection: connection.execute(SPARE, lost, list(ids)))

    async def follow(self, owner: str, keys: Sequence[str]) -> None:
        query = (
            "INSERT INTO weft.waits (key, process) SELECT key, owner FROM weft.owners, unnest($2::text[]) AS key "
            "WHERE owner = $1 ON CONFLICT DO NOTHING"
        )
        await self._ask(lambda connection: connection.execute(query, owner, list(keys)))

    async def _take(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Like `_ask`, for requests whose answers must not get lost."""

        async def careful(connection: asyncpg.Connection) -> T:
            try:
                return await work(connection)
            except Exception as error:
                if transient(error):
                    asyncio.get_running_loop().call_soon(self._hint, "owned")
                raise

        return await self._ask(careful)


def _on(loop: asyncio.AbstractEventLoop, call: Callable[[Any], None], value: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        loop.call_soon_threadsafe(call, value)


async def _delete(connection: asyncpg.Connection, ids: Sequence[str]) -> int:
    async with connection.transaction():
        return await removal.delete(connection, ids)


# Whatever of the statement before is still on its way finds another number, and so nothing to do.
_COUNT_ON = "UPDATE weft.owners SET commits = commits + 1 WHERE owner = $1 RETURNING commits"

"""The embedded store: one SQLite file, one writing connection, group commit.

Under "process" durability `commit` writes inline and is done at once. Under "full" a thread owns the
writing connection: it takes all batches that are queued, writes them in one transaction with one fsync, and
reports to the loop once. sqlite3 releases the GIL around every call into SQLite, and a busy main thread may
keep it for 5 ms each time; so all batches of a group are merged, and rows travel many to a statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from msgspec.structs import astuple, replace

from weft.core.errors import StoreError
from weft.core.memory import Level
from weft.core.queue import Queue
from weft.store.base import (
    CLAIMABLE,
    COPY,
    MAX_STRIKES,
    RUNNING,
    SUSPECT,
    UNFINISHED,
    Admission,
    Batch,
    Done,
    Hint,
    ProcessRow,
    Want,
)
from weft.store.ledger import Charge, Refusal
from weft.store.memory import Commit, Hold, Retraction, Verdict, check_keep
from weft.store.sqlite import history, ledger, memory, removal
from weft.store.sqlite.commit import apply
from weft.store.sqlite.owners import Owners
from weft.store.sqlite.queue import Line
from weft.store.sqlite.reading import Reading
from weft.store.sqlite.schema import IS_CLAIMABLE, connect, explain, open_file
from weft.store.sqlite.statements import (
    BY_OWNER,
    COLUMNS,
    IDS,
    ROW,
    begun,
    data_version,
    owner_names,
    owners_of,
    process,
    select,
)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]


class _Write(NamedTuple):
    batch: Batch
    done: Done
    epoch: int
    """Number of failures that the caller had been told of."""


class _Request(NamedTuple, Generic[T]):
    job: Job[T]
    transaction: bool
    answer: Future[T]


class SQLiteStore(Reading):
    """A `Store` in the file `path`, made if missing. Use it from one event loop, or one thread, at a time.

    A batch given before its caller could know that an earlier one failed fails with it: no journal gets a
    hole. Reads see what is committed, not what is queued. Raises the `StoreError`s of `schema.explain`.
    """

    def __init__(self, path: Path, durability: Literal["full", "process"] = "full") -> None:
        self.path = path.resolve()  # whose owners lie beside the file: a link to it is the same journal
        self.url = f"sqlite:///{self.path}"
        self.private = tuple(f"{self.path}{suffix}" for suffix in ("", "-wal", "-shm", ".owners"))
        open_file(self.path)
        self._full = durability == "full"
        self._closed = False
        self._owners = Owners(self.path)
        self._programs: dict[str, str] = {}
        self._busy = threading.Lock()  # held while the writing connection is used
        try:
            self._writer = connect(self.path, full=self._full)
            self._reader = connect(self.path, read_only=True) if self._full else self._writer
            self._seen_version = data_version(self._writer)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        self._missed_polls = 0
        self._queue: queue.SimpleQueue[_Write | _Request[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._epoch = 0  # failures reported, counted on the loop's thread
        self._refused: tuple[int, BaseException | None] = (0, None)  # writes of an epoch below this fail too

    # --- writing --------------------------------------------------------------------------------------

    def commit(self, batch: Batch, done: Done) -> None:
        if self._closed:
            done(StoreError(f"the store of {self.path} is closed; open it again"))
        elif self._full:
            self._loop = asyncio.get_running_loop()
            self._submit(_Write(batch, done, self._epoch))
        else:
            done(self._try(lambda connection: apply(connection, (batch,))))

    async def insert(self, row: ProcessRow) -> ProcessRow | None:
        def job(connection: sqlite3.Connection) -> ProcessRow | None:
            taken = connection.execute(f"SELECT {ROW} FROM processes WHERE key = ?", (row.key,)).fetchone()
            if taken is None:
                marks = ", ".join("?" * len(COLUMNS))
                connection.execute(f"INSERT INTO processes ({ROW}) VALUES ({marks})", astuple(row))
            return None if taken is None else process(taken)

        return await self._ask(job)

    async def delete(self, ids: Sequence[str]) -> int:
        """As in `Store`; events go with the process that published them."""

        return await self._ask(lambda connection: removal.delete(connection, ids))

    async def reserve(self, charges: Sequence[Charge]) -> list[Refusal | None]:
        return await self._ask(lambda connection: ledger.reserve(connection, charges))

    async def operate(self, commits: Sequence[Commit]) -> list[Verdict]:
        return await self._ask(lambda connection: memory.operate(connection, commits, self.clock()))

    async def hold(self, hold: Hold) -> bool:
        return await self._ask(lambda connection: memory.hold(connection, hold, self.clock()))

    async def let_go(self, operation: str) -> None:
        await self._ask(lambda connection: memory.let_go(connection, [operation]))

    async def retract(self, operation: str, level: Level) -> Retraction | None:
        return await self._ask(lambda connection: memory.retract(connection, operation, level, self.clock()))

    async def prune(self, namespace: str, keep: int) -> int:
        check_keep(keep)
        return await self._ask(lambda connection: history.prune(connection, namespace, keep))

    async def vacuum(self) -> None:
        """Give the space of deleted runs back to the disk. Needs room for a second copy meanwhile."""
        await self._ask(lambda connection: connection.execute("VACUUM").close(), transaction=False)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        with contextlib.suppress(sqlite3.Error):
            # Busy, or the disk is full: the WAL keeps everything, and the next to open the file uses it.
            self._writer.execute("PRAGMA busy_timeout = 0")
            self._writer.execute(f"DELETE FROM tickets WHERE owner IN {IDS}", (json.dumps(self._owners.held),))
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._reader.close()
        self._writer.close()
        self._owners.release()

    # --- who executes what ----------------------------------------------------------------------------

    async def register(self, owner: str, programs: Mapping[str, str] | None = None) -> None:
        def job(connection: sqlite3.Connection) -> None:
            self._owners.sweep()
            waiting = [name for (name,) in connection.execute("SELECT DISTINCT owner FROM tickets")]
            dead = [name for name in waiting if not self._owners.alive(name)]
            connection.execute(f"DELETE FROM tickets WHERE owner IN {IDS}", (json.dumps(dead),))
            self._owners.hold(owner, [f"{name}@{version}" for name, version in self._programs.items()])

        self._programs = dict(programs or {})
        await self._ask(job)

    def listen(self, hint: Callable[[Hint], None], lost: Callable[[StoreError], None]) -> None:
        """Files tell nothing: `changed` does."""

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
        wanted = None if ids is None else json.dumps(list(ids))
        open = CLAIMABLE if wanted is None else UNFINISHED

        def job(connection: sqlite3.Connection) -> list[ProcessRow]:
            names = owner_names(connection) if wanted is None else owners_of(connection, wanted)
            dead = json.dumps([name for name in names if name != owner and not self._owners.alive(name)])
            one = IS_CLAIMABLE if wanted is None else f"id IN {IDS}"
            among = f"AND state IN {IDS}" + ("" if queues is None else f" AND (queue IS NULL OR queue IN {IDS})")
            among += f" AND id NOT IN {IDS}"
            mine = "" if queues is None else self._fitting()
            query = (
                f"SELECT id FROM processes {BY_OWNER if wanted is None else ''} "
                f"WHERE {one} {among} {mine} AND owner {{}} ORDER BY rowid LIMIT ?"
            )
            values = [*(() if wanted is None else (wanted,)), json.dumps([s for s in states if s in open])]
            values += (
                [json.dumps(list(but))]
                if queues is None
                else [json.dumps(list(queues)), json.dumps(list(but)), *self._fits()]
            )
            free = connection.execute(query.format("IS NULL"), (*values, limit)).fetchall()
            free += connection.execute(query.format(f"IN {IDS}"), (*values, dead, limit - len(free))).fetchall()
            taken = json.dumps([id for (id,) in free])
            connection.execute(
                f"""UPDATE processes SET owner = ?, strikes = strikes
                    + (owner IS NOT NULL AND owner NOT LIKE '{COPY}%' AND state = 'running') WHERE id IN {IDS}""",
                (owner, taken),
            )
            rows = select(connection, f"WHERE id IN {IDS} ORDER BY rowid", taken)
            suspects = [row.id for row in rows if row.state == RUNNING and row.strikes >= SUSPECT]
            if queues is not None and suspects:
                query = f"UPDATE processes SET strikes = strikes - 1 WHERE id IN {IDS}"
                connection.execute(query, (json.dumps(suspects),))
            return rows

        return await self._ask(job)

    def _fitting(self) -> str:
        """SQL: this runtime can execute it, and nobody alive can in a version that fits better."""
        return f"""AND strikes < {MAX_STRIKES} AND workflow IN {IDS} AND (started = 0
            OR workflow || '@' || version IN {IDS} OR workflow || '@' || version NOT IN {IDS})"""

    def _fits(self) -> list[str]:
        mine = [f"{name}@{version}" for name, version in self._programs.items()]
        return [json.dumps(list(self._programs)), json.dumps(mine), json.dumps(sorted(self._owners.programs()))]

    async def admit(self, owner: str, queue: Queue, wants: Sequence[Want], room: int) -> Admission:
        line = Line(owner, queue, room, list(self._programs), self._owners.alive)
        return await self._ask(lambda connection: line.admit(connection, wants, self.clock()))

    async def follow(self, owner: str, keys: Sequence[str]) -> None:
        """Nobody can be told: `changed` lets the owner look."""

    async def due(self, owner: str, now: float, limit: int) -> list[ProcessRow]:
        def job(connection: sqlite3.Connection) -> list[ProcessRow]:
            where = "WHERE state = 'waiting' AND owner = ? AND wake_at <= ? ORDER BY wake_at LIMIT ?"
            rows = select(connection, where, owner, now, limit)
            ids = json.dumps([row.id for row in rows])
            connection.execute(f"UPDATE processes SET state = 'running', wake_at = NULL WHERE id IN {IDS}", (ids,))
            connection.execute(f"DELETE FROM waits WHERE process IN {IDS}", (ids,))
            return [replace(row, state="running", wake_at=None) for row in rows]

        return await self._ask(job)

    def changed(self) -> bool:
        # Asked of the writing connection, which alone does not see its own commits as another's.
        if not self._busy.acquire(blocking=False):
            self._missed_polls += 1
            if self._missed_polls < 20:
                return False
            self._missed_polls = 0  # a writer that never rests must not hide the others: let the caller look
            return True
        try:
            version, before = data_version(self._writer), self._seen_version
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        finally:
            self._busy.release()
        self._seen_version, self._missed_polls = version, 0
        return version != before

    # --- the connections ------------------------------------------------------------------------------

    async def _ask(self, job: Job[T], transaction: bool = True) -> T:
        """Run `job` on the writing connection, after all that was queued before."""
        if self._closed:
            raise StoreError(f"the store of {self.path} is closed; open it again")
        if not self._full:
            return self._run(job, transaction)
        answer: Future[T] = Future()
        self._submit(_Request(job, transaction, answer))
        return await asyncio.wrap_future(answer)

    def _run(self, job: Job[T], transaction: bool = True) -> T:
        try:
            with self._busy:
                if not transaction:
                    return job(self._writer)
                with begun(self._writer):
                    return job(self._writer)
        except Exception as error:
            raise explain(error, self._owners.folder if isinstance(error, OSError) else self.path) from error

    def _try(self, job: Job[None]) -> StoreError | None:
        try:
            self._run(job)
        except StoreError as error:
            return error
        return None

    def _submit(self, item: _Write | _Request[Any]) -> None:
        if self._thread is None:
            # A daemon: a program that ends without `close` ends as by a crash, which is always safe.
            self._thread = threading.Thread(target=self._serve, name="weft-store", daemon=True)
            self._thread.start()
        self._queue.put(item)

    def _serve(self) -> None:
        """The writing thread: groups of batches, and the requests between them in their place."""
        closing = False
        while not closing:
            items = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    items.append(self._queue.get_nowait())
            group: list[_Write] = []
            for item in items:
                if isinstance(item, _Write):
                    group.append(item)
                    continue
                self._write(group)
                group = []
                if item is None:
                    closing = True
                elif item.answer.set_running_or_notify_cancel():
                    try:
                        item.answer.set_result(self._run(item.job, item.transaction))
                    except BaseException as error:
                        item.answer.set_exception(error)
            self._write(group)

    def _write(self, group: list[_Write]) -> None:
        epoch, earlier = self._refused
        late = [write for write in group if write.epoch < epoch]
        fresh = group[len(late) :]
        if late:
            self._report(late, earlier)
        if fresh:
            error = self._try(lambda connection: apply(connection, [write.batch for write in fresh]))
            if error is not None:
                self._refused = (fresh[-1].epoch + 1, error)
            self._report(fresh, error)

    def _report(self, writes: list[_Write], error: BaseException | None) -> None:
        epoch = self._refused[0]

        def deliver() -> None:
            self._epoch = max(self._epoch, epoch)
            for write in writes:
                write.done(error)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
            self._loop.call_soon_threadsafe(deliver)

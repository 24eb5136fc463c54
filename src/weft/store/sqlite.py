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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from msgspec.structs import astuple

from weft.core.errors import StoreCorrupt, StoreError
from weft.store.base import FINISHED, Batch, Done, Message, ProcessRow, Segment
from weft.store.owners import Owners
from weft.store.schema import UNFINISHED, connect, explain, open_file

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

_COLUMNS = ProcessRow.__struct_fields__
_ROW = ", ".join(_COLUMNS)
_CHANGING = ("state", "started", "updated", "wake_at", "owner", "strikes", "length", "result", "error")
"""Columns that an upsert replaces: the others are what a process is, and keep their indexes as they are."""
_IDS = "(SELECT value FROM json_each(?))"
_BY_OWNER = "INDEXED BY processes_unfinished"
_LARGEST_INSERT = 512  # rows; times the columns of a process this stays below SQLite's 32,766 variables
_INSERTS = {
    "payloads": ("hash, data", "ON CONFLICT DO NOTHING"),
    "payload_references": ("process, hash", "ON CONFLICT DO NOTHING"),
    "processes": (
        _ROW,
        "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in _CHANGING),
    ),
    "segments": ("process, first, records", ""),
    "inbox": ("process, box, payload", ""),
    "events": (
        "key, value, process",
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, process = excluded.process",
    ),
    "waits": ("key, process", "ON CONFLICT DO NOTHING"),
}


class _Write(NamedTuple):
    batch: Batch
    done: Done
    epoch: int
    """Number of failures that the caller had been told of."""


class _Request(NamedTuple, Generic[T]):
    job: Job[T]
    transaction: bool
    answer: Future[T]


class SQLiteStore:
    """A `Store` in the file `path`, made if missing. Use it from one event loop, or one thread, at a time.

    A batch given before its caller could know that an earlier one failed fails with it: no journal gets a
    hole. Reads see what is committed, not what is queued. Raises the `StoreError`s of `schema.explain`.
    """

    def __init__(self, path: Path, durability: Literal["full", "process"] = "full") -> None:
        self.path = path.absolute()
        self.url = f"sqlite:///{self.path}"
        open_file(self.path)
        self._full = durability == "full"
        self._closed = False
        self._owners = Owners(self.path)
        self._busy = threading.Lock()  # held while the writing connection is used
        try:
            self._writer = connect(self.path, full=self._full)
            self._reader = connect(self.path, read_only=True) if self._full else self._writer
            self._seen_version = _data_version(self._writer)
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
            done(self._try(lambda connection: _apply(connection, (batch,))))

    async def insert(self, row: ProcessRow) -> ProcessRow | None:
        def job(connection: sqlite3.Connection) -> ProcessRow | None:
            taken = connection.execute(f"SELECT {_ROW} FROM processes WHERE key = ?", (row.key,)).fetchone()
            if taken is None:
                marks = ", ".join("?" * len(_COLUMNS))
                connection.execute(f"INSERT INTO processes ({_ROW}) VALUES ({marks})", astuple(row))
            return None if taken is None else _process(taken)

        return await self._ask(job)

    async def claim(self, owner: str, ids: Iterable[str] | None = None, limit: int = 1000) -> list[ProcessRow]:
        wanted = None if ids is None else json.dumps(list(ids))

        def job(connection: sqlite3.Connection) -> list[ProcessRow]:
            dead = [o for o in _owners(connection) if o != owner and not self._owners.alive(o)]
            # The plus keeps SQLite from that index: few ids are wanted, among many that are unfinished.
            one, among = (f"+{UNFINISHED}", f"AND id IN {_IDS}") if wanted else (UNFINISHED, "")
            query = (
                f"SELECT id FROM processes {'' if wanted else _BY_OWNER} "
                f"WHERE {one} {among} AND owner {{}} ORDER BY rowid LIMIT ?"
            )
            values = (wanted,) if wanted else ()
            free = connection.execute(query.format("IS NULL"), (*values, limit)).fetchall()
            left = limit - len(free)
            free += connection.execute(query.format(f"IN {_IDS}"), (*values, json.dumps(dead), left)).fetchall()
            taken = json.dumps([id for (id,) in free])
            connection.execute(
                f"""UPDATE processes SET strikes = strikes + (owner IS NOT NULL AND state = 'running'), owner = ?
                    WHERE id IN {_IDS}""",
                (owner, taken),
            )
            return _select(connection, f"WHERE id IN {_IDS} ORDER BY rowid", taken)

        return await self._ask(job)

    async def delete(self, ids: Sequence[str]) -> int:
        """As in `Store`; events go with the process that published them."""

        def job(connection: sqlite3.Connection) -> int:
            finished = connection.execute(
                f"SELECT id FROM processes WHERE id IN {_IDS} AND state IN {_IDS}",
                (json.dumps(list(ids)), json.dumps(FINISHED)),
            ).fetchall()
            doomed = json.dumps([id for (id,) in finished])
            connection.execute(
                f"""DELETE FROM payloads
                    WHERE hash IN (SELECT hash FROM payload_references WHERE process IN {_IDS})
                    AND NOT EXISTS (SELECT 1 FROM payload_references AS needed
                        WHERE needed.hash = payloads.hash AND needed.process NOT IN {_IDS})""",
                (doomed, doomed),
            )
            for table in ("payload_references", "segments", "inbox", "waits", "events"):
                connection.execute(f"DELETE FROM {table} WHERE process IN {_IDS}", (doomed,))
            connection.execute(f"DELETE FROM processes WHERE id IN {_IDS}", (doomed,))
            return len(finished)

        return await self._ask(job)

    async def register(self, owner: str) -> None:
        def job(_: sqlite3.Connection) -> None:
            self._owners.sweep()
            self._owners.hold(owner)

        await self._ask(job)

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
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._reader.close()
        self._writer.close()
        self._owners.release()

    # --- reading --------------------------------------------------------------------------------------

    async def row(self, id: str) -> ProcessRow | None:
        found = self._read(f"SELECT {_ROW} FROM processes WHERE id = ?", id)
        return _process(found[0]) if found else None

    async def find(self, part: str) -> list[str]:
        query = "SELECT id FROM processes WHERE instr(id, ?) ORDER BY rowid DESC LIMIT 10"
        return [id for (id,) in self._read(query, part)]

    async def rows(
        self,
        *,
        states: Sequence[str] = (),
        roots: bool = False,
        parent: str | None = None,
        before: float | None = None,
        limit: int = 1000,
    ) -> list[ProcessRow]:
        terms: list[str] = []
        values: list[object] = []
        if roots:
            terms.append("parent IS NULL")
        if parent is not None:
            terms.append("parent = ?")
            values.append(parent)
        if before is not None:
            terms.append("updated < ?")
            values.append(before)
        # One query for each state: each finds its newest in the index, with nothing to sort.
        where = " AND ".join(["state = ?" if states else "1", *terms])
        query = f"SELECT rowid AS at, {_ROW} FROM processes WHERE {where} ORDER BY rowid DESC LIMIT ?"
        queries = " UNION ALL ".join([f"SELECT * FROM ({query})"] * (len(states) or 1))
        bound = [v for head in ([[state] for state in states] or [[]]) for v in (*head, *values, limit)]
        found = self._read(f"{queries} ORDER BY at DESC LIMIT ?", *bound, limit)
        return [_process(values[1:]) for values in found]

    async def segments(self, process: str) -> list[Segment]:
        found = self._read("SELECT first, records FROM segments WHERE process = ? ORDER BY first", process)
        return [Segment(process, first, records) for first, records in found]

    async def payload(self, hash: bytes) -> bytes:
        found = self._read("SELECT data FROM payloads WHERE hash = ?", hash)
        if not found:
            raise StoreCorrupt(f"{self.path} lacks the payload {hash.hex()}; restore the file from a copy")
        data: bytes = found[0][0]
        return data

    async def inbox(self, process: str) -> list[Message]:
        found = self._read("SELECT id, process, box, payload FROM inbox WHERE process = ? ORDER BY id", process)
        return [Message(*values) for values in found]

    async def mail(self, owner: str) -> list[str]:
        query = """SELECT DISTINCT process FROM inbox JOIN processes ON processes.id = inbox.process
            WHERE owner = ? AND state IN ('running', 'waiting', 'queued')"""
        return [process for (process,) in self._read(query, owner)]

    async def wake(self, ids: Sequence[str], at: float) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"UPDATE processes SET wake_at = ? WHERE state = 'waiting' AND id IN {_IDS}",
                (at, json.dumps(list(ids))),
            )

        await self._ask(job)

    async def event(self, key: str) -> bytes | None:
        found = self._read("SELECT value FROM events WHERE key = ?", key)
        return found[0][0] if found else None

    async def waiting(self, key: str) -> list[str]:
        return [process for (process,) in self._read("SELECT process FROM waits WHERE key = ?", key)]

    async def due(self, owner: str, now: float, limit: int) -> list[ProcessRow]:
        def job(connection: sqlite3.Connection) -> list[ProcessRow]:
            where = "WHERE state = 'waiting' AND owner = ? AND wake_at <= ? ORDER BY wake_at LIMIT ?"
            rows = _select(connection, where, owner, now, limit)
            connection.execute(
                f"UPDATE processes SET state = 'running', wake_at = NULL WHERE id IN {_IDS}",
                (json.dumps([row.id for row in rows]),),
            )
            return rows

        return await self._ask(job)

    async def next_wake(self, owner: str) -> float | None:
        found = self._read(
            """SELECT wake_at FROM processes WHERE state = 'waiting' AND owner = ? AND wake_at IS NOT NULL
            ORDER BY wake_at LIMIT 1""",
            owner,
        )
        return found[0][0] if found else None

    async def alive(self, owner: str) -> bool:
        try:
            return self._owners.alive(owner)
        except OSError as error:
            raise explain(error, self._owners.folder) from error

    def changed(self) -> bool:
        # Asked of the writing connection, which alone does not see its own commits as another's.
        if not self._busy.acquire(blocking=False):
            self._missed_polls += 1
            if self._missed_polls < 20:
                return False
            self._missed_polls = 0  # a writer that never rests must not hide the others: let the caller look
            return True
        try:
            version, before = _data_version(self._writer), self._seen_version
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        finally:
            self._busy.release()
        self._seen_version, self._missed_polls = version, 0
        return version != before

    # --- the connections ------------------------------------------------------------------------------

    def _read(self, query: str, *values: object) -> list[Any]:
        try:
            return self._reader.execute(query, values).fetchall()
        except Exception as error:
            raise explain(error, self.path) from error

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
                with _transaction(self._writer):
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
            error = self._try(lambda connection: _apply(connection, [write.batch for write in fresh]))
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


# --- statements ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
    """Apply batches as one, field by field. Merging is sound: a later batch depends on an earlier one of its
    group only by replacing rows, events and waits, and the last one wins in both."""
    payloads: dict[bytes, bytes] = {}
    rows: dict[str, ProcessRow] = {}
    waits: dict[str, list[str]] = {}
    for batch in batches:
        payloads.update(batch.payloads)
        rows.update(batch.rows)
        waits.update(batch.waits)
    _insert(connection, "payloads", [v for item in payloads.items() for v in item])
    _insert(connection, "payload_references", [v for b in batches for pair in b.references for v in pair])
    _insert(connection, "processes", [v for row in rows.values() for v in astuple(row)])
    _insert(connection, "segments", [v for b in batches for s in b.segments for v in astuple(s)])
    _insert(connection, "inbox", [v for b in batches for m in b.messages for v in (m.process, m.box, m.payload)])
    taken = [id for batch in batches for id in batch.taken]
    if taken:
        connection.execute(f"DELETE FROM inbox WHERE id IN {_IDS}", (json.dumps(taken),))
    _insert(connection, "events", [v for b in batches for event in b.events for v in event])
    if waits:
        connection.execute(f"DELETE FROM waits WHERE process IN {_IDS}", (json.dumps(list(waits)),))
        _insert(
            connection,
            "waits",
            [v for process, keys in waits.items() for key in keys for v in (key, process)],
        )


def _insert(connection: sqlite3.Connection, table: str, values: list[Any]) -> None:
    """Insert rows given as one flat list: by statements of 2^n rows each, few and so always cached."""
    if not values:
        return
    width = _INSERTS[table][0].count(",") + 1
    left, at, size = len(values) // width, 0, _LARGEST_INSERT
    while left:
        while size > left:
            size //= 2
        connection.execute(_insert_statement(table, size), values[at : at + size * width])
        at += size * width
        left -= size


@cache
def _insert_statement(table: str, size: int) -> str:
    columns, conflict = _INSERTS[table]
    row = f"({', '.join('?' * (columns.count(',') + 1))})"
    return f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * size)} {conflict}"


def _owners(connection: sqlite3.Connection) -> Iterator[str]:
    """Owners of unfinished processes: by jumps in the index, since there are few among many rows."""
    query = f"SELECT owner FROM processes {_BY_OWNER} WHERE {UNFINISHED} AND owner > ? ORDER BY owner LIMIT 1"
    found = connection.execute(query, ("",)).fetchall()
    while found:
        yield found[0][0]
        found = connection.execute(query, found[0]).fetchall()


def _select(connection: sqlite3.Connection, where: str, *values: object) -> list[ProcessRow]:
    return [_process(v) for v in connection.execute(f"SELECT {_ROW} FROM processes {where}", values).fetchall()]


def _process(values: tuple[Any, ...]) -> ProcessRow:
    return ProcessRow(**dict(zip(_COLUMNS, values, strict=True)))


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])

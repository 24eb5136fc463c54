"""The journal's file: its tables, how it is opened and checked, and what its errors mean.

One SQLite file in WAL mode, marked by `application_id`; `user_version` is the schema's number. Whatever
SQLite or the operating system reports, `explain` turns into a `StoreError` that names the file and the fix.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path

from weft.core.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreTooNew

APPLICATION_ID = 0x57454654  # "WEFT"
VERSION = 6
BUSY_SECONDS = 10.0
"""How long to wait for another operating-system process that is writing."""

IS_CLAIMABLE = "state IN ('running', 'waiting', 'queued')"
"""Written the same in index and queries, so that SQLite sees that the partial index fits."""

TABLES = (
    """CREATE TABLE processes (
        id TEXT PRIMARY KEY NOT NULL, workflow TEXT NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL,
        state TEXT NOT NULL, parent TEXT, forked TEXT, key TEXT, queue TEXT, priority INTEGER NOT NULL,
        created REAL NOT NULL, started REAL NOT NULL, updated REAL NOT NULL, wake_at REAL,
        owner TEXT, strikes INTEGER NOT NULL,
        length INTEGER NOT NULL, input BLOB NOT NULL, result BLOB, error BLOB)""",
    f"CREATE INDEX processes_unfinished ON processes (owner) WHERE {IS_CLAIMABLE}",
    """CREATE INDEX processes_waiting ON processes (owner, wake_at)
        WHERE state = 'waiting' AND wake_at IS NOT NULL""",
    "CREATE INDEX processes_parent ON processes (parent) WHERE parent IS NOT NULL",
    "CREATE UNIQUE INDEX processes_key ON processes (key) WHERE key IS NOT NULL",
    """CREATE TABLE segments (
        process TEXT NOT NULL, first INTEGER NOT NULL, records BLOB NOT NULL,
        PRIMARY KEY (process, first)) WITHOUT ROWID""",
    "CREATE TABLE payloads (hash BLOB PRIMARY KEY NOT NULL, data BLOB NOT NULL)",
    """CREATE TABLE payload_references (
        process TEXT NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (process, hash)) WITHOUT ROWID""",
    "CREATE INDEX payload_references_hash ON payload_references (hash)",
    """CREATE TABLE inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        process TEXT NOT NULL, box TEXT NOT NULL, payload BLOB NOT NULL)""",
    "CREATE INDEX inbox_process ON inbox (process)",
    "CREATE TABLE events (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, process TEXT NOT NULL)",
    "CREATE INDEX events_process ON events (process)",
    """CREATE TABLE waits (
        key TEXT NOT NULL, process TEXT NOT NULL, PRIMARY KEY (key, process)) WITHOUT ROWID""",
    "CREATE INDEX waits_process ON waits (process)",
)
"""Of version 1."""

MIGRATIONS = (
    TABLES,
    (
        "ALTER TABLE processes ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",
        """CREATE INDEX processes_queued ON processes (queue, tenant, priority DESC, created)
            WHERE state = 'queued'""",
        """CREATE INDEX processes_admitted ON processes (queue)
            WHERE state IN ('running', 'waiting') AND queue IS NOT NULL""",
        """CREATE TABLE tickets (
            ticket TEXT PRIMARY KEY NOT NULL, queue TEXT NOT NULL, tenant TEXT NOT NULL, priority INTEGER NOT NULL,
            owner TEXT NOT NULL, since REAL NOT NULL, admitted INTEGER NOT NULL)""",
        "CREATE INDEX tickets_queue ON tickets (queue, admitted)",
        "CREATE TABLE starts (queue TEXT NOT NULL, at REAL NOT NULL)",
        "CREATE INDEX starts_queue ON starts (queue, at)",
        """CREATE TABLE served (
            queue TEXT NOT NULL, tenant TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (queue, tenant))""",
    ),
    (
        "ALTER TABLE processes ADD COLUMN image BLOB NOT NULL DEFAULT x''",
        "CREATE INDEX processes_image ON processes (image) WHERE image <> x''",
        "CREATE INDEX processes_paused ON processes (id) WHERE state = 'paused'",
        "CREATE TABLE images (hash BLOB PRIMARY KEY NOT NULL, data BLOB NOT NULL)",
        "ALTER TABLE segments ADD COLUMN chain BLOB NOT NULL DEFAULT x''",
        """CREATE TABLE questions (
            id TEXT PRIMARY KEY NOT NULL, process TEXT NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL,
            asked REAL NOT NULL, expires REAL, body BLOB NOT NULL)""",
        "CREATE INDEX questions_process ON questions (process)",
        "CREATE INDEX questions_queue ON questions (queue, asked)",
        """CREATE TABLE revocations (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, process TEXT NOT NULL, number INTEGER NOT NULL,
            at REAL NOT NULL, "by" TEXT NOT NULL, UNIQUE (process, number))""",
        "CREATE TABLE graves (process TEXT PRIMARY KEY NOT NULL, parent TEXT) WITHOUT ROWID",
        "CREATE INDEX graves_parent ON graves (parent)",
        "CREATE TABLE accounts (process TEXT PRIMARY KEY NOT NULL, parent TEXT) WITHOUT ROWID",
        """CREATE TABLE balances (
            account TEXT NOT NULL, kind TEXT NOT NULL, "limit" REAL, spent REAL NOT NULL, reserved REAL NOT NULL,
            PRIMARY KEY (account, kind))""",
        """CREATE TABLE charges (
            key TEXT PRIMARY KEY NOT NULL, process TEXT NOT NULL, account TEXT NOT NULL, amounts TEXT NOT NULL,
            settled INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX charges_process ON charges (process)",
    ),
    (
        """CREATE TABLE checkpoints (
            id TEXT PRIMARY KEY NOT NULL, process TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
            at REAL NOT NULL, effect INTEGER NOT NULL, heir TEXT NOT NULL, heirs BLOB NOT NULL,
            body BLOB NOT NULL)""",
        "CREATE INDEX checkpoints_process ON checkpoints (process)",
        "CREATE INDEX accounts_parent ON accounts (parent) WHERE parent IS NOT NULL",
    ),
    (
        "CREATE TABLE memories (namespace TEXT PRIMARY KEY NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE INDEX memories_private ON memories (substr(namespace, instr(namespace, '@') + 1))
            WHERE instr(namespace, '@') > 0""",
        """CREATE TABLE objects (
            cell TEXT NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, operation TEXT NOT NULL, value BLOB,
            links TEXT NOT NULL, updated REAL NOT NULL, "by" TEXT NOT NULL, PRIMARY KEY (cell, version))""",
        "CREATE INDEX objects_operation ON objects (operation)",
        "CREATE INDEX objects_clock ON objects (substr(cell, 1, instr(cell, '/') - 1), at)",
        """CREATE TABLE operations (
            id TEXT PRIMARY KEY NOT NULL, namespace TEXT NOT NULL, process TEXT NOT NULL, level TEXT NOT NULL,
            at INTEGER NOT NULL, state TEXT NOT NULL, tainted_at INTEGER NOT NULL,
            retracted_at INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX operations_clock ON operations (namespace, at)",
        "CREATE INDEX operations_tainted ON operations (namespace, tainted_at) WHERE tainted_at > 0",
        "CREATE INDEX operations_retracted ON operations (namespace, retracted_at) WHERE retracted_at > 0",
        """CREATE TABLE dependencies (
            operation TEXT NOT NULL, predecessor TEXT NOT NULL, PRIMARY KEY (predecessor, operation)) WITHOUT ROWID""",
        "CREATE INDEX dependencies_operation ON dependencies (operation)",
        """CREATE TABLE holds (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL UNIQUE, namespace TEXT NOT NULL,
            cells TEXT NOT NULL, until REAL NOT NULL)""",
    ),
    (
        # No column of `tickets`: an older Weft that has the file open goes on writing those.
        """CREATE TABLE portions (
            ticket TEXT NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL, amount REAL NOT NULL, at REAL)""",
        "CREATE INDEX portions_ticket ON portions (ticket)",
        "CREATE INDEX portions_queue ON portions (queue, at)",
        "CREATE TABLE pauses (queue TEXT PRIMARY KEY NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
    ),
)
"""Statements from each version to the next."""


def open_file(path: Path) -> None:
    """Make `path` a journal of this schema, creating it where nothing is. Raises `StoreError`s.

    The file is never opened other than by SQLite: closing a descriptor of our own would drop SQLite's locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"{path} is a folder, not a journal; name a file in it, such as {path / 'journal.db'}")
        size = path.stat().st_size if path.exists() else 0
        for place in (path, path.parent) if path.exists() else (path.parent,):
            if not os.access(place, os.W_OK):
                raise _read_only(path)
        connection = _connect(path)
        try:
            _check(connection, path, size)
            _use_wal(connection, path)
            _create(connection, path)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


def connect(path: Path, *, full: bool = False, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a checked file, usable from any one thread at a time. Without `full` a commit reaches
    the operating system, with it the disk. Raises `sqlite3.Error`."""
    connection = _connect(path)
    connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
    connection.execute("PRAGMA cache_size = -8000")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    # A WAL that one huge payload has grown shrinks again at the next checkpoint.
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _check(connection: sqlite3.Connection, path: Path, size: int) -> None:
    """Refuse a file that is not a journal, or one of a newer schema. `size`: what it was before opening."""
    connection.execute("BEGIN")  # one look at it all: another process may be making the file
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    stray = size > 0 and _pragma(connection, "page_count") == 0
    connection.execute("COMMIT")
    if application == APPLICATION_ID and version > VERSION:
        raise StoreTooNew(
            f"{path} was written by a newer Weft (schema {version}, this one reads {VERSION}); "
            "upgrade with `pip install -U weft`, or name another file with WEFT_STORE"
        )
    # A file of one byte looks empty to SQLite, which would overwrite it.
    if stray or (application != APPLICATION_ID and (application or tables)):
        raise StoreCorrupt(f"{path} is not a Weft journal; name another file, or move this one away")


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not wait for others while it switches modes, and two processes may create the file at once.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreError(
            f"{path} lies on a file system without shared memory, which SQLite's WAL needs; keep it on a local disk"
        )


def _create(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "user_version") == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _pragma(connection, "user_version")  # another process may have been quicker
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        if version < VERSION:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def explain(error: BaseException, path: Path) -> StoreError:
    """The `StoreError` for what SQLite or the operating system reported about `path`."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _full(path)
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return _read_only(path)
        return StoreError(f"{path} could not be opened ({error}); check the path, or name another with WEFT_STORE")
    code = getattr(error, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _read_only(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(
                f"{path} is damaged or is not a journal ({error}); restore it from a copy, save what is left "
                f"with `sqlite3 {path.name} .recover`, or move it away to begin a new one"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"{path} has been locked by another program for over {BUSY_SECONDS:.0f} s; "
                f"find it with `fuser {path.name}` and end it or wait"
            )
        case sqlite3.SQLITE_TOOBIG:
            return _too_big(path)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return _disk_trouble(error, path)
    if "too big" in str(error) or isinstance(error, OverflowError):
        return _too_big(path)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return StoreError(f"the store of {path} is closed; open it again")
    return StoreError(f"{path} refused the write or read ({type(error).__name__}: {error}); nothing was applied")


def _disk_trouble(error: BaseException, path: Path) -> StoreError:
    """SQLite says only "I/O error" or "unable to open" for some full and read-only disks: ask the disk."""
    try:
        disk = os.statvfs(path.parent)
    except OSError as missing:
        return StoreError(f"{path.parent} is gone ({missing}); make the folder again or name another file")
    if disk.f_bavail * disk.f_frsize < 256 * 1024:
        return _full(path)
    if disk.f_flag & os.ST_RDONLY or not os.access(path.parent, os.W_OK):
        return _read_only(path)
    name = getattr(error, "sqlite_errorname", "")
    return StoreError(f"{path} could not be read or written ({error}, {name}); check the disk")


def _full(path: Path) -> StoreFull:
    return StoreFull(
        f"the disk that holds {path} is full; free some space (`weft gc` removes old runs) "
        "or name a file on another disk with WEFT_STORE, then run again: nothing finished is lost"
    )


def _read_only(path: Path) -> StoreReadOnly:
    return StoreReadOnly(
        f"{path} may not be written; give this user write access to the file and its folder, "
        "or name another file with WEFT_STORE"
    )


def _too_big(path: Path) -> StoreError:
    return StoreError(
        f"a value for {path} is larger than the 1 GB that SQLite stores in one place; "
        "write it to a file in the step and return the file's path"
    )

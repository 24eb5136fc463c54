"""Words that the statements of this store share, and rows as structs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from weft.store.base import Checkpoint, ProcessRow, Question
from weft.store.sqlite.schema import IS_CLAIMABLE

COLUMNS = ProcessRow.__struct_fields__
ROW = ", ".join(COLUMNS)
QUESTION = ", ".join(Question.__struct_fields__)
CHECKPOINT = ", ".join(Checkpoint.__struct_fields__)
REVOCATION = 'seq, process, number, at, "by"'
IDS = "(SELECT value FROM json_each(?))"
BY_OWNER = "INDEXED BY processes_unfinished"


@contextlib.contextmanager
def begun(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def owner_names(connection: sqlite3.Connection) -> Iterator[str]:
    """Owners of unfinished processes: by jumps in the index, since there are few among many rows."""
    query = f"SELECT owner FROM processes {BY_OWNER} WHERE {IS_CLAIMABLE} AND owner > ? ORDER BY owner LIMIT 1"
    found = connection.execute(query, ("",)).fetchall()
    while found:
        yield found[0][0]
        found = connection.execute(query, found[0]).fetchall()


def owners_of(connection: sqlite3.Connection, ids: str) -> Iterator[str]:
    query = f"SELECT DISTINCT owner FROM processes WHERE id IN {IDS} AND owner IS NOT NULL"
    return (owner for (owner,) in connection.execute(query, (ids,)).fetchall())


def select(connection: sqlite3.Connection, where: str, *values: object) -> list[ProcessRow]:
    return [process(v) for v in connection.execute(f"SELECT {ROW} FROM processes {where}", values).fetchall()]


def process(values: tuple[Any, ...]) -> ProcessRow:
    return ProcessRow(**dict(zip(COLUMNS, values, strict=True)))


def data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])

"""A batch as statements of SQLite, and rows as structs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from msgspec.structs import astuple

from weft.store.base import Batch, ProcessRow
from weft.store.sqlite.schema import UNFINISHED

COLUMNS = ProcessRow.__struct_fields__
ROW = ", ".join(COLUMNS)
_CHANGING = ("state", "started", "updated", "wake_at", "owner", "strikes", "length", "result", "error")
"""Columns that an upsert replaces: the others are what a process is, and keep their indexes as they are."""
IDS = "(SELECT value FROM json_each(?))"
BY_OWNER = "INDEXED BY processes_unfinished"
_LARGEST_INSERT = 512  # rows; times the columns of a process this stays below SQLite's 32,766 variables
_INSERTS = {
    "payloads": ("hash, data", "ON CONFLICT DO NOTHING"),
    "payload_references": ("process, hash", "ON CONFLICT DO NOTHING"),
    "processes": (
        ROW,
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


def apply(connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
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
        connection.execute(f"DELETE FROM inbox WHERE id IN {IDS}", (json.dumps(taken),))
    _insert(connection, "events", [v for b in batches for event in b.events for v in event])
    if waits:
        connection.execute(f"DELETE FROM waits WHERE process IN {IDS}", (json.dumps(list(waits)),))
        _insert(
            connection,
            "waits",
            [v for process, keys in waits.items() for key in keys for v in (key, process)],
        )
    released = [ticket for batch in batches for ticket in batch.released]
    if released:
        connection.execute(f"DELETE FROM tickets WHERE ticket IN {IDS}", (json.dumps(released),))


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


def owner_names(connection: sqlite3.Connection) -> Iterator[str]:
    """Owners of unfinished processes: by jumps in the index, since there are few among many rows."""
    query = f"SELECT owner FROM processes {BY_OWNER} WHERE {UNFINISHED} AND owner > ? ORDER BY owner LIMIT 1"
    found = connection.execute(query, ("",)).fetchall()
    while found:
        yield found[0][0]
        found = connection.execute(query, found[0]).fetchall()


def select(connection: sqlite3.Connection, where: str, *values: object) -> list[ProcessRow]:
    return [process(v) for v in connection.execute(f"SELECT {ROW} FROM processes {where}", values).fetchall()]


def process(values: tuple[Any, ...]) -> ProcessRow:
    return ProcessRow(**dict(zip(COLUMNS, values, strict=True)))


def data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])

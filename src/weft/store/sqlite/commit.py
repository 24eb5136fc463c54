"""A batch as statements of SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from msgspec.structs import astuple

from weft.core.clock import time
from weft.store.base import Batch, ProcessRow, Question
from weft.store.sqlite import ledger, queue
from weft.store.sqlite.history import follow
from weft.store.sqlite.statements import CHECKPOINT, IDS, QUESTION, ROW

CHANGING = ("state", "started", "updated", "wake_at", "owner", "strikes", "length", "result", "error", "image")
"""Columns that an upsert replaces: the others are what a process is, and keep their indexes as they are."""
_LARGEST_INSERT = 512  # rows; times the columns of a process this stays below SQLite's 32,766 variables
_INSERTS = {
    "payloads": ("hash, data", "ON CONFLICT DO NOTHING"),
    "images": ("hash, data", "ON CONFLICT DO NOTHING"),
    "payload_references": ("process, hash", "ON CONFLICT DO NOTHING"),
    "processes": (
        ROW,
        "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in CHANGING),
    ),
    "segments": ("process, first, records, chain", ""),
    "inbox": ("process, box, payload", ""),
    "events": (
        "key, value, process",
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, process = excluded.process",
    ),
    "waits": ("key, process", "ON CONFLICT DO NOTHING"),
    "graves": ("process, parent", "ON CONFLICT DO NOTHING"),
    "questions": (
        QUESTION,
        "ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, kind = excluded.kind, asked = excluded.asked, "
        "expires = excluded.expires, body = excluded.body",
    ),
    "revocations": ('process, number, at, "by"', "ON CONFLICT DO NOTHING"),
    "checkpoints": (CHECKPOINT, "ON CONFLICT (id) DO UPDATE SET heir = excluded.heir, heirs = excluded.heirs"),
}


def apply(connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
    """Apply batches as one, field by field. Merging is sound: a later batch depends on an earlier one of its
    group only by replacing rows, events, waits and questions, and the last one wins."""
    payloads: dict[bytes, bytes] = {}
    rows: dict[str, ProcessRow] = {}
    waits: dict[str, list[str]] = {}
    for batch in batches:
        payloads.update(batch.payloads)
        rows.update(batch.rows)
        waits.update(batch.waits)
    _insert(connection, "payloads", [v for item in payloads.items() for v in item])
    _insert(connection, "images", [v for b in batches for item in b.images.items() for v in item])
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
    for batch in batches:
        if batch.took or batch.pauses:
            queue.note(connection, batch, time())
    for batch in batches:
        for past in batch.pasts:
            follow(connection, past)
    of_rights = [batch for batch in batches if batch.of_rights()]
    if of_rights:
        _apply_rights(connection, of_rights)
        ledger.apply(connection, of_rights)


def _apply_rights(connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
    _insert(connection, "graves", [v for b in batches for pair in b.lineage.items() for v in pair])
    questions: dict[str, Question | None] = {}
    for batch in batches:
        questions.update(batch.questions)
        questions.update(dict.fromkeys(batch.answered))
    _insert(connection, "questions", [v for q in questions.values() if q is not None for v in astuple(q)])
    answered = [id for id, question in questions.items() if question is None]
    if answered:
        connection.execute(f"DELETE FROM questions WHERE id IN {IDS}", (json.dumps(answered),))
    _insert(connection, "revocations", [v for batch in batches for revoked in revocations(batch) for v in revoked])
    for batch in batches:
        _insert(connection, "checkpoints", [v for one in batch.checkpoints.values() for v in astuple(one)])


def revocations(batch: Batch) -> Iterator[tuple[str, int, float, str]]:
    """(process, number, at, by)"""
    yield from ((process, number, time(), by) for process, number, by in batch.revoked)
    yield from ((one.process, one.number, one.at or time(), one.by) for one in batch.revocations)


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

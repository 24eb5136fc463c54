"""A batch as one statement: one round trip, one transaction, applied once and only by a living owner.

Its first part counts the owner's commits up by one, from exactly the number before. Where the owner was taken
over that row is gone, and where the statement has been applied before (its answer was lost with the connection)
the number is higher: either way the other parts find nothing to join with and write nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from msgspec.structs import astuple

from weft.store.base import Batch, ProcessRow

COLUMNS = ProcessRow.__struct_fields__
ROW = ", ".join(COLUMNS)
CHANGING = ("state", "started", "updated", "wake_at", "owner", "strikes", "length", "result", "error", "image")
"""What an upsert replaces: the rest is what a process is."""
_TYPES = {
    "priority": "int", "strikes": "int", "length": "bigint", "created": "float8", "started": "float8",
    "updated": "float8", "wake_at": "float8", "input": "bytea", "result": "bytea", "error": "bytea", "image": "bytea",
}  # fmt: skip


class _Part(NamedTuple):
    types: tuple[str, ...]
    """Of its arrays, one parameter each."""
    sql: str
    """`{0}`, `{1}` … are the parameters."""


def _insert(table: str, columns: str, types: str, conflict: str = "") -> _Part:
    names = tuple(types.split())
    arrays = ", ".join(f"{{{n}}}::{name}[]" for n, name in enumerate(names))
    return _Part(names, f"INSERT INTO weft.{table} ({columns}) SELECT a.* FROM fence, unnest({arrays}) AS a {conflict}")


_PARTS = {
    # The lock that DO UPDATE takes keeps `delete` from dropping a payload that is wanted again.
    "payloads": _insert(
        "payloads", "hash, data", "bytea bytea", "ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash"
    ),
    "references": _insert("payload_references", "process, hash", "text bytea", "ON CONFLICT DO NOTHING"),
    "rows": _insert(
        "processes",
        ROW,
        " ".join(_TYPES.get(column, "text") for column in COLUMNS),
        "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in CHANGING),
    ),
    "segments": _insert("segments", "process, first, records, chain", "text bigint bytea bytea"),
    "messages": _insert("inbox", "process, box, payload", "text text bytea"),
    "taken": _Part(("bigint",), "DELETE FROM weft.inbox USING fence WHERE id = ANY({0}::bigint[])"),
    "events": _insert(
        "events",
        "key, value, process",
        "text bytea text",
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, process = excluded.process",
    ),
    "unwait": _Part(
        ("text", "text", "text"),
        "DELETE FROM weft.waits USING fence WHERE process = ANY({0}::text[]) "
        "AND NOT EXISTS (SELECT FROM unnest({1}::text[], {2}::text[]) AS kept (k, p) WHERE k = key AND p = process)",
    ),
    "waits": _insert("waits", "key, process", "text text", "ON CONFLICT DO NOTHING"),
    "released": _Part(("text",), "DELETE FROM weft.tickets USING fence WHERE ticket = ANY({0}::text[])"),
}


def statement(owner: str, number: int, batches: Sequence[Batch]) -> tuple[str, list[Any]]:
    """The statement for batches as one, with its parameters; it returns 1 if it was applied. Merging is sound: a
    later batch depends on an earlier one of its group only by replacing rows, events and waits."""
    arrays = _arrays(batches)
    used = tuple(name for name in _PARTS if any(arrays[name]))
    return _sql(used), [owner, number, *(array for name in used for array in arrays[name])]


@cache
def _sql(used: tuple[str, ...]) -> str:
    parts = ["fence AS (UPDATE weft.owners SET commits = $2 WHERE owner = $1 AND commits = $2 - 1 RETURNING 1)"]
    at = 3
    for name in used:
        part = _PARTS[name]
        parts.append(f"{name}_ AS ({part.sql.format(*(f'${at + n}' for n in range(len(part.types))))})")
        at += len(part.types)
    return f"WITH {', '.join(parts)} SELECT count(*) FROM fence"


def _arrays(batches: Sequence[Batch]) -> dict[str, list[list[Any]]]:
    payloads: dict[bytes, bytes] = {}
    rows: dict[str, ProcessRow] = {}
    events: dict[str, tuple[str, bytes, str]] = {}
    waits: dict[str, list[str]] = {}
    for batch in batches:
        payloads.update(batch.payloads)
        rows.update(batch.rows)
        events.update((event[0], event) for event in batch.events)
        waits.update(batch.waits)
    kept = [(key, process) for process, keys in waits.items() for key in dict.fromkeys(keys)]
    kept_columns = _columns(kept, 2)
    return {
        "payloads": [list(payloads), list(payloads.values())],
        "references": _columns([pair for b in batches for pair in b.references], 2),
        "rows": _columns([astuple(row) for row in rows.values()], len(COLUMNS)),
        "segments": _columns([astuple(s) for b in batches for s in b.segments], 4),
        "messages": _columns([(m.process, m.box, m.payload) for b in batches for m in b.messages], 3),
        "taken": [[id for b in batches for id in b.taken]],
        "events": _columns(list(events.values()), 3),
        "unwait": [list(waits), *kept_columns] if waits else [[], [], []],
        "waits": kept_columns,
        "released": [[ticket for b in batches for ticket in b.released]],
    }


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width

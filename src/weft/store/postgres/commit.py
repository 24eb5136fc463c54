"""A batch as one statement: one round trip, one transaction, applied once and only by a living owner.

Its first part counts the owner's commits up by one, from exactly the number before. Where the owner was taken
over that row is gone, and where the statement has been applied before (its answer was lost with the connection)
the number is higher: either way the other parts find nothing to join with and write nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from msgspec.structs import astuple

from weft.store.base import Batch, Checkpoint, ProcessRow, Question
from weft.store.postgres import ledger
from weft.store.postgres.part import Part, columns, insert

COLUMNS = ProcessRow.__struct_fields__
ROW = ", ".join(COLUMNS)
CHANGING = ("state", "started", "updated", "wake_at", "owner", "strikes", "length", "result", "error", "image")
"""What an upsert replaces: the rest is what a process is."""
CHECKPOINT = ", ".join(Checkpoint.__struct_fields__)
REVOKE_LOCK = 0x57454655
_TYPES = {
    "priority": "int", "strikes": "int", "length": "bigint", "created": "float8", "started": "float8",
    "updated": "float8", "wake_at": "float8", "input": "bytea", "result": "bytea", "error": "bytea", "image": "bytea",
}  # fmt: skip


_PARTS = {
    # The lock that DO UPDATE takes keeps `delete` from dropping a payload that is wanted again.
    "payloads": insert(
        "payloads", "hash, data", "bytea bytea", "ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash"
    ),
    # Many share an image, so it is not locked: that `delete` locks the table is enough.
    "images": insert("images", "hash, data", "bytea bytea", "ON CONFLICT DO NOTHING"),
    "references": insert("payload_references", "process, hash", "text bytea", "ON CONFLICT DO NOTHING"),
    "rows": insert(
        "processes",
        ROW,
        " ".join(_TYPES.get(column, "text") for column in COLUMNS),
        "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in CHANGING),
    ),
    "segments": insert("segments", "process, first, records, chain", "text bigint bytea bytea"),
    "messages": insert("inbox", "process, box, payload", "text text bytea"),
    "taken": Part(("bigint",), "DELETE FROM weft.inbox USING fence WHERE id = ANY({0}::bigint[])"),
    "events": insert(
        "events",
        "key, value, process",
        "text bytea text",
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, process = excluded.process",
    ),
    "unwait": Part(
        ("text", "text", "text"),
        "DELETE FROM weft.waits USING fence WHERE process = ANY({0}::text[]) "
        "AND NOT EXISTS (SELECT FROM unnest({1}::text[], {2}::text[]) AS kept (k, p) WHERE k = key AND p = process)",
    ),
    "waits": insert("waits", "key, process", "text text", "ON CONFLICT DO NOTHING"),
    "released": Part(("text",), "DELETE FROM weft.tickets USING fence WHERE ticket = ANY({0}::text[])"),
    "never_begun": Part(("text",), "DELETE FROM weft.portions USING fence WHERE ticket = ANY({0}::text[])"),
    "took": Part(
        ("text", "text", "float8"),
        """UPDATE weft.portions p SET amount = took.amount
            FROM fence, unnest({0}::text[], {1}::text[], {2}::float8[]) AS took (ticket, kind, amount)
            WHERE p.ticket = took.ticket AND p.kind = took.kind""",
    ),
    "pauses": Part(
        ("text", "float8"),
        """INSERT INTO weft.pauses (queue, until)
            SELECT queue, extract(epoch FROM clock_timestamp()) + seconds
                FROM fence, unnest({0}::text[], {1}::float8[]) AS a (queue, seconds)
            ON CONFLICT (queue) DO UPDATE SET until = greatest(pauses.until, excluded.until)""",
    ),
    "lineage": insert("graves", "process, parent", "text text", "ON CONFLICT DO NOTHING"),
    "questions": insert(
        "questions",
        ", ".join(Question.__struct_fields__),
        "text text text text float8 float8 bytea",
        "ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, kind = excluded.kind, asked = excluded.asked, "
        "expires = excluded.expires, body = excluded.body",
    ),
    "answered": Part(("text",), "DELETE FROM weft.questions USING fence WHERE id = ANY({0}::text[])"),
    # The lock is held until the commit: a number is given only when all smaller ones can be seen.
    "revoked": Part(
        ("text", "int", "float8", "text"),
        """INSERT INTO weft.revocations (process, number, at, "by")
            SELECT process, number, coalesce(at, extract(epoch FROM clock_timestamp())), "by" FROM turn,
                unnest({0}::text[], {1}::int[], {2}::float8[], {3}::text[]) AS a (process, number, at, "by")
            ON CONFLICT DO NOTHING""",
        f"turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({REVOKE_LOCK}) FROM fence),",
    ),
    "checkpoints": insert(
        "checkpoints",
        CHECKPOINT,
        "text text text text float8 bigint text bytea bytea",
        "ON CONFLICT (id) DO UPDATE SET heir = excluded.heir, heirs = excluded.heirs",
    ),
    **ledger.PARTS,
}


INSERT = f"""WITH fence AS (SELECT FROM weft.owners WHERE owner = $1 FOR KEY SHARE)
    INSERT INTO weft.processes ({ROW})
    SELECT {", ".join(f"${n + 2}::{_TYPES.get(column, 'text')}" for n, column in enumerate(COLUMNS))}
    WHERE $1::text IS NULL OR EXISTS (SELECT FROM fence) ON CONFLICT (key) DO NOTHING RETURNING true"""
"""One row, by a living owner (or by nobody), unless its key is taken."""


def statement(batches: Sequence[Batch]) -> tuple[str, list[Any]]:
    """The statement for batches as one, with its parameters from the third on (before come the owner and the number
    of this commit); it returns 1 if it was applied. Merging is sound: a later batch depends on an earlier one of its
    group only by replacing rows, events, waits and questions."""
    arrays = _arrays(batches)
    used = tuple(name for name in _PARTS if any(arrays.get(name, ())))
    return _sql(used), [array for name in used for array in arrays[name]]


@cache
def _sql(used: tuple[str, ...]) -> str:
    parts = ["fence AS (UPDATE weft.owners SET commits = $2 WHERE owner = $1 AND commits = $2::bigint - 1 RETURNING 1)"]
    at = 3
    for name in used:
        part = _PARTS[name]
        numbers = [f"${at + n}" for n in range(len(part.types))]
        parts.append(f"{part.before.format(*numbers)} {name}_ AS ({part.sql.format(*numbers)})")
        at += len(part.types)
    return f"WITH RECURSIVE {', '.join(parts)} SELECT count(*) FROM fence"


def _arrays(batches: Sequence[Batch]) -> dict[str, list[list[Any]]]:
    payloads: dict[bytes, bytes] = {}
    rows: dict[str, ProcessRow] = {}
    events: dict[str, tuple[str, bytes, str]] = {}
    waits: dict[str, list[str]] = {}
    took: dict[str, dict[str, float]] = {}
    for batch in batches:
        took.update(batch.took)
        payloads.update(batch.payloads)
        rows.update(batch.rows)
        events.update((event[0], event) for event in batch.events)
        waits.update(batch.waits)
    kept = [(key, process) for process, keys in waits.items() for key in dict.fromkeys(keys)]
    kept_columns = columns(kept, 2)
    return {
        "payloads": [list(payloads), list(payloads.values())],
        "images": columns([item for b in batches for item in b.images.items()], 2),
        "references": columns([pair for b in batches for pair in b.references], 2),
        "rows": columns([astuple(row) for row in rows.values()], len(COLUMNS)),
        "segments": columns([astuple(s) for b in batches for s in b.segments], 4),
        "messages": columns([(m.process, m.box, m.payload) for b in batches for m in b.messages], 3),
        "taken": [[id for b in batches for id in b.taken]],
        "events": columns(list(events.values()), 3),
        "unwait": [list(waits), *kept_columns] if waits else [[], [], []],
        "waits": kept_columns,
        "released": [[ticket for b in batches for ticket in b.released]],
        "never_begun": [[ticket for ticket, amounts in took.items() if not amounts]],
        "took": columns([(ticket, *one) for ticket, amounts in took.items() for one in amounts.items()], 3),
        "pauses": _pauses([batch.pauses for batch in batches if batch.pauses]),
        **_arrays_of_rights([batch for batch in batches if batch.of_rights()]),
    }


def _pauses(given: Sequence[Mapping[str, float]]) -> list[list[Any]]:
    longest = {queue: max(one.get(queue, 0.0) for one in given) for pauses in given for queue in pauses}
    return [list(longest), list(longest.values())]


def _arrays_of_rights(batches: Sequence[Batch]) -> dict[str, list[list[Any]]]:
    if not batches:
        return {}
    questions: dict[str, Question | None] = {}
    for batch in batches:
        questions.update(batch.questions)
        questions.update(dict.fromkeys(batch.answered))
    return {
        "lineage": columns([pair for b in batches for pair in b.lineage.items()], 2),
        "questions": columns([astuple(q) for q in questions.values() if q is not None], 7),
        "answered": [[id for id, question in questions.items() if question is None]],
        "revoked": columns([values for b in batches for values in _revocations(b)], 4),
        "checkpoints": columns([astuple(one) for one in _checkpoints(batches).values()], 9),
        **ledger.arrays(batches),
    }


def _checkpoints(batches: Sequence[Batch]) -> dict[str, Checkpoint]:
    found: dict[str, Checkpoint] = {}
    for batch in batches:
        found.update(batch.checkpoints)
    return found


def _revocations(batch: Batch) -> Iterator[tuple[str, int, float | None, str]]:
    """(process, number, at, by)"""
    yield from ((process, number, None, by) for process, number, by in batch.revoked)
    yield from ((one.process, one.number, one.at or None, one.by) for one in batch.revocations)

"""The past of shared memory on the server: taken over from another store, cut short, forgotten. In transactions of the
caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weft.store.memory import FIELDS, Applied, Past, made, reference, span, unneeded
from weft.store.postgres.memory import lock, write

if TYPE_CHECKING:
    import asyncpg

LOCK_PAYLOADS = "LOCK TABLE weft.payloads, weft.images IN SHARE ROW EXCLUSIVE MODE"
"""Whoever stores a payload or image now waits for the end of this, and then stores it anew."""
_PRIVATE = """SELECT namespace FROM weft.memories
    WHERE strpos(namespace, '@') > 0 AND split_part(namespace, '@', 2) = ANY($1::text[])"""
_OLD = f"""DELETE FROM weft.objects WHERE cell >= $1 AND cell < $2
    AND version <= (SELECT max(version) FROM weft.objects AS newest WHERE newest.cell = objects.cell) - $3::bigint
    RETURNING {FIELDS}"""
_UNNEEDED = """WITH needs AS (
        DELETE FROM weft.payload_references r USING unnest($1::text[], $2::bytea[]) AS n (process, hash)
        WHERE r.process = n.process AND r.hash = n.hash)
    DELETE FROM weft.payloads p WHERE hash = ANY($2::bytea[]) AND NOT EXISTS (
        SELECT FROM weft.payload_references r WHERE r.hash = p.hash AND NOT EXISTS (
            SELECT FROM unnest($1::text[], $2::bytea[]) AS n (process, hash)
            WHERE r.process = n.process AND r.hash = n.hash))"""
_CELLS = "SELECT DISTINCT cell FROM weft.objects WHERE cell >= $1 AND cell < $2"


async def follow(connection: asyncpg.Connection, past: Past) -> None:
    """Take over what happened elsewhere, if it goes on from what is here; else nothing is done."""
    if (await lock(connection, [past.namespace]))[past.namespace] == past.after:
        applied = Applied(past.objects, past.operations, past.dependencies)
        await write(connection, applied, {past.namespace: past.at})


async def prune(connection: asyncpg.Connection, namespace: str, keep: int) -> int:
    await lock(connection, [namespace])
    await connection.execute(LOCK_PAYLOADS)
    start, _, end = span(namespace, "", "")
    gone = [made(row) for row in await connection.fetch(_OLD, start, end, keep)]
    query = f"SELECT {FIELDS} FROM weft.objects WHERE cell = ANY($1::text[])"
    left = [made(row) for row in await connection.fetch(query, sorted({one.cell for one in gone}))]
    needs = unneeded(gone, left)
    await connection.execute(_UNNEEDED, [name for name, _ in needs], [hash for _, hash in needs])
    return len(gone)


async def lock_private(connection: asyncpg.Connection, processes: Sequence[str]) -> list[str]:
    """The namespaces that are private to these processes, locked."""
    found = [row[0] for row in await connection.fetch(_PRIVATE, list(processes))]
    return list(await lock(connection, found)) if found else []


async def forget(connection: asyncpg.Connection, namespaces: Sequence[str]) -> list[str]:
    """Delete these. Returns in whose names they needed large values."""
    names: list[str] = []
    for namespace in namespaces:
        start, _, end = span(namespace, "", "")
        names += [reference(row[0]) for row in await connection.fetch(_CELLS, start, end)]
        await connection.execute("DELETE FROM weft.objects WHERE cell >= $1 AND cell < $2", start, end)
        operations = "(SELECT id FROM weft.operations WHERE namespace = $1)"
        await connection.execute(f"DELETE FROM weft.dependencies WHERE operation IN {operations}", namespace)
        for table in ("operations", "holds", "memories"):
            await connection.execute(f"DELETE FROM weft.{table} WHERE namespace = $1", namespace)
    return names

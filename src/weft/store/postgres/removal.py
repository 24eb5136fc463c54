"""Deleting processes, in a transaction of the caller: what goes with them, and what stays for those that descend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weft.store.base import FINISHED
from weft.store.postgres.history import LOCK_PAYLOADS, forget, lock_private
from weft.store.postgres.ledger import release

if TYPE_CHECKING:
    import asyncpg

_PAYLOADS = """DELETE FROM weft.payloads p
    WHERE hash IN (SELECT hash FROM weft.payload_references WHERE process = ANY($1::text[]))
    AND NOT EXISTS (SELECT FROM weft.payload_references needed
        WHERE needed.hash = p.hash AND needed.process <> ALL($1::text[]))"""
_IMAGES = """DELETE FROM weft.images i
    WHERE NOT EXISTS (SELECT FROM weft.processes p WHERE p.image = i.hash AND p.image <> '')"""
_BURY = """INSERT INTO weft.graves (process, parent) SELECT * FROM unnest($1::text[], $2::text[])
    ON CONFLICT (process) DO UPDATE SET parent = excluded.parent"""
_FORGET = """DELETE FROM weft.graves g WHERE process = ANY($1::text[])
    AND NOT EXISTS (SELECT FROM weft.processes p WHERE p.parent = g.process)
    AND NOT EXISTS (SELECT FROM weft.graves other WHERE other.parent = g.process)
    RETURNING process, parent"""
_CLOSE = """DELETE FROM weft.accounts a WHERE process = ANY($1::text[])
    AND NOT EXISTS (SELECT FROM weft.accounts below WHERE below.parent = a.process)
    AND NOT EXISTS (SELECT FROM weft.processes p WHERE p.id = a.process)
    AND NOT EXISTS (SELECT FROM weft.graves g WHERE g.process = a.process)
    RETURNING process, parent"""


async def delete(connection: asyncpg.Connection, ids: Sequence[str]) -> int:
    """Those of these processes that are finished. Returns how many."""
    query = "SELECT id, parent FROM weft.processes WHERE id = ANY($1::text[]) AND state = ANY($2::text[])"
    ended = [row[0] for row in await connection.fetch(query, list(ids), list(FINISHED))]
    memories = await lock_private(connection, ended)
    await connection.execute(LOCK_PAYLOADS)
    finished = [(id, parent) for id, parent in await connection.fetch(query, ended, list(FINISHED))]
    doomed = [id for id, _ in finished]
    needing = [*doomed, *await forget(connection, memories)]
    await connection.execute(_PAYLOADS, needing)
    await connection.execute("DELETE FROM weft.payload_references WHERE process = ANY($1::text[])", needing)
    query = "SELECT key FROM weft.charges WHERE process = ANY($1::text[]) AND NOT settled"
    await release(connection, [key for (key,) in await connection.fetch(query, doomed)])
    for table in ("segments", "inbox", "waits", "events", "questions", "charges", "checkpoints"):
        await connection.execute(f"DELETE FROM weft.{table} WHERE process = ANY($1::text[])", doomed)
    await connection.execute("DELETE FROM weft.processes WHERE id = ANY($1::text[])", doomed)
    await connection.execute(_IMAGES)
    await _bury(connection, finished)
    return len(finished)


async def _bury(connection: asyncpg.Connection, finished: Sequence[tuple[str, str | None]]) -> None:
    """Processes that were deleted stay as names in the lineage of those that descend from them, and with them what
    bounds their descendants."""
    await connection.execute(_BURY, [id for id, _ in finished], [parent for _, parent in finished])
    childless = {name for pair in finished for name in pair if name is not None}
    while childless:
        gone = await connection.fetch(_FORGET, list(childless))
        await _close([process for process, _ in gone], connection)
        childless = {parent for _, parent in gone if parent is not None}


async def _close(names: Sequence[str], connection: asyncpg.Connection) -> None:
    """Accounts of these that no other hangs below: that of a fork hangs below its origin's."""
    while names:
        gone = await connection.fetch(_CLOSE, names)
        query = "DELETE FROM weft.balances WHERE account = ANY($1::text[])"
        await connection.execute(query, [process for process, _ in gone])
        names = [parent for _, parent in gone if parent is not None]

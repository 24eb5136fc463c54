"""What the shared store can be asked about checkpoints, and the look at one moment that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.core.record import length_of
from weft.store.base import Batch, Checkpoint, Message, Question
from weft.store.ledger import chain
from weft.store.postgres.commit import CHECKPOINT, COLUMNS
from weft.store.postgres.ledger import ACCOUNTS, gathered
from weft.store.postgres.queue import process
from weft.store.postgres.rights import NEAREST, QUESTION, Rights

if TYPE_CHECKING:
    import asyncpg

_BELOW = f"""WITH RECURSIVE below AS (
        SELECT id FROM weft.processes WHERE id = $1
        UNION SELECT p.id FROM below JOIN weft.processes p ON p.parent = below.id)
    SELECT {", ".join("p." + column for column in COLUMNS)} FROM below JOIN weft.processes p USING (id)
    ORDER BY p.id <> $1, p.seq"""
_LAST = """SELECT DISTINCT ON (process) process, first, substring(records FROM 1 FOR 5) FROM weft.segments
    WHERE process = ANY($1::text[]) ORDER BY process, first DESC"""
_WITHOUT_BODY = CHECKPOINT.replace("heirs, body", "''::bytea, ''::bytea")


class Checkpoints(Rights):
    async def checkpoint(self, id: str) -> Checkpoint | None:
        found = await self._fetch(f"SELECT {CHECKPOINT} FROM weft.checkpoints WHERE id = $1", id)
        return Checkpoint(*found[0]) if found else None

    async def checkpoints(self, process: str | None = None, limit: int = 1000) -> list[Checkpoint]:
        query = f"""SELECT {_WITHOUT_BODY} FROM weft.checkpoints WHERE $1::text IS NULL OR process = $1
            ORDER BY seq DESC LIMIT $2"""
        return [Checkpoint(*row) for row in await self._fetch(query, process, limit)]


async def subtree(connection: asyncpg.Connection, id: str) -> Batch:
    """As in `Store`."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = [process(row) for row in await connection.fetch(_BELOW, id)]
        ids = [row.id for row in rows]
        lengths = {one: first + length_of(head) for one, first, head in await connection.fetch(_LAST, ids)}
        for row in rows:
            row.length = lengths.get(row.id, 0)
        waits: dict[str, list[str]] = {}
        for key, one in await _of(connection, "key, process FROM weft.waits", ids):
            waits.setdefault(one, []).append(key)
        letters = await _of(connection, "id, process, box, payload FROM weft.inbox", ids, "id")
        asked = [Question(*row) for row in await _of(connection, f"{QUESTION} FROM weft.questions", ids, "seq")]
        nearest: str = (await connection.fetch(NEAREST, id))[0][0]
        accounts = gathered(await connection.fetch(ACCOUNTS, [nearest, *ids]))
        needed = {account.process for one in (nearest, *ids) for account in chain(accounts, one)}
        return Batch(
            rows={row.id: row for row in rows},
            messages=[Message(*row) for row in letters],
            events=[tuple(row) for row in await _of(connection, "key, value, process FROM weft.events", ids)],
            waits=waits,
            questions={question.id: question for question in asked},
            accounts={one: account for one, account in accounts.items() if one in needed} if rows else {},
        )


async def _of(connection: asyncpg.Connection, what: str, ids: list[str], order: str = "process") -> list[Any]:
    found: list[Any] = await connection.fetch(f"SELECT {what} WHERE process = ANY($1::text[]) ORDER BY {order}", ids)
    return found

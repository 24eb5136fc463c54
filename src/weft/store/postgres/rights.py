"""What the shared store can be asked about rights, questions and budgets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weft.core.errors import StoreCorrupt
from weft.store.base import Batch, Checkpoint, ProcessRow, Question, Revocation
from weft.store.ledger import Account, Charge, chain
from weft.store.postgres.commit import CHECKPOINT
from weft.store.postgres.ledger import ACCOUNTS, gathered

QUESTION = ", ".join(Question.__struct_fields__)
_REVOCATION = 'seq, process, number, at, "by"'
NEAREST = """WITH RECURSIVE up (process, parent, depth) AS (
        SELECT $1::text, NULL::text, 0
        UNION ALL SELECT u.parent, NULL, depth + 1 FROM (
            SELECT depth, coalesce((SELECT parent FROM weft.processes WHERE id = process),
                (SELECT parent FROM weft.graves g WHERE g.process = up.process)) AS parent
            FROM up WHERE NOT EXISTS (SELECT FROM weft.accounts a WHERE a.process = up.process)) AS u
            WHERE u.parent IS NOT NULL)
    SELECT process FROM up ORDER BY depth DESC LIMIT 1"""
_LINEAGE = """WITH RECURSIVE up AS (
        SELECT process, parent FROM weft.graves WHERE process = ANY($1::text[])
        UNION SELECT g.process, g.parent FROM up JOIN weft.graves g ON g.process = up.parent)
    SELECT process, parent FROM up"""


class Rights:
    url: str

    if TYPE_CHECKING:  # of `Reading`, which this is a part of

        async def _fetch(self, query: str, *values: Any) -> list[Any]: ...

    async def image(self, hash: bytes) -> bytes:
        found = await self._fetch("SELECT data FROM weft.images WHERE hash = $1", hash)
        if not found:
            raise StoreCorrupt(f"the journal at {self.url} lacks the image {hash.hex()}; restore it from a backup")
        data: bytes = found[0][0]
        return data

    async def question(self, id: str) -> Question | None:
        found = await self._fetch(f"SELECT {QUESTION} FROM weft.questions WHERE id = $1", id)
        return Question(*found[0]) if found else None

    async def questions(
        self, queue: str | None = None, process: str | None = None, limit: int = 1000
    ) -> list[Question]:
        query = f"""SELECT {QUESTION} FROM weft.questions WHERE ($1::text IS NULL OR queue = $1)
            AND ($2::text IS NULL OR process = $2) ORDER BY asked, seq LIMIT $3"""
        return [Question(*row) for row in await self._fetch(query, queue, process, limit)]

    async def revocations(self, after: int = 0) -> list[Revocation]:
        query = f"SELECT {_REVOCATION} FROM weft.revocations WHERE seq > $1 ORDER BY seq"
        return [Revocation(*row) for row in await self._fetch(query, after)]

    async def accounts(self, process: str) -> list[Account]:
        nearest: str = (await self._fetch(NEAREST, process))[0][0]
        return list(chain(gathered(await self._fetch(ACCOUNTS, [nearest])), nearest))

    async def _complete(self, batch: Batch, rows: Sequence[ProcessRow]) -> None:
        """Put into the batch of these processes what bounds them, in their own names and in those of ancestors that
        were deleted."""
        ids = [row.id for row in rows]
        batch.lineage = dict(await self._fetch(_LINEAGE, [row.parent for row in rows if row.parent is not None]))
        names = list({*batch.lineage, *ids})
        query = "SELECT hash, data FROM weft.images WHERE hash = ANY($1::bytea[])"
        batch.images = dict(await self._fetch(query, list({row.image for row in rows})))
        query = f"SELECT {QUESTION} FROM weft.questions WHERE process = ANY($1::text[]) ORDER BY seq"
        batch.questions = {row[0]: Question(*row) for row in await self._fetch(query, ids)}
        query = f"SELECT {_REVOCATION} FROM weft.revocations WHERE process = ANY($1::text[]) ORDER BY seq"
        batch.revocations = [Revocation(*row) for row in await self._fetch(query, names)]
        query = f"SELECT {CHECKPOINT} FROM weft.checkpoints WHERE process = ANY($1::text[]) ORDER BY seq"
        batch.checkpoints = {row[0]: Checkpoint(*row) for row in await self._fetch(query, ids)}
        accounts = gathered(await self._fetch(ACCOUNTS, names))
        query = "SELECT id FROM weft.processes WHERE id = ANY($1::text[])"
        elsewhere = {id for (id,) in await self._fetch(query, list(accounts))}.difference(names)
        batch.accounts = {process: account for process, account in accounts.items() if process not in elsewhere}
        query = "SELECT key, account, amounts, settled FROM weft.charges WHERE process = ANY($1::text[])"
        batch.charges = {
            key: Charge(key, account, json.loads(amounts), settled)
            for key, account, amounts, settled in await self._fetch(query, ids)
        }

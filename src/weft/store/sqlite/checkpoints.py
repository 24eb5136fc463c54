"""What the embedded store can be asked about checkpoints, and the look at one moment that makes them."""

from __future__ import annotations

import json

from weft.core.record import length_of
from weft.store.base import Batch, Checkpoint, Message, Question
from weft.store.sqlite.rights import Rights
from weft.store.sqlite.statements import CHECKPOINT, IDS, QUESTION, ROW, process

_BELOW = f"""WITH RECURSIVE below (id) AS (
        SELECT id FROM processes WHERE id = ?
        UNION SELECT p.id FROM below JOIN processes p ON p.parent = below.id)
    SELECT {ROW} FROM below JOIN processes USING (id) ORDER BY id <> ?, processes.rowid"""
_LAST = f"SELECT process, max(first), substr(records, 1, 5) FROM segments WHERE process IN {IDS} GROUP BY process"
_WITHOUT_BODY = CHECKPOINT.replace("heirs, body", "x'', x''")


class Checkpoints(Rights):
    async def checkpoint(self, id: str) -> Checkpoint | None:
        found = self._read(f"SELECT {CHECKPOINT} FROM checkpoints WHERE id = ?", id)
        return Checkpoint(*found[0]) if found else None

    async def checkpoints(self, process: str | None = None, limit: int = 1000) -> list[Checkpoint]:
        where, values = ("WHERE process = ?", (process,)) if process is not None else ("", ())
        query = f"SELECT {_WITHOUT_BODY} FROM checkpoints {where} ORDER BY rowid DESC LIMIT ?"
        return [Checkpoint(*found) for found in self._read(query, *values, limit)]

    async def subtree(self, id: str) -> Batch:
        self._read("BEGIN")  # until the end all reads see the same commits
        try:
            return await self._subtree(id)
        finally:
            self._read("COMMIT")

    async def _subtree(self, id: str) -> Batch:
        """Without a pause: the connection may be the one that writes."""
        rows = [process(values) for values in self._read(_BELOW, id, id)]
        ids = json.dumps([row.id for row in rows])
        lengths = {one: first + length_of(head) for one, first, head in self._read(_LAST, ids)}
        for row in rows:
            row.length = lengths.get(row.id, 0)
        waits: dict[str, list[str]] = {}
        for key, one in self._read(f"SELECT key, process FROM waits WHERE process IN {IDS}", ids):
            waits.setdefault(one, []).append(key)
        query = f"SELECT id, process, box, payload FROM inbox WHERE process IN {IDS} ORDER BY id"
        letters = [Message(*values) for values in self._read(query, ids)]
        query = f"SELECT {QUESTION} FROM questions WHERE process IN {IDS} ORDER BY rowid"
        asked = [Question(*values) for values in self._read(query, ids)]
        accounts = {account.process: account for account in (await self.accounts(id) if rows else ())}
        return Batch(
            rows={row.id: row for row in rows},
            messages=letters,
            events=self._read(f"SELECT key, value, process FROM events WHERE process IN {IDS}", ids),
            waits=waits,
            questions={question.id: question for question in asked},
            accounts=accounts | self._accounts([row.id for row in rows]),
        )

"""What the embedded store can be asked about rights, questions and budgets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weft.core.errors import StoreCorrupt
from weft.store.base import Batch, Checkpoint, ProcessRow, Question, Revocation
from weft.store.ledger import Account, Charge, chain
from weft.store.sqlite import ledger
from weft.store.sqlite.schema import explain
from weft.store.sqlite.statements import CHECKPOINT, IDS, QUESTION, REVOCATION

_LAST_REVOCATION = "SELECT max(seq) FROM revocations"
_PARENT = """SELECT parent FROM processes WHERE id = ?1
    UNION ALL SELECT parent FROM graves WHERE process = ?1 LIMIT 1"""


class Rights:
    path: Path
    _reader: sqlite3.Connection

    def _read(self, query: str, *values: object) -> list[Any]:
        try:
            return self._reader.execute(query, values).fetchall()
        except Exception as error:
            raise explain(error, self.path) from error

    async def image(self, hash: bytes) -> bytes:
        found = self._read("SELECT data FROM images WHERE hash = ?", hash)
        if not found:
            raise StoreCorrupt(f"{self.path} lacks the image {hash.hex()}; restore the file from a copy")
        data: bytes = found[0][0]
        return data

    async def question(self, id: str) -> Question | None:
        found = self._read(f"SELECT {QUESTION} FROM questions WHERE id = ?", id)
        return Question(*found[0]) if found else None

    async def questions(
        self, queue: str | None = None, process: str | None = None, limit: int = 1000
    ) -> list[Question]:
        given = {"queue": queue, "process": process}
        terms = [f"{column} = ?" for column, value in given.items() if value is not None]
        query = f"SELECT {QUESTION} FROM questions WHERE {' AND '.join(terms) or '1'} ORDER BY asked, rowid LIMIT ?"
        values = [value for value in given.values() if value is not None]
        return [Question(*found) for found in self._read(query, *values, limit)]

    async def revocations(self, after: int = 0) -> list[Revocation]:
        query = f"SELECT {REVOCATION} FROM revocations WHERE seq > ? ORDER BY seq"
        return [Revocation(*values) for values in self._read(query, after)]

    def last_revocation(self) -> int:
        try:
            return self._reader.execute(_LAST_REVOCATION).fetchone()[0] or 0
        except Exception as error:
            raise explain(error, self.path) from error

    async def accounts(self, process: str) -> list[Account]:
        nearest: str | None = process
        while nearest is not None and not self._read("SELECT 1 FROM accounts WHERE process = ?", nearest):
            above = self._read(_PARENT, nearest)
            nearest = above[0][0] if above else None
        return list(chain(self._accounts([nearest]), nearest)) if nearest is not None else []

    def _accounts(self, processes: Sequence[str]) -> dict[str, Account]:
        try:
            return ledger.accounts(self._reader, processes)
        except Exception as error:
            raise explain(error, self.path) from error

    def _complete(self, batch: Batch, rows: Sequence[ProcessRow]) -> None:
        """Put into the batch of these processes what bounds them, in their own names and in those of ancestors that
        were deleted."""
        ids = json.dumps([row.id for row in rows])
        batch.lineage = self._lineage({row.parent for row in rows if row.parent is not None})
        names = json.dumps([*batch.lineage, *(row.id for row in rows)])
        query = f"SELECT hash, data FROM images WHERE hash IN (SELECT image FROM processes WHERE id IN {IDS})"
        batch.images = dict(self._read(query, ids))
        query = f"SELECT {QUESTION} FROM questions WHERE process IN {IDS} ORDER BY rowid"
        batch.questions = {values[0]: Question(*values) for values in self._read(query, ids)}
        query = f"SELECT {REVOCATION} FROM revocations WHERE process IN {IDS} ORDER BY seq"
        batch.revocations = [Revocation(*values) for values in self._read(query, names)]
        query = f"SELECT {CHECKPOINT} FROM checkpoints WHERE process IN {IDS} ORDER BY rowid"
        batch.checkpoints = {values[0]: Checkpoint(*values) for values in self._read(query, ids)}
        own = [process for (process,) in self._read(f"SELECT process FROM accounts WHERE process IN {IDS}", names)]
        accounts = self._accounts(own)
        query = f"SELECT id FROM processes WHERE id IN {IDS}"
        elsewhere = {id for (id,) in self._read(query, json.dumps(list(accounts)))}.difference(own)
        batch.accounts = {process: account for process, account in accounts.items() if process not in elsewhere}
        query = f"SELECT key, account, amounts, settled FROM charges WHERE process IN {IDS}"
        batch.charges = {
            key: Charge(key, account, json.loads(amounts), bool(settled))
            for key, account, amounts, settled in self._read(query, ids)
        }

    def _lineage(self, parents: set[str]) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        while parents:
            above = self._read(f"SELECT process, parent FROM graves WHERE process IN {IDS}", json.dumps(list(parents)))
            found.update(above)
            parents = {parent for _, parent in above if parent is not None and parent not in found}
        return found

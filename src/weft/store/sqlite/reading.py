"""What the embedded store can be asked: reads see what is committed, and answer at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence

from weft.core.clock import time
from weft.core.errors import StoreCorrupt
from weft.store.base import (
    ENDED,
    FINISHED,
    Batch,
    Family,
    Message,
    ProcessRow,
    QueueStats,
    Segment,
    Stats,
    holding,
)
from weft.store.past import filled, pieces
from weft.store.sqlite.checkpoints import Checkpoints
from weft.store.sqlite.memory import Recall
from weft.store.sqlite.owners import Owners
from weft.store.sqlite.schema import IS_CLAIMABLE, explain
from weft.store.sqlite.statements import IDS, ROW, process

PAGE = 500
"""Processes read at once where everything is read."""


class Reading(Checkpoints, Recall):
    _owners: Owners

    clock = staticmethod(time)

    async def alive(self, owner: str) -> bool:
        try:
            return self._owners.alive(owner)
        except OSError as error:
            raise explain(error, self._owners.folder) from error

    async def row(self, id: str) -> ProcessRow | None:
        found = self._read(f"SELECT {ROW} FROM processes WHERE id = ?", id)
        return process(found[0]) if found else None

    async def find(self, part: str) -> list[str]:
        query = "SELECT id FROM processes WHERE instr(id, ?) ORDER BY rowid DESC LIMIT 10"
        return [id for (id,) in self._read(query, part)]

    async def rows(
        self,
        *,
        states: Sequence[str] = (),
        roots: bool = False,
        parent: str | None = None,
        before: float | None = None,
        ids: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[ProcessRow]:
        terms: list[str] = []
        values: list[object] = []
        if roots:
            terms.append("parent IS NULL")
        if parent is not None:
            terms.append("parent = ?")
            values.append(parent)
        if before is not None:
            terms.append("updated < ?")
            values.append(before)
        for column, among in (("id", ids), ("key", keys)):
            if among is not None:
                terms.append(f"{column} IN {IDS}")
                values.append(_list(among))
        # One query for each state: each finds its newest in the index, with nothing to sort.
        where = " AND ".join(["state = ?" if states else "1", *terms])
        query = f"SELECT rowid AS at, {ROW} FROM processes WHERE {where} ORDER BY rowid DESC LIMIT ?"
        queries = " UNION ALL ".join([f"SELECT * FROM ({query})"] * (len(states) or 1))
        bound = [v for head in ([[state] for state in states] or [[]]) for v in (*head, *values, limit)]
        found = self._read(f"{queries} ORDER BY at DESC LIMIT ?", *bound, limit)
        return [process(values[1:]) for values in found]

    async def listed(
        self,
        *,
        after: int | None = None,
        states: Sequence[str] = (),
        roots: bool = False,
        workflow: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 1000,
    ) -> list[tuple[int, ProcessRow]]:
        bounds = {"rowid < ?": after, "workflow = ?": workflow, "created >= ?": since, "created < ?": until}
        given = {term: value for term, value in bounds.items() if value is not None}
        if states:
            given[f"state IN {IDS}"] = _list(states)
        where = " AND ".join([*given, "parent IS NULL" if roots else "1"])
        query = f"SELECT rowid, {ROW} FROM processes WHERE {where} ORDER BY rowid DESC LIMIT ?"
        return [(at, process(tuple(row))) for at, *row in self._read(query, *given.values(), limit)]

    async def segments(self, ids: Sequence[str]) -> list[Segment]:
        query = f"SELECT process, first, records, chain FROM segments WHERE process IN {IDS} ORDER BY process, first"
        return [Segment(*values) for values in self._read(query, _list(ids))]

    async def growth(self, lengths: Mapping[str, int], limit: int = 1000) -> list[Segment]:
        query = """SELECT process, first, records, chain FROM json_each(?) AS known CROSS JOIN segments
            ON process = known.key AND first >= known.value LIMIT ?"""
        found = [Segment(*values) for values in self._read(query, json.dumps(dict(lengths)), limit)]
        return sorted(found, key=lambda one: (one.process, one.first))

    async def stretch(self, id: str, first: int = 0, limit: int = 1000) -> list[Segment]:
        query = """SELECT process, first, records, chain FROM segments WHERE process = ?1 AND first >= coalesce(
            (SELECT max(first) FROM segments WHERE process = ?1 AND first <= ?2), 0) ORDER BY first LIMIT ?3"""
        return holding(first, [Segment(*values) for values in self._read(query, id, first, limit)])

    async def payload(self, hash: bytes) -> bytes:
        found = self._read("SELECT data FROM payloads WHERE hash = ?", hash)
        if not found:
            raise StoreCorrupt(f"{self.path} lacks the payload {hash.hex()}; restore the file from a copy")
        data: bytes = found[0][0]
        return data

    async def inbox(self, ids: Sequence[str]) -> list[Message]:
        query = f"SELECT id, process, box, payload FROM inbox WHERE process IN {IDS} ORDER BY id"
        return [Message(*values) for values in self._read(query, _list(ids))]

    async def ended(self, ids: Sequence[str]) -> list[ProcessRow]:
        query = f"SELECT {ROW} FROM processes WHERE id IN {IDS} AND state IN {IDS}"
        return [process(values) for values in self._read(query, _list(ids), _list(FINISHED))]

    async def events(self, keys: Sequence[str]) -> dict[str, bytes]:
        return dict(self._read(f"SELECT key, value FROM events WHERE key IN {IDS}", _list(keys)))

    async def owned(self, owner: str) -> list[ProcessRow]:
        query = f"SELECT {ROW} FROM processes WHERE owner = ? AND state IN ('running', 'queued')"
        return [process(values) for values in self._read(query, owner)]

    async def next_wake(self, owner: str) -> float | None:
        found = self._read(
            """SELECT wake_at FROM processes WHERE state = 'waiting' AND owner = ? AND wake_at IS NOT NULL
            ORDER BY wake_at LIMIT 1""",
            owner,
        )
        return found[0][0] if found else None

    async def news(self, owner: str) -> list[str]:
        return [id for (id,) in self._read(_NEWS, owner, owner)]

    async def stats(self) -> Stats:
        states = self._read(
            f"""SELECT state, count(*) FROM processes WHERE {IS_CLAIMABLE} GROUP BY state
            UNION ALL SELECT state, count(*) FROM processes WHERE state = 'paused' GROUP BY state"""
        )
        queues = self._read(
            f"""SELECT queue, count(*), min(since) FROM (
                SELECT queue, created AS since FROM processes WHERE state = 'queued' AND queue IS NOT NULL
                UNION ALL SELECT queue, since FROM tickets WHERE NOT admitted AND owner IN {IDS}) GROUP BY queue""",
            _list([name for (name,) in self._read("SELECT DISTINCT owner FROM tickets") if await self.alive(name)]),
        )
        now = self.clock()
        return Stats(dict(states), {queue: QueueStats(count, max(0.0, now - since)) for queue, count, since in queues})

    async def everything(self) -> AsyncIterator[Batch]:
        last = -1
        query = f"SELECT rowid, {ROW} FROM processes WHERE rowid > ? ORDER BY rowid LIMIT {PAGE}"
        while found := self._read(query, last):
            last = found[-1][0]
            batch = await self._about([process(values[1:]) for values in found])
            batch.payloads = {hash: await self.payload(hash) for hash in {hash for _, hash in batch.references}}
            yield batch
        for namespace, at in (await self.clocks()).items():
            async for past in pieces(self, namespace, 0, at):
                async for batch in filled(self, past):
                    yield batch

    async def families(self, after: int = 0, limit: int = 100) -> list[Family]:
        found: dict[int, Family] = {}
        for at, id, size in self._read(_FAMILIES, after, limit):
            found.setdefault(at, Family(at, {})).sizes[id] = size
        return list(found.values())

    async def about(self, ids: Sequence[str]) -> Batch:
        query = f"SELECT {ROW} FROM processes WHERE id IN {IDS} ORDER BY rowid"
        return await self._about([process(values) for values in self._read(query, _list(ids))])

    async def _about(self, rows: Sequence[ProcessRow]) -> Batch:
        ids = [row.id for row in rows]
        among = _list(ids)
        references = set(self._read(f"SELECT process, hash FROM payload_references WHERE process IN {IDS}", among))
        waits: dict[str, list[str]] = {}
        for key, id in self._read(f"SELECT key, process FROM waits WHERE process IN {IDS}", among):
            waits.setdefault(id, []).append(key)
        batch = Batch(
            references=references,
            rows={row.id: row for row in rows},
            segments=await self.segments(ids),
            messages=await self.inbox(ids),
            events=self._read(f"SELECT key, value, process FROM events WHERE process IN {IDS}", among),
            waits=waits,
        )
        self._complete(batch, rows)
        return batch


def _list(values: Sequence[str]) -> str:
    return json.dumps(list(values))


_NEWS = f"""SELECT p.id FROM inbox JOIN processes p ON p.id = inbox.process
        WHERE p.owner = ? AND p.{IS_CLAIMABLE}
    UNION
    SELECT p.id FROM waits w JOIN processes p ON p.id = w.process
        WHERE p.owner = ? AND p.state = 'waiting' AND (EXISTS (SELECT 1 FROM events e WHERE e.key = w.key)
            OR (w.key LIKE '{ENDED}%' AND EXISTS (SELECT 1 FROM processes c
                WHERE c.id = substr(w.key, {len(ENDED) + 1}) AND c.state IN {FINISHED})))"""

_FAMILIES = """WITH RECURSIVE heads (at, id) AS (
        SELECT rowid, id FROM processes p WHERE rowid > ?
            AND (parent IS NULL OR NOT EXISTS (SELECT 1 FROM processes q WHERE q.id = p.parent))
        ORDER BY rowid LIMIT ?),
    kin (at, id, head) AS (
        SELECT at, id, 1 FROM heads
        UNION SELECT kin.at, p.id, 0 FROM kin JOIN processes p ON p.parent = kin.id)
    SELECT at, id, (SELECT coalesce(sum(length(records)), 0) FROM segments WHERE process = id)
    FROM kin JOIN processes USING (id) ORDER BY at, head DESC, processes.rowid"""

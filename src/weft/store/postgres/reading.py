"""What the shared store can be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from weft.core.errors import StoreCorrupt, StoreError
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
from weft.store.postgres.checkpoints import Checkpoints, subtree
from weft.store.postgres.commit import ROW
from weft.store.postgres.memory import Recall
from weft.store.postgres.queue import process
from weft.store.postgres.schema import IS_CLAIMABLE
from weft.store.postgres.server import Server

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

PAGE = 500
"""Processes read at once where everything is read."""


class Reading(Checkpoints, Recall):
    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.where
        self.private: tuple[str, ...] = ()

    async def _ask(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        if self._server.closed:
            raise self._is_closed()
        return await self._server.ask(work)

    def _is_closed(self) -> StoreError:
        return StoreError(f"the store at {self.url} is closed; open it again")

    async def _fetch(self, query: str, *values: Any) -> list[Any]:
        return await self._ask(lambda connection: connection.fetch(query, *values))

    async def row(self, id: str) -> ProcessRow | None:
        found = await self._fetch(f"SELECT {ROW} FROM weft.processes WHERE id = $1", id)
        return process(found[0]) if found else None

    async def find(self, part: str) -> list[str]:
        query = "SELECT id FROM weft.processes WHERE position($1 IN id) > 0 ORDER BY seq DESC LIMIT 10"
        return [row[0] for row in await self._fetch(query, part)]

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
        values: list[Any] = [list(states), roots, parent, before, limit]
        table, terms = "weft.processes", ""
        for column, among in (("id", ids), ("key", keys)):
            if among is None:
                continue
            values.append(list(among))
            if len(values) == 6:
                table = _EACH.format(given=f"${len(values)}", column=column)
            else:
                terms += f" AND {column} = ANY(${len(values)}::text[])"
        query = f"""SELECT {ROW} FROM {table} WHERE ($1::text[] = '{{}}' OR state = ANY($1))
            AND (NOT $2 OR parent IS NULL) AND ($3::text IS NULL OR parent = $3)
            AND ($4::float8 IS NULL OR updated < $4){terms} ORDER BY seq DESC LIMIT $5"""
        return [process(row) for row in await self._fetch(query, *values)]

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
        query = f"""SELECT seq, {ROW} FROM weft.processes WHERE ($1::bigint IS NULL OR seq < $1)
            AND ($2::text[] = '{{}}' OR state = ANY($2)) AND (NOT $3 OR parent IS NULL)
            AND ($4::text IS NULL OR workflow = $4) AND ($5::float8 IS NULL OR created >= $5)
            AND ($6::float8 IS NULL OR created < $6) ORDER BY seq DESC LIMIT $7"""
        found = await self._fetch(query, after, list(states), roots, workflow, since, until, limit)
        return [(row["seq"], process(row)) for row in found]

    async def segments(self, ids: Sequence[str]) -> list[Segment]:
        query = """SELECT process, first, records, chain FROM weft.segments WHERE process = ANY($1::text[])
            ORDER BY process, first"""
        return [Segment(*row) for row in await self._fetch(query, list(ids))]

    async def growth(self, lengths: Mapping[str, int], limit: int = 1000) -> list[Segment]:
        query = """SELECT s.process, s.first, s.records, s.chain FROM unnest($1::text[], $2::bigint[]) AS known (id, at)
            CROSS JOIN LATERAL (SELECT * FROM weft.segments WHERE process = known.id AND first >= known.at
                ORDER BY first LIMIT $3) AS s LIMIT $3"""
        found = await self._fetch(query, list(lengths), list(lengths.values()), limit)
        return sorted((Segment(*row) for row in found), key=lambda one: (one.process, one.first))

    async def stretch(self, id: str, first: int = 0, limit: int = 1000) -> list[Segment]:
        query = """SELECT process, first, records, chain FROM weft.segments WHERE process = $1 AND first >= coalesce(
            (SELECT max(first) FROM weft.segments WHERE process = $1 AND first <= $2), 0) ORDER BY first LIMIT $3"""
        return holding(first, [Segment(*row) for row in await self._fetch(query, id, first, limit)])

    async def payload(self, hash: bytes) -> bytes:
        found = await self._fetch("SELECT data FROM weft.payloads WHERE hash = $1", hash)
        if not found:
            raise StoreCorrupt(f"the journal at {self.url} lacks the payload {hash.hex()}; restore it from a backup")
        data: bytes = found[0][0]
        return data

    async def inbox(self, ids: Sequence[str]) -> list[Message]:
        query = "SELECT id, process, box, payload FROM weft.inbox WHERE process = ANY($1::text[]) ORDER BY id"
        return [Message(*row) for row in await self._fetch(query, list(ids))]

    async def ended(self, ids: Sequence[str]) -> list[ProcessRow]:
        query = f"SELECT {ROW} FROM weft.processes WHERE id = ANY($1::text[]) AND state = ANY($2::text[])"
        return [process(row) for row in await self._fetch(query, list(ids), list(FINISHED))]

    async def events(self, keys: Sequence[str]) -> dict[str, bytes]:
        query = "SELECT key, value FROM weft.events WHERE key = ANY($1::text[])"
        return dict(await self._fetch(query, list(keys)))

    async def next_wake(self, owner: str) -> float | None:
        query = """SELECT wake_at FROM weft.processes
            WHERE state = 'waiting' AND owner = $1 AND wake_at IS NOT NULL ORDER BY wake_at LIMIT 1"""
        found = await self._fetch(query, owner)
        return found[0][0] if found else None

    async def news(self, owner: str) -> list[str]:
        return [row[0] for row in await self._fetch(_NEWS, owner)]

    def last_revocation(self) -> None:
        return None

    async def subtree(self, id: str) -> Batch:
        return await self._ask(lambda connection: subtree(connection, id))

    async def stats(self) -> Stats:
        states = await self._fetch(
            f"""SELECT state, count(*) FROM weft.processes WHERE {IS_CLAIMABLE} GROUP BY state
            UNION ALL SELECT state, count(*) FROM weft.processes WHERE state = 'paused' GROUP BY state"""
        )
        queues = await self._fetch(
            """SELECT queue, count(*), extract(epoch FROM clock_timestamp())::float8 - min(since) FROM (
                SELECT queue, created AS since FROM weft.processes WHERE state = 'queued' AND queue IS NOT NULL
                UNION ALL
                SELECT queue, since FROM weft.tickets WHERE NOT admitted) AS waiting GROUP BY queue"""
        )
        return Stats(
            dict(states),
            {queue: QueueStats(count, max(0.0, oldest)) for queue, count, oldest in queues},
        )

    async def everything(self) -> AsyncIterator[Batch]:
        last = -1
        while found := await self._fetch(
            f"SELECT {ROW}, seq FROM weft.processes WHERE seq > $1 ORDER BY seq LIMIT $2", last, PAGE
        ):
            last = found[-1]["seq"]
            batch = await self._about([process(row) for row in found])
            hashes = list({hash for _, hash in batch.references})
            query = "SELECT hash, data FROM weft.payloads WHERE hash = ANY($1::bytea[])"
            batch.payloads = dict(await self._fetch(query, hashes))
            yield batch
        for namespace, at in (await self.clocks()).items():
            async for past in pieces(self, namespace, 0, at):
                async for batch in filled(self, past):
                    yield batch

    async def families(self, after: int = 0, limit: int = 100) -> list[Family]:
        found: dict[int, Family] = {}
        for at, id, size in await self._fetch(_FAMILIES, after, limit):
            found.setdefault(at, Family(at, {})).sizes[id] = size
        return list(found.values())

    async def about(self, ids: Sequence[str]) -> Batch:
        query = f"SELECT {ROW} FROM {_EACH.format(given='$1', column='id')} ORDER BY seq"
        return await self._about([process(row) for row in await self._fetch(query, list(ids))])

    async def _about(self, rows: Sequence[ProcessRow]) -> Batch:
        ids = [row.id for row in rows]
        references = await self._fetch(
            "SELECT process, hash FROM weft.payload_references WHERE process = ANY($1::text[])", ids
        )
        events = await self._fetch("SELECT key, value, process FROM weft.events WHERE process = ANY($1::text[])", ids)
        waits: dict[str, list[str]] = {}
        for key, id in await self._fetch("SELECT key, process FROM weft.waits WHERE process = ANY($1::text[])", ids):
            waits.setdefault(id, []).append(key)
        batch = Batch(
            references={(id, hash) for id, hash in references},
            rows={row.id: row for row in rows},
            segments=await self.segments(ids),
            messages=await self.inbox(ids),
            events=[(key, value, id) for key, value, id in events],
            waits=waits,
        )
        await self._complete(batch, rows)
        return batch


_NEWS = f"""SELECT p.id FROM weft.inbox i JOIN weft.processes p ON p.id = i.process
        WHERE p.owner = $1 AND p.{IS_CLAIMABLE}
    UNION
    SELECT p.id FROM weft.waits w JOIN weft.processes p ON p.id = w.process
        WHERE p.owner = $1 AND p.state = 'waiting' AND (EXISTS (SELECT FROM weft.events e WHERE e.key = w.key)
            OR (starts_with(w.key, '{ENDED}') AND EXISTS (SELECT FROM weft.processes c
                WHERE c.id = substr(w.key, {len(ENDED) + 1}) AND c.state = ANY(ARRAY{list(FINISHED)}))))"""

# A plan that was made when the table was small is kept: of these, each is good for a large one too.
_EACH = """unnest({given}::text[]) AS given
    CROSS JOIN LATERAL (SELECT * FROM weft.processes WHERE {column} = given LIMIT 1) AS processes"""

_FAMILIES = """WITH RECURSIVE heads AS (
        SELECT seq AS at, id, seq FROM weft.processes p
        WHERE seq > $1 AND (SELECT id FROM weft.processes above WHERE above.id = p.parent) IS NULL
        ORDER BY seq LIMIT $2),
    kin AS (
        SELECT at, id, true AS head, seq FROM heads
        UNION SELECT at, p.id, false, p.seq FROM kin
            CROSS JOIN LATERAL (SELECT id, seq FROM weft.processes WHERE parent = kin.id OFFSET 0) AS p)
    SELECT at, id, (SELECT coalesce(sum(octet_length(records)), 0)::bigint FROM weft.segments WHERE process = id)
    FROM kin ORDER BY at, head DESC, seq"""

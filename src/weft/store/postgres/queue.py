"""Admission on the server: one transaction under the queue's lock, so that limits hold over all runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weft.core.queue import Queue
from weft.store.admission import Candidate, Turn, choose, within_room
from weft.store.base import MAX_STRIKES, Admission, ProcessRow, Want
from weft.store.postgres.commit import COLUMNS, ROW
from weft.store.postgres.part import columns

if TYPE_CHECKING:
    import asyncpg

_LOCK = "SELECT pg_advisory_xact_lock(1463112276, hashtext($1))"
_ALIVE = """SELECT extract(epoch FROM clock_timestamp())::float8, (SELECT until FROM weft.pauses WHERE queue = $2)
    FROM weft.owners WHERE owner = $1"""
_WANTS = """INSERT INTO weft.tickets (ticket, queue, tenant, priority, owner, since)
    SELECT ticket, $2, tenant, priority, $1, $3 FROM unnest($4::text[], $5::text[], $6::int[])
        WITH ORDINALITY AS wanted (ticket, tenant, priority, n) ORDER BY n
    ON CONFLICT (ticket) DO UPDATE SET owner = excluded.owner, admitted = false,
        since = CASE WHEN tickets.owner = excluded.owner THEN tickets.since ELSE excluded.since END"""
# A process that is left alone, because it has killed too many of its runtimes, holds no place.
_HOLDERS = f"""SELECT tenant, count(*) FROM (
        SELECT tenant FROM weft.processes WHERE queue = $1 AND state IN ('running', 'waiting')
            AND NOT (owner IS NULL AND strikes >= {MAX_STRIKES})
        UNION ALL
        SELECT tenant FROM weft.tickets t WHERE queue = $1 AND admitted
            AND EXISTS (SELECT FROM weft.owners o WHERE o.owner = t.owner)
    ) AS held GROUP BY tenant"""
_STARTS = "SELECT at FROM weft.starts WHERE queue = $1 AND at > $2"
# They count from now on, and not from when the line was looked at: the server may have been slow in between.
_START = """INSERT INTO weft.starts
    SELECT $1, extract(epoch FROM clock_timestamp())::float8 FROM generate_series(1, $2)"""
# A portion has no time yet while its step waits.
_SAY = """INSERT INTO weft.portions (ticket, queue, kind, amount)
    SELECT ticket, $1, kind, amount FROM unnest($2::text[], $3::text[], $4::float8[]) AS said (ticket, kind, amount)"""
_SAID = "SELECT ticket, kind, amount FROM weft.portions WHERE queue = $1 AND at IS NULL"
_TAKE_AMOUNTS = """UPDATE weft.portions SET at = extract(epoch FROM clock_timestamp())::float8
    WHERE at IS NULL AND ticket = ANY($1::text[])"""
_LEFT_LINE = """DELETE FROM weft.portions p WHERE queue = $1 AND at IS NULL
    AND NOT EXISTS (SELECT FROM weft.tickets t WHERE t.ticket = p.ticket)"""
_SERVED = "SELECT tenant, at FROM weft.served WHERE queue = $1"
# Each tenant's first few: the tenants are found by jumps in the index, however many processes each has queued.
# Those of other living runtimes are in line too; those that nobody could take here are not.
_PROCESSES = """WITH RECURSIVE tenants AS (
        (SELECT tenant FROM weft.processes WHERE queue = $2 AND state = 'queued' ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant FROM weft.processes WHERE queue = $2 AND state = 'queued' AND tenant > tenants.tenant
            ORDER BY tenant LIMIT 1) FROM tenants WHERE tenant IS NOT NULL)
    SELECT line.* FROM tenants CROSS JOIN LATERAL (
        SELECT id, p.tenant, priority, created, owner IS NOT NULL AND EXISTS (
                SELECT FROM weft.owners o WHERE o.owner = p.owner) AS taken, owner
        FROM weft.processes p WHERE queue = $2 AND state = 'queued' AND p.tenant = tenants.tenant
            AND (owner = $1 OR EXISTS (SELECT FROM weft.owners o WHERE o.owner = p.owner)
                OR ($3 AND workflow = ANY($4::text[])))
        ORDER BY priority DESC, seq LIMIT $5) AS line
    WHERE tenants.tenant IS NOT NULL"""
_TICKETS = """SELECT ticket, tenant, priority, since, owner FROM (
        SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY priority DESC, seq) AS place FROM weft.tickets t
        WHERE queue = $1 AND NOT admitted AND EXISTS (SELECT FROM weft.owners o WHERE o.owner = t.owner)) AS line
    WHERE place <= $2 ORDER BY seq"""
_TAKE = f"""UPDATE weft.processes SET state = 'running', owner = $1, wake_at = NULL
    WHERE id = ANY($2::text[]) AND state = 'queued' RETURNING {ROW}"""
_SERVE = """INSERT INTO weft.served (queue, tenant, at) SELECT $1, * FROM unnest($2::text[], $3::float8[])
    ON CONFLICT (queue, tenant) DO UPDATE SET at = excluded.at"""
MOST = 1000
"""Let in by one transaction."""


class Line:
    """One look at a queue: who waits, and what is decided."""

    def __init__(self, owner: str, queue: Queue, room: int, workflows: Sequence[str]) -> None:
        self.owner = owner
        self.queue = queue
        self.room = room
        self.workflows = list(workflows)
        self.tenants = False
        """Whether anybody waits on behalf of somebody: only then is it noted whose turn it was."""
        self.others = False
        """Somebody's turn has come whom only another runtime can let in."""

    async def admit(self, connection: asyncpg.Connection, wants: Sequence[Want]) -> Admission:
        """In a transaction of the caller. A rate counts by the server's clock, not by what runtimes take it for."""
        name = self.queue.name
        await connection.execute(_LOCK, name)
        there = await connection.fetchrow(_ALIVE, self.owner, name)
        if there is None:
            return Admission()  # taken over: the next commit says so
        now, until = there
        if wants:
            wanted = columns([(want.ticket, want.tenant, want.priority) for want in wants], 3)
            await connection.execute(_WANTS, self.owner, name, now, *wanted)
            if self.queue.amounts:
                await self._say(connection, wants)
        turn = await self._choose(connection, now, until or 0.0)
        mine = [one for one in turn.chosen if one.key[1] == self.owner or one.key[1] is None]
        self.others = len(mine) < len(turn.chosen)
        processes = [one.key[0] for one in mine if one.key[2] == "process"]
        tickets = [one.key[0] for one in mine if one.key[2] == "ticket"]
        rows: list[Any] = await connection.fetch(_TAKE, self.owner, processes) if processes else []
        if tickets:
            await connection.execute("UPDATE weft.tickets SET admitted = true WHERE ticket = ANY($1::text[])", tickets)
            if self.queue.amounts:
                await self._take(connection, tickets, now)
        if mine:
            await self._remember(connection, mine, now)
        order = {id: n for n, id in enumerate(processes)}
        found = [process(row) for row in sorted(rows, key=lambda row: order[row["id"]])]
        return Admission(found, tickets, turn.again)

    async def _choose(self, connection: asyncpg.Connection, now: float, until: float) -> Turn:
        queue = self.queue
        limited = queue.concurrency is not None
        taken, said = await self._taken(connection, now)
        holders = await connection.fetch(_HOLDERS, queue.name) if limited else []
        starts = await connection.fetch(_STARTS, queue.name, now - queue.rate[1]) if queue.rate else []
        most = min(MOST, queue.concurrency or MOST, queue.rate[0] if queue.rate else MOST)
        line = await connection.fetch(_PROCESSES, self.owner, queue.name, self.room > 0, self.workflows, most)
        waiting = self._processes(line)
        waiting += [
            Candidate((ticket, owner, "ticket"), tenant, priority, since, said.get(ticket, {}))
            for ticket, tenant, priority, since, owner in await connection.fetch(_TICKETS, queue.name, most)
        ]
        self.tenants = any(one.tenant for one in waiting)
        served = await connection.fetch(_SERVED, queue.name) if self.tenants else []
        begun = [row[0] for row in starts]
        turn = choose(queue, waiting, _pairs(holders), begun, _pairs(served), now, taken=taken, until=until)
        return within_room(turn, self.room)

    def _processes(self, line: Sequence[asyncpg.Record]) -> list[Candidate]:
        return [
            Candidate((id, owner if taken else None, "process"), tenant, priority, created)
            for id, tenant, priority, created, taken, owner in (tuple(row.values()) for row in line)
        ]

    async def _say(self, connection: asyncpg.Connection, wants: Sequence[Want]) -> None:
        query = "DELETE FROM weft.portions WHERE at IS NULL AND ticket = ANY($1::text[])"
        await connection.execute(query, [want.ticket for want in wants])
        said = [(want.ticket, kind, amount) for want in wants for kind, amount in want.amounts.items()]
        if said:
            await connection.execute(_SAY, self.queue.name, *columns(said, 3))

    async def _taken(
        self, connection: asyncpg.Connection, now: float
    ) -> tuple[list[tuple[str, float, float]], dict[str, dict[str, float]]]:
        """What was taken lately, and what each of those that wait says."""
        said: dict[str, dict[str, float]] = {}
        if not self.queue.amounts:
            return [], said
        query = "SELECT kind, at, amount FROM weft.portions WHERE queue = $1 AND at > $2"
        taken = await connection.fetch(query, self.queue.name, now - self.queue.memory)
        for ticket, kind, amount in await connection.fetch(_SAID, self.queue.name):
            said.setdefault(ticket, {})[kind] = amount
        return [tuple(row) for row in taken], said

    async def _take(self, connection: asyncpg.Connection, tickets: Sequence[str], now: float) -> None:
        name, memory = self.queue.name, self.queue.memory
        await connection.execute(_TAKE_AMOUNTS, tickets)
        await connection.execute("DELETE FROM weft.portions WHERE queue = $1 AND at <= $2", name, now - memory)
        await connection.execute(_LEFT_LINE, name)

    async def _remember(self, connection: asyncpg.Connection, chosen: Sequence[Candidate], now: float) -> None:
        name = self.queue.name
        if self.queue.rate is not None:
            await connection.execute(
                "DELETE FROM weft.starts WHERE queue = $1 AND at <= $2", name, now - self.queue.rate[1]
            )
            await connection.execute(_START, name, len(chosen))
        if self.tenants:
            tenants = {one.tenant: now + n * 1e-6 for n, one in enumerate(chosen)}
            await connection.execute(_SERVE, name, list(tenants), list(tenants.values()))


def _pairs(rows: Sequence[asyncpg.Record]) -> dict[str, Any]:
    return {row[0]: row[1] for row in rows}


def process(row: asyncpg.Record) -> ProcessRow:
    """A row of the table, which has the columns of `ProcessRow` first."""
    return ProcessRow(**{column: row[column] for column in COLUMNS})

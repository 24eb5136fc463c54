"""Admission in the file: one transaction, so that limits hold over all runtimes of the machine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence

from weft.core.queue import Queue
from weft.store.admission import Candidate, Turn, choose, within_room
from weft.store.base import MAX_STRIKES, Admission, Batch, Want
from weft.store.sqlite.statements import IDS, select

MOST = 1000
"""Let in by one transaction."""
# A process that is left alone, because it has killed too many of its runtimes, holds no place.
_HOLDERS = f"""SELECT tenant, owner, count(*), 0 FROM processes
        WHERE queue = ? AND state IN ('running', 'waiting') AND NOT (owner IS NULL AND strikes >= {MAX_STRIKES})
        GROUP BY tenant, owner
    UNION ALL SELECT tenant, owner, count(*), 1 FROM tickets WHERE queue = ? AND admitted GROUP BY tenant, owner"""
_OWNERS = """SELECT owner FROM processes WHERE queue = ? AND state = 'queued'
    UNION SELECT owner FROM tickets WHERE queue = ? AND NOT admitted"""
_TENANTS = """WITH RECURSIVE tenants (tenant) AS (
        SELECT min(tenant) FROM processes WHERE queue = ?1 AND state = 'queued'
        UNION ALL
        SELECT (SELECT min(tenant) FROM processes WHERE queue = ?1 AND state = 'queued' AND tenant > tenants.tenant)
            FROM tenants WHERE tenant IS NOT NULL)
    SELECT tenant FROM tenants WHERE tenant IS NOT NULL"""
_PROCESSES = f"""SELECT id, priority, created, owner FROM processes
    WHERE queue = ?1 AND state = 'queued' AND tenant = ?2
        AND (owner IN (SELECT value FROM json_each(?3)) OR (?4 AND workflow IN {IDS.replace("?", "?5")}))
    ORDER BY priority DESC, created, rowid LIMIT ?6"""
# Each tenant's first few, as with processes.
_TICKETS = f"""SELECT ticket, owner, tenant, priority, since FROM (
        SELECT *, rowid AS at, row_number() OVER (PARTITION BY tenant ORDER BY priority DESC, rowid) AS place
        FROM tickets WHERE queue = ? AND NOT admitted AND owner IN {IDS})
    WHERE place <= ? ORDER BY at"""
_LEFT_LINE = """DELETE FROM portions WHERE queue = ? AND at IS NULL
    AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.ticket = portions.ticket)"""
_PAUSE = """INSERT INTO pauses VALUES (?, ?)
    ON CONFLICT (queue) DO UPDATE SET until = max(pauses.until, excluded.until)"""


class Line:
    """One look at a queue: who waits, and what is decided."""

    def __init__(
        self, owner: str, queue: Queue, room: int, workflows: Sequence[str], alive: Callable[[str], bool]
    ) -> None:
        self.owner = owner
        self.queue = queue
        self.room = room
        self.workflows = workflows
        self.alive = alive
        self.tenants = False
        """Whether anybody waits on behalf of somebody: only then is it noted whose turn it was."""

    def admit(self, connection: sqlite3.Connection, wants: Sequence[Want], now: float) -> Admission:
        """In a transaction of the caller."""
        name = self.queue.name
        connection.executemany(
            "INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (ticket) DO UPDATE SET "
            "owner = excluded.owner, admitted = 0, "
            "since = CASE WHEN tickets.owner = excluded.owner THEN tickets.since ELSE excluded.since END",
            [(want.ticket, name, want.tenant, want.priority, self.owner, now) for want in wants],
        )
        if self.queue.amounts:
            self._say(connection, wants)
        turn = self._choose(connection, now)
        mine = [one for one in turn.chosen if one.key[1] == self.owner or one.key[1] is None]
        processes = [one.key[0] for one in mine if one.key[2] == "process"]
        tickets = [one.key[0] for one in mine if one.key[2] == "ticket"]
        connection.execute(
            f"UPDATE processes SET state = 'running', owner = ?, wake_at = NULL WHERE id IN {IDS}",
            (self.owner, json.dumps(processes)),
        )
        connection.execute(f"UPDATE tickets SET admitted = 1 WHERE ticket IN {IDS}", (json.dumps(tickets),))
        if self.queue.amounts and tickets:
            self._take(connection, tickets, now)
        self._remember(connection, mine, now)
        rows = {row.id: row for row in select(connection, f"WHERE id IN {IDS}", json.dumps(processes))}
        return Admission([rows[id] for id in processes], tickets, turn.again)

    def _choose(self, connection: sqlite3.Connection, now: float) -> Turn:
        name, rate = self.queue.name, self.queue.rate
        living: dict[str | None, bool] = {None: False, self.owner: True}

        def alive(owner: str | None) -> bool:
            if owner not in living:
                assert owner is not None
                living[owner] = self.alive(owner)
            return living[owner]

        holders: dict[str, int] = {}
        limited = self.queue.concurrency is not None
        for tenant, owner, count, ticket in connection.execute(_HOLDERS, (name, name)) if limited else ():
            if not ticket or alive(owner):  # a dead runtime's processes keep their places, its steps do not
                holders[tenant] = holders.get(tenant, 0) + count
        starts: list[float] = []
        if rate is not None:
            query = "SELECT at FROM starts WHERE queue = ? AND at > ?"
            starts = [at for (at,) in connection.execute(query, (name, now - rate[1]))]
        waiting = self._waiting(connection, alive)
        served = dict(connection.execute("SELECT tenant, at FROM served WHERE queue = ?", (name,)).fetchall())
        taken: list[tuple[str, float, float]] = []
        if self.queue.amounts:
            query = "SELECT kind, at, amount FROM portions WHERE queue = ? AND at > ?"
            taken = connection.execute(query, (name, now - self.queue.memory)).fetchall()
        pause = connection.execute("SELECT until FROM pauses WHERE queue = ?", (name,)).fetchone()
        until = 0.0 if pause is None else pause[0]
        turn = choose(self.queue, waiting, holders, starts, served, now, taken=taken, until=until)
        return within_room(turn, self.room)

    def _waiting(self, connection: sqlite3.Connection, alive: Callable[[str | None], bool]) -> list[Candidate]:
        name, rate = self.queue.name, self.queue.rate
        most = min(MOST, self.queue.concurrency or MOST, rate[0] if rate else MOST)
        owners = connection.execute(_OWNERS, (name, name)).fetchall()
        there = json.dumps([owner for (owner,) in owners if owner is not None and alive(owner)])
        found: list[Candidate] = []
        for (tenant,) in connection.execute(_TENANTS, (name,)).fetchall():
            values = (name, tenant, there, self.room > 0, json.dumps(list(self.workflows)), most)
            for id, priority, created, owner in connection.execute(_PROCESSES, values):
                holder = owner if alive(owner) else None
                found.append(Candidate((id, holder, "process"), tenant, priority, created))
        said = self._said(connection)
        for ticket, owner, tenant, priority, since in connection.execute(_TICKETS, (name, there, most)):
            found.append(Candidate((ticket, owner, "ticket"), tenant, priority, since, said.get(ticket, {})))
        self.tenants = any(one.tenant for one in found)
        return found

    # --- amounts: a portion has no time yet while its step waits ------------------------------------------------

    def _say(self, connection: sqlite3.Connection, wants: Sequence[Want]) -> None:
        tickets = json.dumps([want.ticket for want in wants])
        connection.execute(f"DELETE FROM portions WHERE at IS NULL AND ticket IN {IDS}", (tickets,))
        portions = [(w.ticket, self.queue.name, kind, amount) for w in wants for kind, amount in w.amounts.items()]
        connection.executemany("INSERT INTO portions VALUES (?, ?, ?, ?, NULL)", portions)

    def _said(self, connection: sqlite3.Connection) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        query = "SELECT ticket, kind, amount FROM portions WHERE queue = ? AND at IS NULL"
        for ticket, kind, amount in connection.execute(query, (self.queue.name,)) if self.queue.amounts else ():
            found.setdefault(ticket, {})[kind] = amount
        return found

    def _take(self, connection: sqlite3.Connection, tickets: Sequence[str], now: float) -> None:
        name, memory = self.queue.name, self.queue.memory
        query = f"UPDATE portions SET at = ? WHERE at IS NULL AND ticket IN {IDS}"
        connection.execute(query, (now, json.dumps(tickets)))
        connection.execute("DELETE FROM portions WHERE queue = ? AND at <= ?", (name, now - memory))
        connection.execute(_LEFT_LINE, (name,))

    def _remember(self, connection: sqlite3.Connection, chosen: Sequence[Candidate], now: float) -> None:
        name = self.queue.name
        if self.queue.rate is not None and chosen:
            connection.execute("DELETE FROM starts WHERE queue = ? AND at <= ?", (name, now - self.queue.rate[1]))
            connection.executemany("INSERT INTO starts VALUES (?, ?)", [(name, now)] * len(chosen))
        connection.executemany(
            "INSERT INTO served VALUES (?, ?, ?) ON CONFLICT (queue, tenant) DO UPDATE SET at = excluded.at",
            [(name, one.tenant, now + n * 1e-6) for n, one in enumerate(chosen) if self.tenants],
        )


def note(connection: sqlite3.Connection, batch: Batch, now: float) -> None:
    """What steps took really, and pauses."""
    gone = [(ticket,) for ticket, amounts in batch.took.items() if not amounts]
    connection.executemany("DELETE FROM portions WHERE ticket = ?", gone)
    amounts = [(amount, ticket, kind) for ticket, took in batch.took.items() for kind, amount in took.items()]
    connection.executemany("UPDATE portions SET amount = ? WHERE ticket = ? AND kind = ?", amounts)
    connection.executemany(_PAUSE, [(queue, now + seconds) for queue, seconds in batch.pauses.items()])

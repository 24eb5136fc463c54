"""Being alive: a thread renews the runtime's lease on the server, and clears away those whose lease ran out.

It is a thread with a connection of its own, so that a step which blocks the runtime's loop for a while costs no
lease; a loop that stands still for `STALLED` seconds does. All comparisons are made by the server's clock.

Who was itself away for a lease reaps nobody at first: after an outage of the server or the network, the others get
the time to renew before anybody calls them dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from weft.core.clock import monotonic
from weft.core.errors import LeaseLost, StoreError, StoreTooNew
from weft.store.postgres import schema
from weft.store.postgres.schema import IS_CLAIMABLE, explain, transient
from weft.store.postgres.server import PostgresOptions, connect, quietly

if TYPE_CHECKING:
    import asyncpg

log = logging.getLogger("weft.store")

LEASE = 1.75
"""Length of a lease in heartbeats: who dies is dead to others before two are over."""
STALLED = 60.0
DRIFT = 1e-4
"""Seconds that two clocks may part in one second."""

_REGISTER = """INSERT INTO weft.owners (owner, expires, commits, programs, pid, host, seen)
    VALUES ($1, clock_timestamp() + $2 * interval '1 second', $3, $4, $5, $6, clock_timestamp())
    ON CONFLICT (owner) DO UPDATE SET programs = excluded.programs
        WHERE owners.commits BETWEEN excluded.commits AND excluded.commits + 9 RETURNING true"""
_TELL_ALL = "SELECT pg_notify('weft_' || owner, 'queue') FROM weft.owners WHERE owner <> $1"
_BEAT = """WITH before AS (SELECT expires > clock_timestamp() AS held FROM weft.owners WHERE owner = $1),
    me AS (UPDATE weft.owners SET expires = clock_timestamp() + $2 * interval '1 second', seen = clock_timestamp()
        WHERE owner = $1 RETURNING 1)
    SELECT EXISTS (SELECT FROM me), coalesce((SELECT held FROM before), false),
        extract(epoch FROM clock_timestamp())::float8,
        (SELECT count(*) FROM weft.owners),
        extract(epoch FROM (SELECT min(expires) FROM weft.owners WHERE owner <> $1) - clock_timestamp())::float8,
        (SELECT oldest FROM weft.schema)"""
_REAP = """WITH dead AS (DELETE FROM weft.owners WHERE expires < clock_timestamp() AND owner <> $1
        AND pg_postmaster_start_time() + $2 * interval '1 second' < clock_timestamp() RETURNING owner),
    waits AS (DELETE FROM weft.waits USING dead WHERE process = dead.owner),
    tickets AS (DELETE FROM weft.tickets USING dead WHERE tickets.owner = dead.owner)
    SELECT owner FROM dead"""


class Lease:
    """The lease of one owner. `offset`: the server's clock minus this machine's monotonic one, in seconds."""

    def __init__(
        self, url: str, where: str, options: PostgresOptions, owner: str, programs: Mapping[str, str],
        lost: Callable[[StoreError], None], reaped: Callable[[], None],
    ) -> None:  # fmt: skip
        self.url = url
        self.where = where
        self.options = options
        self.owner = owner
        self.seconds = LEASE * options.heartbeat
        self.programs = [f"{name}@{version}" for name, version in programs.items()]
        self.offset: float | None = None
        self._error, self._compared = 0.0, 0.0
        self.alone = False
        """Nobody else is registered: there is nobody to tell."""
        self._met = 0
        self.stalled = False
        """The loop stood still for so long that this cost the lease."""
        self.pulse = monotonic()
        self._lost = lost
        self._reaped = reaped
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="weft-lease", daemon=True)

    async def take(self, connection: asyncpg.Connection, commits: int) -> None:
        """Register the owner, which has made so many commits, and begin to beat. Raises StoreError for a name that
        another has."""
        about = self.programs, os.getpid(), socket.gethostname()
        if not await connection.fetchval(_REGISTER, self.owner, self.seconds, commits, *about):
            raise StoreError(
                f"a runtime named {self.owner!r} is already at work on {self.where}; give this one another name"
            )
        await self._beat(connection)
        await connection.execute(_TELL_ALL, self.owner)
        if not self._thread.is_alive():
            self._thread.start()

    async def look_around(self, connection: asyncpg.Connection) -> None:
        """Count the others, on a connection that listens already: who comes later says so."""
        met = self._met
        owners = await connection.fetchval("SELECT count(*) FROM weft.owners")
        self.alone = owners == 1 and met == self._met

    def meet(self) -> None:
        """Another runtime was heard of."""
        self._met += 1
        self.alone = False

    async def leave(self, connection: asyncpg.Connection) -> None:
        """Be nobody any more. What is parked here is the others' at once."""
        await connection.execute("DELETE FROM weft.tickets WHERE owner = $1", self.owner)
        await connection.execute("DELETE FROM weft.waits WHERE process = $1", self.owner)
        await connection.execute("DELETE FROM weft.owners WHERE owner = $1", self.owner)
        parked = f"SELECT EXISTS (SELECT FROM weft.processes WHERE owner = $1 AND {IS_CLAIMABLE})"
        if await connection.fetchval(parked, self.owner):
            await connection.execute(_TELL_ALL, self.owner)

    async def release(self) -> None:
        """Stop beating; then `leave`."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            await asyncio.to_thread(self._thread.join, 5)

    def lost(self) -> LeaseLost:
        return LeaseLost(
            f"runtime {self.owner} was silent for over {self.seconds:g} s, so its processes were taken over; they go "
            f"on elsewhere, and this one has stopped without writing any more"
        )

    # --- in the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._keep())
        finally:
            self._loop.close()

    async def _keep(self) -> None:
        connection: asyncpg.Connection | None = None
        pause = self.options.heartbeat
        while not await self._stopped(pause):
            if monotonic() - self.pulse > STALLED:
                log.error(
                    "the event loop has not turned for %.0f s: the lease of %s is not renewed", STALLED, self.owner
                )
                self.stalled = True
                pause = self.options.heartbeat
                continue
            try:
                if connection is None or connection.is_closed():
                    connection = await connect(self.url, self._impatient(), durable=False)
                pause = await self._beat(connection)
            except (LeaseLost, StoreTooNew) as error:
                self._lost(error)
                break
            except Exception as error:
                if not transient(error):
                    log.error("heartbeat: %s", explain(error, self.where))
                if connection is not None:
                    connection.terminate()
                    connection = None
                pause = min(0.2, self.options.heartbeat / 5)
        if connection is not None:
            await quietly(connection)

    async def _beat(self, connection: asyncpg.Connection) -> float:
        """Renew, and reap; the seconds until there is something to do again. Raises LeaseLost, and StoreTooNew once
        the tables were changed so that this Weft can't work with them."""
        asked, met = monotonic(), self._met
        found = await connection.fetchrow(_BEAT, self.owner, self.seconds)
        assert found is not None
        there, held, now, owners, soonest, oldest = found
        schema.check(oldest, self.where)
        self._compare(now, asked, monotonic())
        self.alone = owners == 1 and met == self._met
        if not there:
            raise self.lost()
        if not held:
            return self.options.heartbeat  # away ourselves: the others may be on their way back too
        if soonest is not None and soonest < 0:
            dead = await connection.fetch(_REAP, self.owner, self.seconds)
            if dead:
                log.warning("lease over, taking over from: %s", ", ".join(row[0] for row in dead))
                await connection.execute(_TELL_ALL, self.owner)
                self._reaped()
            return min(self.options.heartbeat, self.seconds / 10)
        return self.options.heartbeat if soonest is None else min(self.options.heartbeat, max(0.0, soonest) + 0.01)

    def _compare(self, server: float, asked: float, answered: float) -> None:
        """Keep the better estimate: an answer that was long under way says little, unless the clocks moved."""
        offset, error = server - (asked + answered) / 2, (answered - asked) / 2
        known = self._error + DRIFT * (answered - self._compared)
        if self.offset is not None and error > known and abs(offset - self.offset) <= error + known:
            return
        self.offset, self._error, self._compared = offset, error, answered

    async def _stopped(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _impatient(self) -> PostgresOptions:
        """A heartbeat that takes longer than the lease has no use."""
        from msgspec.structs import replace

        return replace(self.options, statement_timeout=min(self.options.statement_timeout, self.options.heartbeat / 2))

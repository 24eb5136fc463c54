"""Telling other runtimes at once what they would find anyhow: LISTEN and NOTIFY.

A notification says only what to look at (`Hint`), so one that gets lost costs time, never a wake-up: every runtime
also looks by itself once in a while. Whom to tell is found by one query for all that was committed meanwhile, on a
connection that does not wait for the disk. New work is told to as many workers of its queue as there is work, chosen
at random, not to all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

from weft.store.base import ENDED, FINISHED, QUEUED, Batch, Hint
from weft.store.postgres.lease import Lease
from weft.store.postgres.schema import explain, transient
from weft.store.postgres.server import Server, quietly

if TYPE_CHECKING:
    import asyncpg

log = logging.getLogger("weft.store")

HINTS: tuple[Hint, ...] = get_args(Hint)

_TELL = """
SELECT pg_notify('weft_' || owner, hint) FROM (
    SELECT owner, 'news' AS hint FROM weft.processes WHERE id = ANY($2::text[]) AND owner IS NOT NULL
    UNION
    SELECT coalesce(p.owner, w.process), CASE WHEN p.id IS NOT NULL THEN 'news'
            WHEN starts_with(w.key, 'process:') THEN 'ended' ELSE 'event' END
        FROM weft.waits w LEFT JOIN weft.processes p ON p.id = w.process WHERE w.key = ANY($3::text[])
    UNION
    SELECT owner, 'queue' FROM weft.tickets WHERE queue = ANY($4::text[]) AND NOT admitted
    UNION
    SELECT owner, 'queue' FROM weft.processes WHERE queue = ANY($4::text[]) AND state = 'queued' AND owner IS NOT NULL
    UNION
    SELECT chosen.owner, 'queue' FROM unnest($6::text[], $7::bigint[]) AS work (key, count) CROSS JOIN LATERAL (
        SELECT o.owner FROM weft.owners o JOIN weft.waits w ON w.process = o.owner
            WHERE w.key = work.key AND o.owner <> $1 ORDER BY random() LIMIT work.count) AS chosen
    UNION
    SELECT owner, 'rights' FROM weft.owners WHERE cardinality($5::text[]) > 0
) AS told WHERE owner <> $1"""
SERVES = "queue:"
"""Before the name of a queue: the key under which its workers wait for work. The empty name is everybody's."""


class Herald:
    """`hint` is called on the loop's thread."""

    def __init__(self, server: Server, lease: Lease, hint: Callable[[Hint], None]) -> None:
        self.server = server
        self.lease = lease
        self.owner = lease.owner
        self.hint = hint
        self.letters: set[str] = set()
        self.keys: set[str] = set()
        self.queues: set[str] = set()
        self.revoked: set[str] = set()
        self.work: Counter[str] = Counter()
        """How many processes of each queue are anybody's from now on."""
        self._news = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def tell(self, batches: Sequence[Batch]) -> None:
        """These batches are durable: whoever waits for something in them is told soon."""
        for batch in batches:
            self.letters.update(message.process for message in batch.messages)
            self.keys.update(event[0] for event in batch.events)
            self.queues.update(batch.released.values())
            self.revoked.update(process for process, _, _ in batch.revoked)
            for row in batch.rows.values():
                if row.state in FINISHED:
                    self.keys.add(ENDED + row.id)
                elif row.owner is None:
                    self.work[SERVES + (row.queue or "")] += 1
                if row.queue and (row.owner is None or row.state in FINISHED or row.state == QUEUED):
                    self.queues.add(row.queue)
        if self.letters or self.keys or self.queues or self.revoked or self.work:
            self._news.set()

    def poke(self, queue: str) -> None:
        """Somebody else's turn has come in this queue."""
        self.queues.add(queue)
        self._news.set()

    async def _serve(self) -> None:
        wait = 0.05
        while True:
            try:
                await self._listen()
                wait = 0.05
                await self._news.wait()
                await asyncio.sleep(0.002)  # more may come; one query serves all
                await self._pass_on()
            except Exception as error:
                if not transient(error):  # they will look by themselves
                    log.error("telling others: %s", explain(error, self.server.where))
                    self._take()
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2.0)

    def _take(self) -> tuple[list[set[str]], Counter[str]]:
        """All that is to be told, which is nothing from now on."""
        taken = [self.letters, self.keys, self.queues, self.revoked], self.work
        self.letters, self.keys, self.queues, self.revoked, self.work = set(), set(), set(), set(), Counter()
        self._news.clear()
        return taken

    async def _pass_on(self) -> None:
        assert self._connection is not None
        told, work = self._take()
        try:
            await self._connection.execute(_TELL, self.owner, *map(list, told), list(work), list(work.values()))
        except BaseException:
            for again, names in zip((self.letters, self.keys, self.queues, self.revoked), told, strict=True):
                again |= names
            self.work += work
            self._news.set()
            raise

    async def _listen(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            return
        connection = await self.server.connect(durable=False)
        connection.add_termination_listener(lambda _: self._news.set())  # to listen again at once
        await connection.add_listener(f"weft_{self.owner}", self._heard)
        self._connection = connection
        for hint in HINTS:  # what was told while nobody listened
            self.hint(hint)
        await self.lease.look_around(connection)

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if payload in HINTS:
            self.hint(payload)

    async def close(self) -> None:
        """Tell what is left, if that is quickly done: what was handed back is to go on at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is None:
            return
        if self._news.is_set() and not self._connection.is_closed():
            try:
                async with asyncio.timeout(1.0):
                    await self._pass_on()
            except Exception as error:
                log.debug("telling others at the end: %r", error)
        await quietly(self._connection)

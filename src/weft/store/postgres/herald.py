"""Telling other runtimes at once what they would find anyhow: LISTEN and NOTIFY.

A notification says only what to look at (`Hint`), so one that gets lost costs time, never a wake-up: every runtime
also looks by itself once in a while. Whom to tell is found by one query for all that was committed meanwhile, on a
connection that does not wait for the disk. New work is told to as many workers as there is work, chosen at random,
not to all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

from weft.store.base import ENDED, FINISHED, QUEUED, Batch, Hint
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
    (SELECT owner, 'queue' FROM weft.owners WHERE cardinality(programs) > 0 AND owner <> $1 ORDER BY random() LIMIT
        (SELECT count(*) FROM (SELECT FROM weft.processes
            WHERE queue = ANY($4::text[]) AND state = 'queued' AND owner IS NULL LIMIT 64) AS work))
    UNION
    SELECT owner, 'rights' FROM weft.owners WHERE cardinality($5::text[]) > 0
) AS told WHERE owner <> $1"""


class Herald:
    """`hint` is called on the loop's thread."""

    def __init__(self, server: Server, owner: str, hint: Callable[[Hint], None]) -> None:
        self.server = server
        self.owner = owner
        self.hint = hint
        self.letters: set[str] = set()
        self.keys: set[str] = set()
        self.queues: set[str] = set()
        self.revoked: set[str] = set()
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
                if row.queue and (row.owner is None or row.state in FINISHED or row.state == QUEUED):
                    self.queues.add(row.queue)
        if self.letters or self.keys or self.queues or self.revoked:
            self._news.set()

    def poke(self, queue: str) -> None:
        """Somebody else's turn has come in this queue."""
        self.queues.add(queue)
        self._news.set()

    async def _serve(self) -> None:
        wait = 0.05
        told: tuple[set[str], ...] = ()
        while True:
            try:
                await self._listen()
                wait = 0.05
                await self._news.wait()
                await asyncio.sleep(0.002)  # more may come; one query serves all
                self._news.clear()
                told = self.letters, self.keys, self.queues, self.revoked
                self.letters, self.keys, self.queues, self.revoked = set(), set(), set(), set()
                assert self._connection is not None
                await self._connection.execute(_TELL, self.owner, *map(list, told))
                told = ()
            except Exception as error:
                if transient(error):
                    for again, names in zip((self.letters, self.keys, self.queues, self.revoked), told, strict=False):
                        again |= names
                    self._news.set()
                else:  # they will look by themselves
                    log.error("telling others: %s", explain(error, self.server.where))
                told = ()
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2.0)

    async def _listen(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            return
        connection = await self.server.connect(durable=False)
        connection.add_termination_listener(lambda _: self._news.set())  # to listen again at once
        await connection.add_listener(f"weft_{self.owner}", self._heard)
        self._connection = connection
        for hint in HINTS:  # what was told while nobody listened
            self.hint(hint)

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if payload in HINTS:
            self.hint(payload)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await quietly(self._connection)

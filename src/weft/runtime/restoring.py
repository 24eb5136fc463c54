"""Ending a process and all below it because they are restored: first nobody executes them any more, then all are over
in one transaction, in which their heirs begin.

Those that another runtime executes are killed by it first, and are over before that. Nothing of them is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from weft.core.clock import monotonic
from weft.core.codec import decode, encode
from weft.core.errors import Restored, RunBusy
from weft.core.ids import new_id
from weft.core.queue import Queue
from weft.core.record import length_of
from weft.runtime.commit import settle
from weft.runtime.handle import restored
from weft.runtime.leaving import conclude, evict
from weft.runtime.mail import SIGNAL_BOX
from weft.runtime.writing import Writing
from weft.store.base import KILLED, UNFINISHED, Checkpoint, Message, ProcessRow
from weft.store.handover import check_present

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

PATIENCE = 30.0
"""Seconds that another runtime may take to end what it executes."""
GLANCE = 0.02
"""Seconds between two looks whether it has."""


@asynccontextmanager
async def turn(runtime: Runtime) -> AsyncIterator[None]:
    """One process of a store is restored at a time: two would end and begin the same ones beside each other."""
    admitted: asyncio.Future[None] = runtime.host.create_future()
    gate = runtime.gates[Queue("weft.restore", concurrency=1)]
    ticket = gate.enter(f"{new_id()}:restore:0", "", 0, {}, partial(settle, admitted, None))
    try:
        await admitted
        yield
    finally:
        ticket.release()


class Restoring:
    """`new`: of those that are in the checkpoint, old id -> new one."""

    def __init__(self, runtime: Runtime, checkpoint: Checkpoint, new: Mapping[str, str]) -> None:
        self.runtime = runtime
        self.checkpoint = checkpoint
        self.heirs = dict(new)
        """As which process each goes on, those of earlier restorations too."""
        self.parent: str | None = None
        """Whose child it is that is restored."""
        self._held: dict[str, ProcessRow] = {}
        self._claimed: set[str] = set()
        """Those that nobody executed."""
        self._told: set[str] = set()
        """Those that others execute, and are to end."""
        self._tails: dict[str, Writing] = {}

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Within, nobody executes what is to be ended. Raises RunBusy if somebody does not let go of it."""
        try:
            await self._hold()
            await self._read()
            yield
        except BaseException:
            self.runtime.starting.inserting.difference_update(self._held)
            await self._let_go()
            raise
        self.runtime.starting.inserting.difference_update(self._held)

    def end_all(self) -> None:
        """Without a pause: it all goes into what is written next."""
        batch = self.runtime.journal.batch
        for id, writing in self._tails.items():
            conclude(writing, KILLED, encode(self._reason(id)))
            batch.waits[id] = []
        batch.answered += self._questions
        batch.settled |= self._charges

    def name_heirs(self, root: str) -> None:
        """Say in the checkpoint as what everything goes on that was ended for it, now or before."""
        before: dict[str, str] = decode(self.checkpoint.heirs) if self.checkpoint.heirs else {}
        heirs = {id: self.heirs.get(heir, heir) for id, heir in before.items()} | self.heirs
        self.checkpoint.heir, self.checkpoint.heirs = root, encode(heirs)
        self.runtime.journal.batch.checkpoints[self.checkpoint.id] = self.checkpoint

    def _reason(self, id: str) -> Restored:
        return Restored(id, self.checkpoint.id, id in self.heirs)

    # --- nobody executes them ----------------------------------------------------------------------------

    async def _hold(self) -> None:
        deadline = monotonic() + PATIENCE
        while True:
            await self.runtime.journal.barrier()
            rows = await self._rows()
            busy = await self._claim(rows)
            if busy and monotonic() > deadline:
                raise RunBusy(f"run {busy[0].id} is executed by {busy[0].owner}, which does not end it; stop that one")
            for row in busy:
                if row.id not in self._told:
                    self._told.add(row.id)
                    self.runtime.post.put(row.id, SIGNAL_BOX, self._reason(row.id))
            if busy:
                await asyncio.sleep(GLANCE)  # ours go on until then
            elif self._held.keys() >= {row.id for row in rows}:
                return
            else:
                self._put_out(rows)  # the last of their children may be new

    async def _rows(self) -> list[ProcessRow]:
        """All that is unfinished of what is to be ended, ancestors first."""
        found: dict[str, ProcessRow] = {}
        tops = [self.checkpoint.process, self.checkpoint.heir]
        for id in tops:  # it grows
            rows = (await self.runtime.store.subtree(id)).rows if id and id not in found else {}
            top = rows.get(id)
            if top is None:
                continue
            if id == self.checkpoint.process:
                self.parent = top.parent
            for row in rows.values():
                found[row.id] = row
                origin = (row.forked or "").rpartition("@")[0]
                if origin in self.heirs:
                    self.heirs[row.id] = self.heirs[origin]
            if restored(top) is not None:
                tops.append(await self.runtime.ends.heir(top, patient=False) or "")
        for row in found.values():
            check_present(row)
        return [row for row in found.values() if row.state in UNFINISHED]

    async def _claim(self, rows: Sequence[ProcessRow]) -> list[ProcessRow]:
        """Take those that nobody executes; returns those that another runtime does."""
        owner = self.runtime.owner
        wanted = [row.id for row in rows if row.owner != owner]
        taken = {row.id for row in await self.runtime.store.claim(owner, wanted, len(wanted), states=UNFINISHED)}
        self._claimed |= taken
        return [row for row in rows if row.owner != owner and row.id not in taken]

    def _put_out(self, rows: Sequence[ProcessRow]) -> None:
        """Let these leave memory, and nothing take them in."""
        runtime = self.runtime
        self._held |= {row.id: row for row in rows}
        runtime.starting.inserting.update(self._held)
        for row in rows:
            runtime.recovery.gone(row.id)  # nor is it taken in where that is under way
            process = runtime.active.pop(row.id, None)
            if process is not None:
                evict(process)

    async def _let_go(self) -> None:
        """It has failed: what went on goes on."""
        runtime = self.runtime
        if runtime.journal.broken is not None:
            return
        unread = await runtime.store.inbox(list(self._told))
        runtime.journal.batch.taken += [letter.id for letter in unread if self._is_ours(letter)]
        ids = list(self._held.keys() | self._claimed)
        rows = await runtime.store.rows(ids=ids, states=UNFINISHED, limit=len(ids)) if ids else []
        await runtime.recovery.give_back(rows)
        await runtime.recovery.set_going([row for row in rows if row.id not in self._claimed], here=True)

    def _is_ours(self, letter: Message) -> bool:
        reason = decode(letter.payload) if letter.box == SIGNAL_BOX else None
        return isinstance(reason, Restored) and reason.checkpoint == self.checkpoint.id

    # --- what their ends need ------------------------------------------------------------------------------

    async def _read(self) -> None:
        """How long their journals are, what they had reserved, what they ask."""
        await self.runtime.journal.barrier()
        about = await self.runtime.store.about(list(self._held))
        last = {segment.process: segment for segment in about.segments}
        for id, row in about.rows.items():
            tail = last.get(id)
            self._tails[id] = Writing(self.runtime, row, 0 if tail is None else tail.first + length_of(tail.records))
            self.runtime.journal.opened(row, () if tail is None else (tail,))
        self._charges = {key: charge.amounts for key, charge in about.charges.items() if not charge.settled}
        self._questions = list(about.questions)

"""Working for others: a runtime with room takes in processes that wait for anybody.

What the dead and the drained have left comes first, then what was submitted to its queues. A parked process is
adopted without being woken; it takes no room. Many workers may hear of the same work at once: the store gives each
process to one, and a busy worker asks a little later than an idle one.

When an operating-system process dies, all that it executed are suspected: any of them may have killed it. Who has
been there several times in a row is taken in on trial, one at a time, so that a process which kills its workers does
not bring the others into disrepute. Who only waits for its turn in a queue kills nobody meanwhile: the store is told
of one strike less, and of the true number before its step begins.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from weft.core.clock import monotonic
from weft.core.errors import BadInput, CrashLoop, StoreError
from weft.core.queue import find_queue
from weft.runtime.execute import Execution
from weft.store.base import MAX_STRIKES, RUNNING, SUSPECT, WAITING, ProcessRow

if TYPE_CHECKING:
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime

POLL = 1.0
"""Seconds between two looks for work that nobody hinted at."""
GATHER = 0.01
"""Seconds that free slots may gather before they are filled."""
ADOPT = 1000
"""Parked processes adopted at once."""
TRIAL = 10.0
"""Seconds that a trial lasts at most; an outcome ends it."""
GLANCE = 0.05
"""Seconds between two looks at a trial that others wait for."""

_chance = random.Random()
_draw = _chance.random


class Worker:
    """`queues`: whose processes it takes in. `slots`: how many processes it has in memory at most, but for those
    that wake up."""

    def __init__(self, runtime: Runtime, queues: Sequence[str], slots: int) -> None:
        if slots < 1 or isinstance(queues, str) or not queues:
            raise BadInput(f"a worker needs queues and slots >= 1, not queues={queues!r}, slots={slots!r}")
        self.runtime = runtime
        self.queues = list(dict.fromkeys(queues))
        self.slots = slots
        self.draining = False
        self._news = asyncio.Event()
        self._coming = 0  # being taken in
        self._trial = ("", 0.0)  # who, and until when at most
        self._suspects: dict[str, None] = {}  # seen, and left for later
        self._here: set[str] = set()  # in memory, when it was last looked
        self._struck: set[str] = set()  # here, with strikes
        self._eased: set[str] = set()  # of those: that count one less while they wait
        self.gates = [runtime.gates[find_queue(name)] for name in self.queues]
        runtime.task(self._serve())

    def room(self, queue: str) -> int:
        if self.draining or queue not in self.queues:
            return 0
        return max(0, self.slots - len(self.runtime.active) - self._coming)

    def had(self) -> list[str]:
        """Who was in memory when a lease was lost."""
        return list(self._here | self.runtime.recovery.brought)

    def wake(self) -> None:
        """There may be work, or room for it."""
        self._news.set()

    async def _serve(self) -> None:
        while not self.runtime.closing:
            self._look_around()
            if not self.draining:
                try:
                    await self._take_over()
                    for gate in self.gates:
                        gate.poke()
                except StoreError as error:
                    self.runtime.fault(error)
            if await self._hears(POLL * (0.75 + _draw() / 2)):
                used = len(self.runtime.active) / self.slots
                if used > 0.75:
                    await asyncio.sleep(GATHER * (0.5 + _draw()))
            self._news.clear()

    async def _hears(self, seconds: float) -> bool:
        """Wait for news; False if there are none for so long, or if the next trial can begin."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            waits = bool(self._suspects) and self.room(self.queues[0]) > 0
            try:
                await asyncio.wait_for(self._news.wait(), min(left, GLANCE) if waits or self._struck else left)
                return True
            except TimeoutError:
                self._look_around()
                if waits and not self._on_trial():
                    return False
        return False

    async def _take_over(self) -> None:
        """Processes that nobody alive owns, and that no queue holds back."""
        runtime, store = self.runtime, self.runtime.store
        room = self.room(self.queues[0])
        while room > 0:
            later = list(self._suspects)
            if later and not self._on_trial():
                self._suspects.pop(later.pop(0))
            # Who is left alone for its strikes is not given by the store, until somebody takes them back.
            stuck = [id for id, error in runtime.ends.stuck.items() if not isinstance(error, CrashLoop)]
            but = [*stuck, *later]
            with runtime.recovery.reading() as left:
                rows = await store.claim(runtime.owner, None, room, states=(RUNNING,), queues=self.queues, but=but)
                self._coming += len(rows)
                try:
                    await runtime.recovery.take(await self._tried(rows), left)
                    await asyncio.sleep(0)  # their bodies come to rest
                finally:
                    self._coming -= len(rows)
            self._look_around()
            if len(rows) < room:
                break
            room = self.room(self.queues[0])
        while await store.claim(runtime.owner, None, ADOPT, states=(WAITING,), queues=self.queues):
            runtime.hint("news")

    async def _tried(self, rows: Sequence[ProcessRow]) -> list[ProcessRow]:
        """Those of these to go on with now: no suspect but one, and the others are anybody's again before it begins."""
        suspects = sorted((row for row in rows if SUSPECT <= row.strikes < MAX_STRIKES), key=lambda row: row.strikes)
        if suspects and not self._on_trial():
            accused = suspects.pop(0)
            self._trial = accused.id, monotonic() + TRIAL
            self.runtime.put(accused)  # its strikes count from here on
            await self.runtime.journal.barrier()
        if suspects:
            self._suspects |= dict.fromkeys(row.id for row in suspects)
            await self.runtime.recovery.give_back(suspects)
        taken = [row for row in rows if row.id not in self._suspects]
        self._struck.update(row.id for row in taken if row.strikes)
        return taken

    def _on_trial(self) -> bool:
        """Whether a suspect is here of whom nothing is known yet."""
        id, until = self._trial
        process = self.runtime.active.get(id)
        return process is not None and process.row.strikes > 0 and id not in self._eased and monotonic() < until

    def _look_around(self) -> None:
        """Those of the struck that only wait in queues would not be guilty of a death now."""
        if not self.runtime.journal.broken:
            self._here = set(self.runtime.active)
        for id in list(self._struck):
            process = self.runtime.active.get(id)
            if process is None or not process.row.strikes:
                self._struck.discard(id)
                self._eased.discard(id)
            elif id not in self._eased and _only_waits(process):
                self._eased.add(id)
                self.runtime.journal.row(replace(process.row, strikes=process.row.strikes - 1))
                self.runtime.kick()

    def begins(self, id: str) -> bool:
        """A step of process `id` is going to begin. True if that has to wait until its strikes are written."""
        if id not in self._eased:
            return False
        self._eased.discard(id)
        process = self.runtime.active.get(id)
        if process is not None:
            self.runtime.put(process.row)
        return True


def _only_waits(process: Process) -> bool:
    """Whether all that it does is to stand in line, or to be going to."""
    pending = process.pending.values()
    if not pending or process.arrived or process.queued or not process.live:
        return False
    return all(
        isinstance(effect, Execution)
        and effect.step.queue is not None
        and (effect.ticket is None or effect.ticket.waits)
        for effect in pending
    )

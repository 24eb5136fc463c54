"""Time: alarms of processes in memory, and the one alarm for the earliest of those that are parked.

In memory the monotonic clock counts, so a wall clock that jumps moves no alarm. Across restarts there is only
the wall clock: a deadline that passed meanwhile is due at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from weft.core.errors import StoreError

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime

BATCH = 256
"""Parked processes woken between two looks at the rest of the world."""


EARLY = 0.05
"""Seconds that an alarm may ring too early and be set once more."""


class Alarms:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.wake_at: float | None = None
        self.timer: asyncio.TimerHandle | None = None

    def set(self, process: Process, pending: Pending) -> None:
        """Deliver a sleep or a timer of `process` at its deadline."""
        assert pending.deadline is not None
        pending.started = self.runtime.clock()
        left = max(0.0, pending.deadline - pending.started)
        pending.host = self.runtime.host.call_later(left, self._ring_for, process, pending)

    def _ring_for(self, process: Process, pending: Pending) -> None:
        """Not a little too early by the store's clock, of which this machine's is an estimate; a clock that was set
        anew is not followed."""
        assert pending.deadline is not None
        left = pending.deadline - self.runtime.clock()
        if 0 < left < EARLY:
            pending.host = self.runtime.host.call_later(left, self._ring_for, process, pending)
        else:
            process.arrive(pending, True, None)

    def expect(self, wake_at: float) -> None:
        """A parked process wants to run again at `wake_at` (seconds since the epoch)."""
        if self.wake_at is None or wake_at < self.wake_at:
            self.close()
            self.wake_at = wake_at
            self.timer = self.runtime.host.call_later(max(0.0, wake_at - self.runtime.clock()), self._ring)

    def _ring(self) -> None:
        self.wake_at, self.timer = None, None
        self.runtime.task(self._wake_due())

    async def _wake_due(self) -> None:
        runtime = self.runtime
        try:
            await runtime.journal.barrier()
            with runtime.recovery.reading() as left:
                due = await runtime.store.due(runtime.owner, runtime.clock(), BATCH)
                await runtime.recovery.activate(due, left, written=True)
            await self.look()
        except StoreError as error:
            runtime.fault(error)

    async def look(self) -> None:
        """Ask the store which parked process is the next."""
        earliest = await self.runtime.store.next_wake(self.runtime.owner)
        if earliest is not None:
            self.expect(earliest)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.wake_at = None

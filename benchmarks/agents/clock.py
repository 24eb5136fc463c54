"""A clock that only passes while everybody sleeps, so that hours of latency take no time and come out exact."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

EPOCH = 1_700_000_000.0


class VirtualClock:
    """Seconds since it was made. All that runs beside the sleepers must be callbacks of the one loop: threads that are
    at work are not seen. A loop has one such clock at a time, as each of two would take the other's look for work."""

    def __init__(self) -> None:
        self.now = 0.0
        self._loop: Any = asyncio.get_running_loop()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0
        self._looking = False

    def time(self) -> float:
        """For a runtime: seconds since the epoch."""
        return EPOCH + self.now

    async def sleep(self, seconds: float) -> None:
        self._number += 1
        awake: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, self._number, awake))
        self._look_soon()
        await awake

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """If nobody else has anything to do, it is later now. Sleeps that were given up move nothing."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        self._looking = False
        if self._sleepers and not self._loop._ready:
            self.now, _, awake = heapq.heappop(self._sleepers)
            awake.set_result(None)
        if self._sleepers:
            self._look_soon()

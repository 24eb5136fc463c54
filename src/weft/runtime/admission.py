"""Queues: at most so many at once, at most so many starts in a while, the most urgent first."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from weft.core.declare import Queue
from weft.core.errors import BadInput


class Ticket:
    """A place in a queue. `release` gives it back, whether it was admitted yet or not."""

    __slots__ = ("admitted", "gate", "live", "then")

    def __init__(self, gate: Gate, then: Callable[[], None]) -> None:
        self.gate = gate
        self.then = then
        self.admitted = False
        self.live = True

    def release(self) -> None:
        if self.live:
            self.live = False
            if self.admitted:
                self.gate.running -= 1
                self.gate.advance()


class Gate:
    """The state of one Queue. Starts are counted in a sliding window, so that `rate` is never exceeded."""

    def __init__(self, queue: Queue, host: asyncio.AbstractEventLoop) -> None:
        self.queue = queue
        self.host = host
        self.running = 0
        self.heap: list[tuple[int, int, Ticket]] = []
        self.order = count()
        self.starts: deque[float] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def enter(self, priority: int, then: Callable[[], None]) -> Ticket:
        """Call `then` when admitted (perhaps before this returns)."""
        ticket = Ticket(self, then)
        heapq.heappush(self.heap, (-priority, next(self.order), ticket))
        self.advance()
        return ticket

    def advance(self) -> None:
        while self.heap:
            ticket = self.heap[0][2]
            if not ticket.live:
                heapq.heappop(self.heap)
                continue
            if self.queue.concurrency is not None and self.running >= self.queue.concurrency:
                return
            if not self._rate_allows():
                return
            heapq.heappop(self.heap)
            self.running += 1
            ticket.admitted = True
            ticket.then()

    def _rate_allows(self) -> bool:
        if self.queue.rate is None:
            return True
        limit, seconds = self.queue.rate
        now = self.host.time()
        while self.starts and self.starts[0] <= now - seconds:
            self.starts.popleft()
        if len(self.starts) < limit:
            self.starts.append(now)
            return True
        if self.timer is None:
            self.timer = self.host.call_later(self.starts[0] + seconds - now, self._later)
        return False

    def _later(self) -> None:
        self.timer = None
        self.advance()


class Gates:
    """All queues of a runtime, by name; two declarations of one name must agree."""

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.gates: dict[str, Gate] = {}

    def __getitem__(self, queue: Queue) -> Gate:
        gate = self.gates.get(queue.name)
        if gate is None:
            gate = self.gates[queue.name] = Gate(queue, self.host)
        elif gate.queue is not queue and gate.queue != queue:
            raise BadInput(f"queue {queue.name!r} is declared twice, as {gate.queue} and {queue}; declare it once")
        return gate

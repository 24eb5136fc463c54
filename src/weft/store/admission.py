"""Whom a queue lets in next: the one rule, whatever store holds the queue.

A store locks the queue, reads who holds a place and who waits, asks `choose`, and writes the answer down.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from weft.core.queue import Queue

STARTS = "starts"
"""What a rate counts, as if it were a kind of amount."""


class Candidate(msgspec.Struct, frozen=True):
    """Somebody who waits: a process or a step."""

    key: tuple[str, str | None, Literal["process", "ticket"]]
    """(id or ticket, living owner, which of the two)."""
    tenant: str
    priority: int
    order: float
    """When it came: smaller is earlier."""
    amounts: Mapping[str, float] = {}
    """What it says that it will take, by kind."""


class Turn(msgspec.Struct):
    """Who goes in now, in order. `again`: seconds until the next may be let in, if only time holds it up."""

    chosen: list[Candidate]
    again: float | None = None


class Window:
    """What was taken in the last `seconds` before `now`, as (when, how much), of which there may be up to `limit`."""

    def __init__(self, limit: float, seconds: float, taken: Iterable[tuple[float, float]], now: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self.now = now
        self.taken = sorted(one for one in taken if one[0] > now - seconds and one[1] > 0)
        self.sum = math.fsum(amount for _, amount in self.taken)

    def wait(self, amount: float) -> float:
        """Seconds until there is room for this: 0 if there is now. What is more than `limit` needs all of it."""
        excess = self.sum + min(amount, self.limit) - self.limit
        seconds = 0.0
        for at, leaves in self.taken:
            if excess <= 0:
                break
            excess -= leaves
            seconds = at + self.seconds - self.now
        return seconds

    def take(self, amount: float) -> None:
        if amount > 0:
            self.taken.append((self.now, amount))
            self.sum += amount


def choose(
    queue: Queue,
    waiting: Iterable[Candidate],
    holders: Mapping[str, int],
    starts: Sequence[float],
    served: Mapping[str, float],
    now: float,
    *,
    taken: Sequence[tuple[str, float, float]] = (),
    until: float = 0.0,
) -> Turn:
    """The most urgent first; among equals the tenant that holds the fewest places, then the one that was served
    longest ago, then the first come. Nobody overtakes one whose turn it is and who must wait.

    `holders`: places held, by tenant. `starts`: when somebody was let in during the rate's window before `now`.
    `served`: when each tenant was last let in. `taken`: (kind, when, how much) of what was taken lately. `until`: when
    a pause ends. All times by the store's clock.
    """
    free = math.inf if queue.concurrency is None else queue.concurrency - sum(holders.values())
    windows = _windows(queue, starts, taken, now)
    chosen: list[Candidate] = []
    held = dict(holders)
    turn = {tenant: (at, 0) for tenant, at in served.items()}  # who is served now comes after all served before
    for line in _lines(waiting):
        heap = [(held.get(t, 0), turn.get(t, (0.0, 0)), items[-1].order, t) for t, items in line.items()]
        heapq.heapify(heap)
        while heap:
            _, _, _, tenant = heapq.heappop(heap)
            one = line[tenant].pop()
            if len(chosen) >= free:
                return Turn(chosen)
            wait = max(_wait(windows, one), until - now)
            if wait > 0:
                return Turn(chosen, wait)
            for kind, window in windows.items():
                window.take(1 if kind == STARTS else one.amounts.get(kind, 0.0))
            chosen.append(one)
            held[tenant] = held.get(tenant, 0) + 1
            turn[tenant] = (now, len(chosen))
            if line[tenant]:
                heapq.heappush(heap, (held[tenant], turn[tenant], line[tenant][-1].order, tenant))
    return Turn(chosen)


def within_room(turn: Turn, room: int) -> Turn:
    """Without the processes of nobody that are more than there is room for."""
    chosen = []
    for one in turn.chosen:
        free = one.key[1] is None
        if not free or room > 0:
            chosen.append(one)
            room -= free
    return Turn(chosen, turn.again)


def _lines(waiting: Iterable[Candidate]) -> Iterable[dict[str, list[Candidate]]]:
    """The waiting of each priority, the most urgent priority first: by tenant, the first come last."""
    by_priority: dict[int, dict[str, list[Candidate]]] = {}
    latest_first = sorted(waiting, key=lambda c: c.order)
    latest_first.reverse()  # of those that came at once the later given, too
    for one in latest_first:
        by_priority.setdefault(one.priority, {}).setdefault(one.tenant, []).append(one)
    return (by_priority[priority] for priority in sorted(by_priority, reverse=True))


def _windows(
    queue: Queue, starts: Sequence[float], taken: Sequence[tuple[str, float, float]], now: float
) -> dict[str, Window]:
    """One for each limit in time, by kind."""
    windows: dict[str, Window] = {}
    if queue.rate is not None:
        windows[STARTS] = Window(*queue.rate, ((at, 1) for at in starts), now)
    for kind, (limit, seconds) in queue.amounts.items():
        windows[kind] = Window(limit, seconds, ((at, amount) for k, at, amount in taken if k == kind), now)
    return windows


def _wait(windows: Mapping[str, Window], one: Candidate) -> float:
    """Seconds until all limits in time let it in. A process, which says nothing, takes of the rate alone."""
    wants = {STARTS: 1.0, **one.amounts}
    return max((window.wait(wants[kind]) for kind, window in windows.items() if kind in wants), default=0.0)

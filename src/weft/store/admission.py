"""Whom a queue lets in next: the one rule, whatever store holds the queue.

A store locks the queue, reads who holds a place and who waits, asks `choose`, and writes the answer down.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from weft.core.queue import Queue


class Candidate(msgspec.Struct, frozen=True):
    """Somebody who waits: a process or a step."""

    key: tuple[str, str | None, Literal["process", "ticket"]]
    """(id or ticket, living owner, which of the two)."""
    tenant: str
    priority: int
    order: float
    """When it came: smaller is earlier."""


class Turn(msgspec.Struct):
    """Who goes in now, in order. `again`: seconds until the rate lets in the next, if only the rate holds it up."""

    chosen: list[Candidate]
    again: float | None = None


def choose(
    queue: Queue,
    waiting: Iterable[Candidate],
    holders: Mapping[str, int],
    starts: Sequence[float],
    served: Mapping[str, float],
    now: float,
) -> Turn:
    """The most urgent first; among equals the tenant that holds the fewest places, then the one that was served
    longest ago, then the first come.

    `holders`: places held, by tenant. `starts`: when somebody was let in during the rate's window before `now`.
    `served`: when each tenant was last let in. All times by the store's clock.
    """
    free = _capacity(queue, sum(holders.values()))
    by_rate, opens = _rate(queue, starts, now)
    chosen: list[Candidate] = []
    held = dict(holders)
    turn = {tenant: (at, 0) for tenant, at in served.items()}  # who is served now comes after all served before
    left = 0
    for line in _lines(waiting):
        heap = [(held.get(t, 0), turn.get(t, (0.0, 0)), items[-1].order, t) for t, items in line.items()]
        heapq.heapify(heap)
        while heap:
            _, _, _, tenant = heapq.heappop(heap)
            if len(chosen) >= min(free, by_rate):
                left += 1
                break
            chosen.append(line[tenant].pop())
            held[tenant] = held.get(tenant, 0) + 1
            turn[tenant] = (now, len(chosen))
            if line[tenant]:
                heapq.heappush(heap, (held[tenant], turn[tenant], line[tenant][-1].order, tenant))
    return Turn(chosen, opens if left and by_rate <= len(chosen) < free else None)


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


def _capacity(queue: Queue, taken: int) -> float:
    return float("inf") if queue.concurrency is None else max(0, queue.concurrency - taken)


def _rate(queue: Queue, starts: Sequence[float], now: float) -> tuple[float, float | None]:
    """(how many more the rate allows now, seconds until it allows one more)."""
    if queue.rate is None:
        return float("inf"), None
    limit, seconds = queue.rate
    recent = sorted(at for at in starts if at > now - seconds)
    if len(recent) < limit:
        # What is let in now leaves the window after `seconds`; an earlier start may leave it sooner.
        return limit - len(recent), (recent[0] + seconds - now if recent else seconds)
    return 0, recent[len(recent) - limit] + seconds - now

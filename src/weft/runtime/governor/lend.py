"""Who may use how much memory now, when there is not enough for all: a pure function of what is used and promised.

What a call of higher priority was promised stays free for it, whether it uses it yet or not; among equals the older
comes first. So the one who comes first always gets on, and when it ends the next does. (AgentCgroup, arXiv
2602.09345, protects a high-priority session below its `memory.low` and slows down others; a promise to each call does
that without a patched kernel.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

UNSAID = 64 * 2**20
"""Bytes that are kept free for the growth of a call of which nothing is known, or half of what it uses."""


class Claim(NamedTuple):
    """`used`: bytes now. `promised`: those it may have (None: nothing was said). `lend`: it may have more than it was
    promised, if there is."""

    key: str
    used: int
    promised: int | None
    priority: int
    began: float
    lend: bool = False


def order(claims: Iterable[Claim]) -> list[Claim]:
    """By priority, then the oldest first; who is last is paused, and killed, first."""
    return sorted(claims, key=lambda one: (-one.priority, one.began))


def share(room: int, claims: Iterable[Claim]) -> dict[str, int | None]:
    """How much each may use, if `room` bytes are free besides what they use; None: as much as it likes, for now."""
    free = max(0, room)
    ceilings: dict[str, int | None] = {}
    ranked = order(claims)
    for one in ranked:
        wanted = _unsaid(one) if one.promised is None else max(0, one.promised - one.used)
        given = min(free, wanted)
        free -= given
        if given < wanted:
            ceilings[one.key] = one.used + given
        else:
            ceilings[one.key] = one.promised
    lenders = [one for one in ranked if one.lend and one.promised is not None and ceilings[one.key] == one.promised]
    for others, one in zip(range(len(lenders) - 1, -1, -1), lenders, strict=True):
        more = free // (others + 1)  # what nobody was promised, in equal parts: it is had back at the next look
        free -= more
        ceilings[one.key] = max(one.promised or 0, one.used) + more
    return ceilings


def _unsaid(one: Claim) -> int:
    """Room to grow beyond what was said."""
    return max(UNSAID, one.used // 2)

"""What of a sequence can stay for a new prompt: the beginning, and an end that has moved.

An agent's next prompt is often the last one with something in the middle gone: cells hold A·B·C, and A·C·D is wanted. A
stays, B is dropped, C is moved up (`shift`: its keys are rotated to their new places, which is quick; what they took
from B stays in them) or computed again (`reencode`, exact), and only D is read. Method: the suffix cache of TIMRUN.
"""

from __future__ import annotations

from typing import NamedTuple

from weft.model.engine.protocol import How, Sequence


class Reuse(NamedTuple):
    """Of the cells, the first `kept` stay, `dropped` go, and the last `moved` stay too; the rest of them is trimmed."""

    kept: int
    dropped: int
    moved: int


def reuse(cells: list[int], wanted: list[int], least: int = 16) -> Reuse:
    """What of `cells` (tokens) serves `wanted`. An end of fewer than `least` tokens is not worth moving. One token at
    least is left to be read, for without it nothing is predicted."""
    kept = 0
    for one, other in zip(cells, wanted[:-1], strict=False):
        if one != other:
            break
        kept += 1
    moved = _overlap(cells[kept:], wanted[kept:-1])
    if moved < max(1, least) or kept + moved == len(cells):
        return Reuse(kept, 0, 0)
    return Reuse(kept, len(cells) - kept - moved, moved)


async def advance(sequence: Sequence, wanted: list[int], how: How = "shift", least: int = 16) -> list[int]:
    """Make `sequence` hold as much as it can of `wanted`, from its start. Returns the tokens that are left to feed."""
    plan = reuse(sequence.tokens, wanted, least)
    if plan.moved:
        await sequence.splice(plan.kept, plan.kept + plan.dropped, how)
    else:
        await sequence.trim(plan.kept)
    return wanted[plan.kept + plan.moved :]


def _overlap(left: list[int], right: list[int]) -> int:
    """How long the longest end of `left` is that `right` begins with."""
    both = [*right, -1, *left]  # the longest border of this (Knuth, Morris, Pratt)
    borders = [0] * len(both)
    for place in range(1, len(both)):
        border = borders[place - 1]
        while border and both[place] != both[border]:
            border = borders[border - 1]
        borders[place] = border + (both[place] == both[border])
    return borders[-1] if left else 0

"""How an agent spends turns: how many it may take, and what they may cost, by what the turns before have brought.

    Agent(..., turns=20)                                        a limit, told at the last turn
    Agent(..., turns=Fixed(20))                                 what is left is told at each turn
    Agent(..., turns=Fixed(weft.Budget(turns=40, money=0.50)))  the same of tokens, money and seconds
    Agent(..., turns=Dynamic(12, more=6, most=60))              it gets more as long as it comes on
    Agent(..., turns=Calibrated(75))                            as many as did for 75 % of past runs
    Agent(..., turns=None)                                      no limit

A policy is a value that decides by what was: it is asked before each turn, and its answer follows from the journal, so
a replay decides the same. Who keeps the account, and lets nothing be overrun, is `weft.agent.course`.

The policies are those of Gao and Peng, "More with Less" (arXiv 2510.16786): unlimited, a fixed limit at a percentile of
past runs with reminders, and a limit that is extended on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from weft.agent import past
from weft.core.budget import Budget, tighter
from weft.core.errors import BadInput
from weft.core.progress import Signs

KINDS = ("turns", "tokens", "money", "seconds")
"""What a policy may limit. What sub-agents and tools spend, a process's budget limits, too."""
LOOPS = 3
"""Turns one after the other that only repeat calls, after which an agent goes round in a circle."""

Evidence = Callable[[Signs, bool], bool]
"""Told what a turn brought, and whether anything was changed before: whether it has earned more turns."""


class Taken(msgspec.Struct, frozen=True):
    """A turn that is over: what it brought, and what had been spent by its end since something was said to the agent.
    Tokens and money are of the agent's own generations."""

    signs: Signs
    turns: int
    tokens: int
    money: float
    seconds: float


class Pace:
    """A policy. `told`: at how many turns left, and fewer, the model is told how many there are; None: at each."""

    told: int | None = None
    hint = ""
    """What the model is told with the number of turns that are left."""

    def limits(self, turns: Sequence[Taken]) -> Budget:
        """What may be spent in all, by what the turns so far have brought."""
        raise NotImplementedError

    async def known(self) -> Pace:
        """The policy to go by: itself, or what it makes of the past. Asked once, in the body, so it may use effects."""
        return self


class Fixed(Pace):
    """A limit: of turns, or a `Budget` of turns, tokens, money and seconds. Raises BadInput for other kinds."""

    def __init__(self, limit: Budget | float, *, told: int | None = None) -> None:
        self.limit = _limit(limit, "Fixed")
        self.told = told

    def limits(self, turns: Sequence[Taken]) -> Budget:
        return self.limit


def progress(signs: Signs, changed: bool) -> bool:
    """The usual evidence: a change, or more tests that pass; while nothing was changed, something new that was read."""
    return signs.changed > 0 or signs.passed or (not changed and signs.found > 0)


class Dynamic(Pace):
    """A small limit at first, `start`; each turn that brings evidence moves the end to `more` after it, and never
    beyond `most`. So an agent that comes on gets what it needs; one that stalls ends `more` after its last step, but
    for an agent that has changed nothing yet not before `start`.

    It ends before that when it is done, which is when tests all passed after the last change and `quiet` turns have
    changed nothing since; and when it goes round in a circle: `LOOPS` turns of nothing but repeated calls."""

    hint = " There will be more as long as you come on."

    def __init__(
        self, start: Budget | float, *, more: Budget | float, most: Budget | float | None = None, quiet: int = 1,
        evidence: Evidence = progress, told: int | None = 3,
    ) -> None:  # fmt: skip
        self.start, self.more = _limit(start, "Dynamic"), _limit(more, "Dynamic(more=...)")
        self.most = None if most is None else _limit(most, "Dynamic(most=...)")
        if self.start.limits().keys() != self.more.limits().keys():
            raise BadInput(
                f"Dynamic({start!r}, more={more!r}): say how much more there is of each kind, and of no other"
            )
        if quiet < 0:
            raise BadInput(f"Dynamic(quiet={quiet!r}): give a number of turns >= 0")
        self.quiet = quiet
        self.evidence = evidence
        self.told = told

    def limits(self, turns: Sequence[Taken]) -> Budget:
        limits = self.start.limits()
        brought = self._last(turns)
        if brought is not None:
            further = {kind: getattr(brought, kind) + more for kind, more in self.more.limits().items()}
            changed = any(one.signs.changed for one in turns)
            limits = {kind: end if changed else max(end, limits[kind]) for kind, end in further.items()}
        if self.done(turns) or circling(turns):
            limits["turns"] = min(limits.get("turns", len(turns) + 1), len(turns) + 1)
        return tighter(Budget(**limits), self.most) or Budget()

    def done(self, turns: Sequence[Taken]) -> bool:
        """Whether tests that all passed were followed by enough turns that changed nothing."""
        ended = turns[len(turns) - self.quiet - 1 :] if len(turns) > self.quiet else ()
        return bool(ended) and all(one.signs.clean for one in ended) and any(one.signs.changed for one in turns)

    def _last(self, turns: Sequence[Taken]) -> Taken | None:
        """The last turn that brought evidence."""
        changed, found = False, None
        for one in turns:
            if self.evidence(one.signs, changed):
                found = one
            changed = changed or one.signs.changed > 0
        return found


class Calibrated(Pace):
    """The limit that would have done for `percentile` per cent (nearest rank) of the newest `runs` of this workflow in
    the store that came to their end by themselves, of each kind in `of`. `otherwise`: the policy until there are
    `least` such runs."""

    def __init__(
        self, percentile: float = 75, *, of: Sequence[str] = ("turns",), otherwise: Pace | int | None = 50,
        least: int = 8, runs: int = 100, told: int | None = None,
    ) -> None:  # fmt: skip
        if not 0 < percentile <= 100:
            raise BadInput(f"Calibrated({percentile!r}): give a percentile above 0, at most 100")
        if strange := next((kind for kind in of if kind not in KINDS), None) or (not of and "nothing"):
            raise BadInput(f"Calibrated(of={list(of)!r}): {strange} can't be limited; there are {', '.join(KINDS)}")
        if not 1 <= least <= runs:
            raise BadInput(f"Calibrated(least={least!r}, runs={runs!r}): give numbers of runs, 1 <= least <= runs")
        self.percentile, self.of, self.least, self.runs, self.told = percentile, tuple(of), least, runs, told
        self.otherwise = pace_of(otherwise)

    def limits(self, turns: Sequence[Taken]) -> Budget:
        return self.otherwise.limits(turns)

    async def known(self) -> Pace:
        found = await past.spent(self.runs)
        if len(found) < self.least:
            return await self.otherwise.known()
        return Fixed(past.limit(found, self.percentile, self.of), told=self.told)


def circling(turns: Sequence[Taken]) -> bool:
    """Whether the last turns only repeated calls, each with the same result as before."""
    last = [one.signs for one in turns[-LOOPS:]]
    return len(last) == LOOPS and all(one.calls and one.repeated == one.calls for one in last)


def pace_of(turns: Pace | int | None) -> Pace:
    """The policy that is meant: a number is a limit of which the model is told at the last turn. Raises BadInput."""
    if isinstance(turns, Pace):
        return turns
    if turns is None:
        return Fixed(Budget())
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
        raise BadInput(f"turns={turns!r}: the model is asked at least once; None for no limit, or give a policy")
    return Fixed(turns, told=0)


def _limit(limit: Budget | float, what: str) -> Budget:
    if not isinstance(limit, Budget):
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise BadInput(f"{what}: {limit!r} is no limit: give a number of turns >= 1, or a weft.Budget")
        return Budget(turns=limit)
    if strange := sorted(limit.limits().keys() - {*KINDS}):
        raise BadInput(f"{what}: an agent's policy does not limit {strange[0]}; give that to the process's budget")
    if limit.turns is not None and limit.turns < 1:
        raise BadInput(f"{what}: turns={limit.turns!r}: the model is asked at least once")
    return limit

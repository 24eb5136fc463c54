"""How long several chains of calls take one agent that decides on one call at a time: the yardsticks of `timing`.

A decision takes `think` seconds of the agent; then the call takes its own, while the agent decides on others. The next
call of a chain can be decided on when the one before has come.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Chains = Sequence[Sequence[float]]
"""The seconds of each call of each chain."""
Rule = Callable[[int, int], float]
"""The urgency of the chain's call at this place: the greatest is decided on first."""


def blocking(chains: Chains, think: float) -> float:
    """One after the other."""
    return sum(think + seconds for chain in chains for seconds in chain)


def listed(chains: Chains, think: float, urgency: Rule) -> float:
    """By a list schedule: whenever the agent is free, it decides on the most urgent call that is ready."""
    place, ready, end, now = [0] * len(chains), [0.0] * len(chains), 0.0, 0.0
    while True:
        left = [one for one in range(len(chains)) if place[one] < len(chains[one])]
        if not left:
            return end
        now = max(now, min(ready[one] for one in left))
        # What became ready at this very moment counts, whatever the last digit of the sum says.
        best = max((one for one in left if ready[one] <= now + 1e-9), key=lambda one: (urgency(one, place[one]), -one))
        now += think
        ready[best] = now + chains[best][place[best]]
        end = max(end, ready[best])
        place[best] += 1


def by_calls(chains: Chains) -> Rule:
    """The chain with the most calls left: what an agent can know."""
    return lambda one, at: len(chains[one]) - at


def by_seconds(chains: Chains) -> Rule:
    """The chain with the most seconds left: what only a prophet knows."""
    return lambda one, at: sum(chains[one][at:])


def best(chains: Chains, think: float, tries: int = 64) -> float:
    """The shortest of list schedules: by what is left in calls and in seconds, by the next call, and at random."""
    chance = random.Random(1)
    draws = [[[chance.random() for _ in chain] for chain in chains] for _ in range(tries)]
    rules: list[Rule] = [by_calls(chains), by_seconds(chains)]
    rules += [lambda one, at: chains[one][at], lambda one, at: -chains[one][at]]
    rules += [lambda one, at, drawn=drawn: drawn[one][at] for drawn in draws]  # type: ignore[misc]
    return min(listed(chains, think, rule) for rule in rules)


def bound(chains: Chains, think: float) -> float:
    """No schedule is shorter: the longest chain, and all decisions with the shortest last call."""
    calls = sum(len(chain) for chain in chains)
    longest = max(sum(think + seconds for seconds in chain) for chain in chains)
    return max(longest, calls * think + min(chain[-1] for chain in chains))

"""Levels of a run's metrics: how much a call of each step, tool, model or agent takes, and how far that is from usual.

A level is the mean over the calls of a run, of logarithms (of errors it is the arcsine of their share, which is equally
noisy everywhere). Levels differ between runs, and the mean of few calls is noisier than that of many: a random-effects
model has both (DerSimonian and Laird 1986). So some calls that are a little slow are no news, and a thousand are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from weft.store.base import FINISHED
from weft.trace.explain.profile import OUTSIDE, Part, Profile, Seen

Metric = str
"""`ENTITY/MEASURE`, such as `tool search/seconds`, as `weft.trace.causes.journal` names them."""

BOTH_WAYS = ("tokens", "money")
"""Measures of which too little is unusual, too."""
FLOOR = {"money": 1e-6, "tokens": 1.0, "memory": 1e5}
"""What is less counts as this much; of others a thousandth."""
LEAST = {"seconds": 0.02, "waited": 0.05, "cpu": 0.02, "memory": 8e6, "errors": 0.1}
"""How far from the usual level a difference begins to matter."""
FINEST = 0.1
"""The least deviation: a tenth more or less is nothing."""


class Call(NamedTuple):
    """One value of a metric, and the effect that had it; one of an agent is of a whole process."""

    value: float
    at: float
    part: Part
    seen: Seen | None


def calls_of(run: Profile) -> dict[Metric, list[Call]]:
    """The values of all metrics of a run, each in the order of time."""
    found: dict[Metric, list[Call]] = {}
    for part in run.parts:
        if part.state in FINISHED:
            call = Call(part.ended - part.began, part.began, part, None)
            found.setdefault(f"{agent_of(part)}/seconds", []).append(call)
        for seen in part.seen:
            if seen.status in ("ok", "failed") and not seen.symbol.startswith(OUTSIDE):
                for measure, value in _amounts(seen):
                    found.setdefault(f"{entity_of(seen)}/{measure}", []).append(Call(value, seen.at, part, seen))
    return {metric: sorted(calls, key=lambda one: one.at) for metric, calls in found.items()}


def agent_of(part: Part) -> str:
    return f"agent {part.workflow.rpartition('.')[2]}"


def entity_of(seen: Seen) -> str:
    if seen.symbol == "generation":
        return f"model {seen.model or 'unknown'}"
    return seen.symbol.replace(":", " ", 1)


def _amounts(seen: Seen) -> Iterator[tuple[str, float]]:
    """What is told of a call; what takes nothing of a machine or a provider tells nothing of it."""
    yield from (
        ("seconds", seen.seconds - seen.paused),
        ("waited", seen.waited),
        ("errors", float(seen.status != "ok")),
    )
    told = {"tokens": seen.tokens, "money": seen.money, "cpu": seen.cpu, "memory": float(seen.memory)}
    yield from ((measure, value) for measure, value in told.items() if value)


def measure_of(metric: Metric) -> str:
    return metric.rpartition("/")[2]


def scaled(measure: str, value: float) -> float:
    """A value of a call, as levels are means of."""
    return value if measure == "errors" else math.log(max(value, FLOOR.get(measure, 1e-3)))


def amount(measure: str, level: float) -> float:
    """What a level is in the measure's own unit; of errors a share."""
    return math.sin(level) ** 2 if measure == "errors" else math.exp(level)


class Level(NamedTuple):
    """`mean`: over so many `calls`; `within`: the squares of their deviations, of so many degrees of `freedom`."""

    mean: float
    calls: int
    within: float
    freedom: float


def level_of(metric: Metric, calls: Sequence[Call]) -> Level:
    measure, count = measure_of(metric), len(calls)
    values = [scaled(measure, one.value) for one in calls]
    mean = math.fsum(values) / count
    if measure == "errors":
        return Level(math.asin(math.sqrt(mean)), count, 0.25 * count, count)
    return Level(mean, count, math.fsum((value - mean) ** 2 for value in values), count - 1)


class Usual:
    """The levels of one metric in usual runs."""

    def __init__(self, metric: Metric, levels: Iterable[Level]) -> None:
        self.measure = measure_of(metric)
        terms = [_terms(one) for one in levels]
        self.runs = len(terms)
        self._sums = [math.fsum(column) for column in zip(*terms, strict=True)]

    @property
    def mean(self) -> float:
        return self._sums[1] / self._sums[0]

    def far(self, level: Level, among: bool = False) -> float:
        """How many deviations it is away, of some measures only upwards. `among`: it is one of them, and is judged by
        the others."""
        own = _terms(level) if among else (0.0,) * 6
        runs, means, squares, parts, within, freedom = (a - b for a, b in zip(self._sums, own, strict=True))
        mean = means / runs
        if abs(amount(self.measure, level.mean) - amount(self.measure, mean)) < LEAST.get(self.measure, 0.0):
            return 0.0
        noise = within / freedom if freedom > 0.5 else 0.0
        between = max(squares / runs - mean * mean - noise * parts / runs, 0.0)
        away = (level.mean - mean) / max(math.sqrt(max(between + noise / level.calls, 0.0)), FINEST)
        return abs(away) if self.measure in BOTH_WAYS else away


def _terms(one: Level) -> tuple[float, ...]:
    return 1.0, one.mean, one.mean * one.mean, 1 / one.calls, one.within, one.freedom

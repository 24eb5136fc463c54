"""Simulated systems of another kind than `lagged`'s, to see whether a score was fitted to its cases.

Sixty metrics of fifteen services in a random acyclic graph: each has one to three causes, one to three rows back,
through lines, thresholds and curves that flatten, its own memory, a level and a unit. Some have noise with heavy tails.
One metric is the load, which wanders and reaches two thirds of the others; in the bad part it is higher, fault or no
fault. Of each twentieth row nothing is known. A fault changes what is new in one metric, in one of the ways of
`KINDS`; it ends with the stream. No system is drawn anew for what a rule says about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.trace.lagged import Case
from benchmarks.trace.shifts import Array

METRICS, SERVICES, NORMAL, BAD, WARM = 60, 15, 400, 150, 50
LAGS = 3
MISSING = 0.05
KINDS = ("shift", "ramp", "spikes", "variance", "stuck")
"""Its noise is moved; moves further and further; is hit now and then; is wider; or the metric keeps its last value."""
Curve = Callable[[Any], Any]
CURVES: tuple[Curve, ...] = (
    lambda x: x,
    np.tanh,
    lambda x: np.maximum(x, 0.0),
    lambda x: np.sign(x) * np.sqrt(np.abs(x)),
)

Edge = tuple[int, int, float, Curve]


def varied(seed: int, kind: str) -> Case:
    """A system and its fault; rows without values are NaN. All kinds of a seed have the same system and usual part."""
    random = np.random.default_rng(seed)
    cause = int(random.integers(1, METRICS - 10))
    values = _played(random, np.random.default_rng([seed, KINDS.index(kind)]), cause, kind)
    values = random.uniform(0, 20, METRICS) + values * 10 ** random.uniform(-1, 2, METRICS)
    values[random.random(len(values)) < MISSING] = np.nan
    order = random.permutation(METRICS)
    names = [f"s{place % SERVICES}_m{place // SERVICES}" for place in range(METRICS)]
    of = names[int(np.argmax(order == cause))]
    return Case(f"{kind} {seed}", names, values[:NORMAL, order], values[NORMAL:, order], of)


def _played(random: np.random.Generator, fault: np.random.Generator, cause: int, kind: str) -> Array:
    rows, start = WARM + NORMAL + BAD, WARM + NORMAL
    tails = random.random(METRICS) < 0.25
    noise = np.where(tails, random.standard_t(4, (rows, METRICS)) / 2**0.5, random.standard_normal((rows, METRICS)))
    edges = [_causes(random, effect) for effect in range(METRICS)]
    memory = random.uniform(0.0, 0.7, METRICS)
    memory[0] = 0.95
    noise[:, 0] *= 0.3
    noise[start:, 0] += 0.05 * random.uniform(1, 2)
    loads = random.uniform(0.3, 1.0, METRICS) * (random.random(METRICS) < 2 / 3)
    loads[0] = 0.0
    noise[start:, cause] = _faulty(fault, noise[start:, cause], kind)
    values = np.zeros((rows, METRICS))
    for row in range(LAGS, rows):
        values[row] = noise[row] + memory * values[row - 1] + loads * values[row - 1, 0]
        for effect, its in enumerate(edges):
            values[row, effect] += sum(weight * curve(values[row - lag, by]) for by, lag, weight, curve in its)
        if kind == "stuck" and row >= start:
            values[row, cause] = values[start - 1, cause]
    return values[WARM:]


def _causes(random: np.random.Generator, effect: int) -> list[Edge]:
    """Of one metric: by whom, how many rows later, how strongly, through which curve."""
    if effect < 2:
        return []
    by = 1 + random.choice(effect - 1, size=min(effect - 1, int(random.integers(1, 4))), replace=False)
    return [
        (int(one), int(random.integers(1, LAGS + 1)), float(random.uniform(0.3, 1.0) * random.choice([-1, 1])),
         CURVES[int(random.integers(len(CURVES)))])
        for one in by
    ]  # fmt: skip


def _faulty(random: np.random.Generator, noise: Array, kind: str) -> Array:
    rows = np.arange(len(noise))
    if kind == "shift":
        return noise + random.uniform(3, 6)
    if kind == "ramp":
        return noise + random.uniform(6, 12) * rows / len(rows)
    if kind == "spikes":
        return noise + random.uniform(8, 15) * (random.random(len(rows)) < 0.07)
    if kind == "variance":
        return noise * random.uniform(3, 6)
    return noise

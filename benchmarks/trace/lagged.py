"""Simulated systems whose faults are louder in their effects than in their cause, so that loudness misleads.

Twenty metrics in a random acyclic graph: each has one to three causes with one to three lags, its own memory, and
noise of size one. A fault adds a constant to the noise of one metric. Drawn anew until some effect is further off, in
deviations of its own, than the cause, and the n-sigma rule blames another metric.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.trace.shifts import Array, n_sigma

NODES, NORMAL, BAD, WARM = 20, 400, 200, 50
LAGS = 3


class Case(NamedTuple):
    """What is known of a fault: the metrics before and in it, and which of them it hit."""

    name: str
    metrics: list[str]
    normal: Array
    bad: Array
    cause: str


def lagged(seed: int) -> Case:
    """A system and its fault."""
    random = np.random.default_rng(seed)
    while True:
        weights = _weights(random)
        cause = int(random.integers(0, NODES - 1))
        values = _played(random, weights, cause, float(random.uniform(3, 6)))
        normal, bad = values[:NORMAL], values[NORMAL:]
        far = np.abs(bad.mean(axis=0) - normal.mean(axis=0)) / normal.std(axis=0)
        if far[cause] < far.max() and int(np.argmax(n_sigma(normal, bad))) != cause:
            order = random.permutation(NODES)
            names = [f"m{number}" for number in range(NODES)]
            return Case(f"lagged {seed}", names, normal[:, order], bad[:, order], names[int(np.argmax(order == cause))])


def _weights(random: np.random.Generator) -> Array:
    """Lag by effect by cause."""
    weights = np.zeros((LAGS, NODES, NODES))
    for effect in range(1, NODES):
        for by in random.choice(effect, size=min(effect, int(random.integers(1, 4))), replace=False):
            lags = int(random.integers(1, LAGS + 1))
            weights[:lags, effect, by] = random.uniform(0.2, 0.8, size=lags) * random.choice([-1, 1])
    weights[0, range(NODES), range(NODES)] = random.uniform(0.2, 0.7, size=NODES)
    return weights


def _played(random: np.random.Generator, weights: Array, cause: int, size: float) -> Array:
    rows = WARM + NORMAL + BAD
    noise = random.standard_normal((rows, NODES))
    noise[WARM + NORMAL :, cause] += size
    values = np.zeros((rows, NODES))
    for row in range(LAGS, rows):
        values[row] = noise[row] + sum(weights[lag] @ values[row - 1 - lag] for lag in range(LAGS))
    return values[WARM:]

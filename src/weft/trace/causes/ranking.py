"""Which metric is to blame: what has shifted is followed back along the graph to what nothing explains.

    found = rank(normal, bad)
    found.causes[0].words          # "carts_cpu went from 1.26 to 99.9 …"

Of each metric that moved, the graph says how much of it follows from others that moved. A walk starts at the metrics
in proportion to their blame, goes back from an effect to its causes by what they explain, and comes to
rest where the move stays unexplained: personalised PageRank on the reversed graph, whose nodes may also stay.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.causes.granger import Graph, granger
from weft.trace.causes.series import entity, numpy, paired
from weft.trace.causes.shift import Shift, shift_of

if TYPE_CHECKING:
    from weft.trace.causes.series import Array, Series

ON = 0.3
"""How likely a walk goes on rather than ends. Chosen on simulated systems; docs/methods/causes.md has others."""
OWN = 0.99
"""The most of itself that a metric keeps, so that a wandering one has a finite level."""
USUAL = 6.0
"""Robust deviations below which the tenth of a part that deviates most is nothing unusual; and how many times calmer
than ever a metric is that is unusual."""


@dataclass(frozen=True)
class Cause:
    """A metric that may be the reason. `score`: its part of the blame; all of them make 1."""

    name: str
    score: float
    far: float
    """How far it moved, in robust deviations (at least 1 % of its level)."""
    unexplained: float
    """The part of its move, 0 to 1, that does not follow from others, with the doubt about that counted against it."""
    before: float
    after: float
    """Medians of the usual and of the bad part."""
    onset: float
    """When it moved; in the times of the series, so seconds in those of a run."""
    explained: dict[str, float]
    """By whom the rest of its move is explained, and how much, 0 to 1."""
    path: tuple[str, ...]
    """From it to the symptom, over what explains what; empty if the graph does not lead there."""

    @property
    def words(self) -> str:
        """Name, levels, how far, when, how it reached the symptom."""
        way = f"; reaches {self.path[-1]} over {' → '.join(self.path)}" if len(self.path) > 1 else ""
        return (
            f"{self.name} went from {self.before:.4g} to {self.after:.4g} ({self.far:,.1f} deviations) at "
            f"{self.onset:.10g}; {self.unexplained:.0%} of it follows from nothing else{way}"
        )


@dataclass(frozen=True)
class Ranking:
    """`causes`: all metrics, the likeliest first. `symptom`: the metric whose move is to be explained. `unusual`: did
    any metric move far enough to speak of a cause at all?"""

    causes: list[Cause]
    symptom: str
    unusual: bool


def rank(normal: Series, bad: Series, *, graph: Graph | None = None, symptom: str | None = None) -> Ranking:
    """The likely causes of how the bad part differs from the usual. `graph`: who explains whom, by default the closed
    form `granger`, learnt from the usual part; `symptom`: the metric that was complained of, by default the one that
    moved furthest. Raises BadInput for series that do not fit."""
    np = numpy()
    normal, bad = paired(normal, bad)
    if symptom is not None and symptom not in normal.names:
        raise BadInput(f"there is no metric {symptom!r}; there are {', '.join(normal.names)}")
    graph = graph or granger(normal)
    if graph.names != normal.names:
        raise BadInput("the graph is of other metrics than the series")
    shift = shift_of(normal, bad)
    share, left = explained(graph, shift)
    score = walk(blame(graph, shift), share, left)
    aim = normal.names.index(symptom) if symptom is not None else int(np.argmax(shift.far))
    before, after = np.median(normal.values, axis=0), np.median(bad.values, axis=0)
    paths = _paths(share, aim)
    causes = [
        Cause(
            name, float(score[at]), float(shift.far[at]), float(left[at]), float(before[at]), float(after[at]),
            float(bad.times[int(shift.onset[at])]),
            {normal.names[by]: float(share[at, by]) for by in np.argsort(-share[at]) if share[at, by] >= 0.01},
            tuple(normal.names[one] for one in paths.get(at, ())),
        )
        for at, name in enumerate(normal.names)
    ]  # fmt: skip
    causes.sort(key=lambda cause: -cause.score)
    return Ranking(causes, normal.names[aim], bool(max(shift.far.max(), (1.0 / shift.times).max()) >= USUAL))


def blame(graph: Graph, shift: Shift) -> Array:
    """How suspect each metric is by itself. An entity is as suspect as its most surprising metric (*where*), and shares
    that among its metrics as they surprise on the whole and are strange at their strangest (*what*)."""
    np = numpy()
    loud = np.sqrt(sum(surprise(graph, shift)))
    weight = loud * shift.strange
    of = np.array([entity(name) for name in graph.names])
    found: Array = np.zeros(len(of))
    for one in set(of):
        its = of == one
        whole = weight[its].sum()
        found[its] = loud[its].max() * (weight[its] / whole if whole > 0 else 1.0 / its.sum())
    return found


def surprise(graph: Graph, shift: Shift) -> tuple[Array, Array]:
    """Of each row of the bad part, how badly the usual foretells it: twice the divergence of two normal distributions
    of what is new, one part for its mean and one for its width. A mean that moved by n deviations counts n²."""
    np = numpy()
    stays = _stays(graph)
    noise = np.maximum(graph.noise * graph.scale, np.maximum(stays * shift.grain, 1e-300))
    return (stays * shift.delta / noise) ** 2, shift.times**2 - 1.0 - 2.0 * np.log(shift.times)


def _stays(graph: Graph) -> Array:
    """What of a metric's level each row has to be pushed anew."""
    np = numpy()
    stays: Array = 1.0 - np.minimum(np.diag(graph.gain), OWN)
    return stays


def explained(graph: Graph, shift: Shift) -> tuple[Array, Array]:
    """Of each effect: by whom its move is explained (effect by cause, each row at most 1), and the part that is not.
    Means add up by the gains and variances by their squares; each counts as much as it surprises."""
    np = numpy()
    others = ~np.eye(len(shift.delta), dtype=bool)
    delta = shift.delta / graph.scale
    gain, doubt = np.where(others, graph.gain, 0.0), np.where(others, graph.doubt, 0.0)
    means = _explained(_stays(graph) * delta, gain * delta, doubt * delta**2)
    wider = shift.wider / graph.scale**2
    squared = 2 * np.abs(gain) * np.sqrt(doubt) + doubt
    widths = _explained(shift.newer / graph.scale**2, gain**2 * wider, (squared * wider) ** 2)
    mean, width = surprise(graph, shift)
    weight = np.where(mean + width > 0, mean / np.maximum(mean + width, 1e-300), 1.0)
    share = weight[:, None] * means[0] + (1.0 - weight)[:, None] * widths[0]
    return share, weight * means[1] + (1.0 - weight) * widths[1]


def _explained(move: Array, given: Array, doubt: Array) -> tuple[Array, Array]:
    """`move` of each effect, what each cause gives to it, and the variance of that: shares, and what is left."""
    np = numpy()
    whole = np.abs(move)
    rest = np.minimum(np.abs(move - given.sum(axis=1)), whole)
    left = np.where(whole > 0, rest / np.maximum(np.sqrt(whole**2 + doubt.sum(axis=1)), 1e-300), 1.0)
    force = np.abs(given)
    share = force / np.maximum(force.sum(axis=1, keepdims=True), 1e-300) * (1.0 - left)[:, None]
    return share, np.where(force.sum(axis=1) > 0, left, 1.0)


def walk(blame: Array, share: Array, left: Array) -> Array:
    """Where walks that start by `blame` and go from effects to causes come to rest; sums to 1."""
    np = numpy()
    total = blame.sum()
    start: Array = blame / total if total > 0 else np.full(len(blame), 1.0 / len(blame))
    step = share + np.diag(1.0 - share.sum(axis=1))
    visits = np.linalg.solve(np.eye(len(blame)) - ON * step.T, start)
    score: Array = visits * left
    whole = float(score.sum())
    return score / whole if whole > 0 else start


def _paths(share: Array, aim: int) -> dict[int, tuple[int, ...]]:
    """From each cause that explains some of it, the way to the symptom that explains most: shortest by -log share."""
    np = numpy()
    best: dict[int, tuple[int, ...]] = {}
    queue: list[tuple[float, tuple[int, ...]]] = [(0.0, (aim,))]
    while queue:
        cost, way = heapq.heappop(queue)
        if way[0] in best:
            continue
        best[way[0]] = way
        for cause in np.flatnonzero(share[way[0]] >= 0.01).tolist():
            if cause not in best:
                heapq.heappush(queue, (cost - float(np.log(share[way[0], cause])), (cause, *way)))
    return best

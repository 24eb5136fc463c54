"""How the realised graphs of many runs differ: how many distinct ones, how evenly spread, how far apart.

Two graphs are the same if their effects (by kind, name and place) and edges are, however the ids are called: this is
told by colour refinement (Weisfeiler and Leman), which can take two different graphs for one only if they look alike
from every vertex. The distance of two graphs is the number of labelled vertices and edges that are in one of them
only, each as often as it is, divided by the number of those in both together: 0 for equal, 1 for nothing in common. It
counts the insertions and deletions that turn one into the other, exactly where each label occurs once, else at least.

The survey of agent computation graphs (arXiv 2603.22386) asks for distinct graphs, entropy, edit distance, activation
of optional nodes and coverage of the template over inputs; how they are computed is ours.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import log2

import msgspec

from weft.core.errors import BadInput
from weft.trace.graph.shape import Graph, Vertex
from weft.trace.graph.template.cover import cover
from weft.trace.graph.template.template import Template

Label = tuple[str, str, str]


class Variation(msgspec.Struct, frozen=True, kw_only=True):
    """Over the graphs of some runs."""

    runs: int
    distinct: int
    entropy: float
    """Bits, of the distribution over the distinct ones; log2(runs) if each is another one."""
    distance: float
    """Mean over all pairs of runs, 0 to 1."""
    jaccard: float
    """Mean over all pairs: labelled edges in both ÷ in either."""
    common: int
    """How many runs have the most frequent graph."""
    activation: dict[str, float] = {}
    """Of each optional vertex of the template, the share of runs that have it."""
    coverage: float | None = None
    """Share of the template's effects that some run has; None: there is no template."""
    covered: int | None = None
    """Runs whose graph is wholly in the template."""


def vary(graphs: Sequence[Graph], template: Template | None = None) -> Variation:
    """Raises BadInput if there are no graphs."""
    if not graphs:
        raise BadInput("there are no runs to compare; give at least one")
    marks = [fingerprint(graph) for graph in graphs]
    counts = Counter(marks)
    first = dict(zip(marks, graphs, strict=True))
    distance, jaccard = _pairs(counts, first)
    total = len(graphs)
    activation, coverage, covered = _by_template(counts, first, template, total)
    return Variation(
        runs=total, distinct=len(counts), entropy=-sum(n / total * log2(n / total) for n in counts.values()) + 0.0,
        distance=distance, jaccard=jaccard, common=max(counts.values()), activation=activation, coverage=coverage,
        covered=covered,
    )  # fmt: skip


def label(vertex: Vertex) -> Label:
    """What makes an effect the same in two runs. Ids of children differ, so the wait for one has no name."""
    return vertex.kind, "" if vertex.kind == "child" else vertex.name, vertex.place


def fingerprint(graph: Graph) -> str:
    """The same for graphs that differ in nothing but ids, times and costs."""
    colours = {id: _digest(repr(label(vertex))) for id, vertex in graph.vertices.items()}
    for _ in range(len(graph.vertices)):
        finer = {
            id: _digest(
                colour
                + "<" + ",".join(sorted(colours[one] for one in graph.predecessors[id]))
                + ">" + ",".join(sorted(colours[one] for one in graph.successors[id]))
            )
            for id, colour in colours.items()
        }  # fmt: skip
        steady = len(set(finer.values())) == len(set(colours.values()))
        colours = finer
        if steady:
            break
    return _digest(",".join(sorted(colours.values())))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def distance(one: Graph, other: Graph) -> float:
    """See above. 0 for two empty graphs."""
    return _distance(parts(one), parts(other))


def parts(graph: Graph) -> Counter[object]:
    """The labelled vertices and edges, each as often as it is there."""
    found: Counter[object] = Counter(map(label, graph.vertices.values()))
    found.update(_edges(graph))
    return found


def _edges(graph: Graph) -> Counter[object]:
    name = {id: label(vertex) for id, vertex in graph.vertices.items()}
    return Counter((name[source], name[target]) for source, after in graph.successors.items() for target in after)


def _distance(one: Counter[object], other: Counter[object]) -> float:
    total = one.total() + other.total()
    return ((one - other).total() + (other - one).total()) / total if total else 0.0


def _pairs(counts: Counter[str], first: dict[str, Graph]) -> tuple[float, float]:
    """Mean distance and mean Jaccard index over all pairs of runs, from the distinct ones."""
    runs = counts.total()
    pairs = runs * (runs - 1) / 2
    if not pairs:
        return 0.0, 1.0
    known = {mark: parts(graph) for mark, graph in first.items()}
    edges = {mark: _edges(graph) for mark, graph in first.items()}
    apart = alike = 0.0
    for count in counts.values():
        alike += count * (count - 1) / 2
    for one, other in combinations(counts, 2):
        weight = counts[one] * counts[other]
        apart += weight * _distance(known[one], known[other])
        either = (edges[one] | edges[other]).total()
        alike += weight * ((edges[one] & edges[other]).total() / either if either else 1.0)
    return apart / pairs, alike / pairs


def _by_template(
    counts: Counter[str], first: dict[str, Graph], template: Template | None, total: int
) -> tuple[dict[str, float], float | None, int | None]:
    if template is None:
        return {}, None, None
    found = {mark: cover(template, graph) for mark, graph in first.items()}
    share = {
        one.id: sum(counts[mark] for mark, each in found.items() if one.id in each.used) / total
        for one in template.optional
    }
    effects = template.effects
    used = {id for each in found.values() for id in each.used}
    whole = sum(counts[mark] for mark, each in found.items() if each.whole)
    return share, len(used & {one.id for one in effects}) / len(effects) if effects else 1.0, whole

"""Places for a drawing, layer by layer: who comes later stands lower, and edges cross little.

After Sugiyama's method: edges that close a cycle are turned around, each vertex gets the layer of its longest path, and
the vertices of a layer are put in the order of the middle of their neighbours, down and up a few times. Edges over
several layers go through a place of their own in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

import msgspec

from weft.trace.graph.shape import Graph

SWEEPS = 6
GAP, LAYER = 18.0, 58.0
"""Between two vertices of a layer, and from one layer to the next."""


class Placed(msgspec.Struct, frozen=True):
    """Middle of each vertex, points of each edge (from, to), and the size of it all."""

    at: dict[str, tuple[float, float]]
    ways: dict[tuple[str, str], list[tuple[float, float]]]
    width: float
    height: float


def placed(graph: Graph, widths: Mapping[str, float]) -> Placed:
    """`widths`: of each vertex."""
    turned = _turned(graph)
    layer = _layers(graph, turned)
    rows, chains = _rows(graph, layer, turned)
    _untangle(rows, chains)
    return _points(graph, rows, chains, widths, turned)


def _turned(graph: Graph) -> set[tuple[str, str]]:
    """Edges that close a cycle, in a walk from the first vertex on."""
    state: dict[str, int] = {}
    found: set[tuple[str, str]] = set()
    for root in graph.vertices:
        if root in state:
            continue
        walk = [(root, iter(graph.successors[root]))]
        state[root] = 1
        while walk:
            id, rest = walk[-1]
            after = next(rest, None)
            if after is None:
                state[id] = 2
                walk.pop()
            elif state.get(after) == 1:
                found.add((id, after))
            elif after not in state:
                state[after] = 1
                walk.append((after, iter(graph.successors[after])))
    return found


def _directed(graph: Graph, turned: set[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = [(source, target) for source, after in graph.successors.items() for target in after if source != target]
    return list(dict.fromkeys((b, a) if (a, b) in turned else (a, b) for a, b in pairs))


def _layers(graph: Graph, turned: set[tuple[str, str]]) -> dict[str, int]:
    before: dict[str, list[str]] = {id: [] for id in graph.vertices}
    after: dict[str, list[str]] = {id: [] for id in graph.vertices}
    for a, b in _directed(graph, turned):
        before[b].append(a)
        after[a].append(b)
    left = {id: len(each) for id, each in before.items()}
    ready = [id for id, count in left.items() if not count]
    layer: dict[str, int] = {}
    for id in ready:  # grows while it is read
        layer[id] = max((layer[one] + 1 for one in before[id]), default=0)
        for one in after[id]:
            left[one] -= 1
            if not left[one]:
                ready.append(one)
    return layer


Chain = list[str]


def _rows(graph: Graph, layer: dict[str, int], turned: set[tuple[str, str]]) -> tuple[list[Chain], list[Chain]]:
    """The vertices of each layer, with places for the edges that pass; and each edge as the places that it passes."""
    rows: list[Chain] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for id in graph.vertices:
        rows[layer[id]].append(id)
    chains = []
    for a, b in _directed(graph, turned):
        passed = [f"{a} > {b} {number}" for number in range(layer[a] + 1, layer[b])]
        for number, id in enumerate(passed, layer[a] + 1):
            rows[number].append(id)
        chains.append([a, *passed, b])
    return rows, chains


def _untangle(rows: list[Chain], chains: list[Chain]) -> None:
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for chain in chains:
        for a, b in pairwise(chain):
            down.setdefault(a, []).append(b)
            up.setdefault(b, []).append(a)
    for sweep in range(SWEEPS):
        falling = sweep % 2 == 0
        near = up if falling else down
        order = range(1, len(rows)) if falling else range(len(rows) - 2, -1, -1)
        for number in order:
            beside = rows[number - 1] if falling else rows[number + 1]
            place = {id: at for at, id in enumerate(beside)}
            _sort(rows[number], near, place)


def _sort(row: Chain, near: Mapping[str, Sequence[str]], place: Mapping[str, int]) -> None:
    """By the middle of their neighbours; those without any stay where they are."""
    middle = {id: fmean(place[one] for one in near[id]) if near.get(id) else float(at) for at, id in enumerate(row)}
    row.sort(key=middle.__getitem__)


def _points(
    graph: Graph, rows: list[Chain], chains: list[Chain], widths: Mapping[str, float], turned: set[tuple[str, str]]
) -> Placed:
    span = [sum(widths.get(id, 0.0) + GAP for id in row) for row in rows]
    width = max(span, default=0.0)
    at: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        x = (width - span[number]) / 2
        for id in row:
            wide = widths.get(id, 0.0) + GAP
            at[id] = (x + wide / 2, LAYER * (number + 0.5))
            x += wide
    ways = {}
    for chain in chains:
        points = [at[id] for id in chain]
        back = (chain[-1], chain[0]) in turned
        ways[(chain[-1], chain[0]) if back else (chain[0], chain[-1])] = points[::-1] if back else points
    return Placed({id: at[id] for id in graph.vertices}, ways, width, LAYER * len(rows))

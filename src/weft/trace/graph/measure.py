"""What can be said of a realised graph in numbers: size, shape, time and cost.

With n vertices and m edges between them:

- *depth*: vertices on a longest path; *width*: vertices on the fullest level, where a vertex's level is the length of a
  longest path to it; *fan_out*: the most successors of one vertex; *density*: m / (n (n − 1) / 2), 1 if every vertex
  that could come before another one does;
- *work*: seconds of all effects; *critical*: seconds of a path that has the most; *parallelism*: work ÷ critical, how
  many times faster it could be than one after the other; *together*: the most effects that were under way at once.

The survey of agent computation graphs (arXiv 2603.22386) asks for these and leaves open how they are defined; these
definitions are ours. All are exact, and take time in proportion to the graph.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from weft.trace.graph.shape import Graph, in_order


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Of one graph. Seconds, US dollars."""

    nodes: int
    edges: int
    depth: int
    width: int
    fan_out: int
    density: float
    work: float
    critical: float
    parallelism: float
    together: int
    critical_path: tuple[str, ...]
    """Ids of its vertices, the first first."""
    wall: float
    """From the first beginning to the last end."""
    money: float
    tokens: float
    failed: int


def measure(graph: Graph) -> Metrics:
    """Raises BadInput for a graph with a cycle, such as a template with a loop."""
    order = in_order(graph)
    level = _levels(graph, order)
    seconds, path = _critical(graph, order)
    effects = [one for one in graph.vertices.values() if one.started]
    work = sum(one.seconds for one in graph.vertices.values())
    nodes, edges = len(graph.vertices), sum(map(len, graph.successors.values()))
    return Metrics(
        nodes=nodes,
        edges=edges,
        depth=max(level.values(), default=-1) + 1,
        width=max(Counter(level.values()).values(), default=0),
        fan_out=max(map(len, graph.successors.values()), default=0),
        density=edges / (nodes * (nodes - 1) / 2) if nodes > 1 else 0.0,
        work=work,
        critical=seconds,
        parallelism=work / seconds if seconds else 1.0,
        together=_together([(one.started, one.started + one.seconds) for one in effects]),
        critical_path=path,
        wall=max((one.started + one.seconds for one in effects), default=0.0)
        - min((one.started for one in effects), default=0.0),
        money=sum(one.money for one in graph.vertices.values()),
        tokens=sum(one.tokens for one in graph.vertices.values()),
        failed=sum(one.status == "failed" for one in graph.vertices.values()),
    )


def levels(graph: Graph) -> dict[str, int]:
    """Of each vertex how many come before it on a longest path. Raises BadInput for a cycle."""
    return _levels(graph, in_order(graph))


def _levels(graph: Graph, order: list[str]) -> dict[str, int]:
    level: dict[str, int] = {}
    for id in order:
        level[id] = max((level[before] + 1 for before in graph.predecessors[id]), default=0)
    return level


def _critical(graph: Graph, order: list[str]) -> tuple[float, tuple[str, ...]]:
    best: dict[str, tuple[float, str | None]] = {}
    for id in order:
        before = max(graph.predecessors[id], key=lambda one: best[one][0], default=None)
        best[id] = graph.vertices[id].seconds + (best[before][0] if before else 0.0), before
    at: str | None = max(best, key=lambda id: best[id][0], default=None)
    seconds, path = best[at][0] if at else 0.0, []
    while at is not None:
        path.append(at)
        at = best[at][1]
    return seconds, tuple(reversed(path))


def _together(spans: list[tuple[float, float]]) -> int:
    """The most that overlap. One that ends as another begins does not; one of no length counts for itself."""
    long = [(start, end) for start, end in spans if end > start]
    turns = sorted([(start, 1) for start, _ in long] + [(end, -1) for _, end in long])
    most = now = 0
    for _, change in turns:
        now += change
        most = max(most, now)
    return max(most, 1 if spans else 0)

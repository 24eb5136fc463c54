"""A graph: vertices and edges, wherever they come from. A template may have cycles, a realised graph has none.

graph.successors["3"], graph.sources, in_order(graph), contracted(graph, lambda v: v.kind == "loop")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from heapq import heappop, heappush
from typing import Literal, NamedTuple

import msgspec

from weft.core.errors import BadInput

EdgeKind = Literal["order", "fork", "join", "back"]
"""One after the other in a line of control; the beginning of another line or a child; its end; a loop's way back."""

CONTROL = frozenset({"start", "end", "branch", "loop", "fork", "join", "try", "call"})
"""Kinds of a template's vertices that are no effects."""


class Vertex(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An effect that was made or might be made, or a point of control. Seconds and costs are 0 in a template."""

    id: str
    kind: str
    name: str = ""
    place: str = ""
    """`file:line`"""
    run: str = ""
    status: str = "ok"
    started: float = 0.0
    seconds: float = 0.0
    money: float = 0.0
    tokens: float = 0.0

    @property
    def label(self) -> str:
        """What it is called in drawings and comparisons: the name, and the kind where that says more."""
        name = "" if self.name == "*" else self.name
        return name if self.kind == "step" or name == self.kind else f"{self.kind} {name}".strip()


class Edge(NamedTuple):
    source: str
    target: str
    kind: EdgeKind = "order"


class Graph:
    """Vertices by id, in the order in which they were made, and edges. Raises BadInput for an edge to a vertex that is
    not there."""

    def __init__(self, vertices: Iterable[Vertex], edges: Iterable[Edge], name: str = "") -> None:
        self.name = name
        self.vertices: Mapping[str, Vertex] = {one.id: one for one in vertices}
        self.edges: tuple[Edge, ...] = tuple(dict.fromkeys(edges))
        for edge in self.edges:
            if edge.source not in self.vertices or edge.target not in self.vertices:
                raise BadInput(f"the graph has an edge from {edge.source!r} to {edge.target!r}, and lacks one of them")

    @cached_property
    def successors(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {id: [] for id in self.vertices}
        for edge in self.edges:
            if edge.target not in found[edge.source]:
                found[edge.source].append(edge.target)
        return found

    @cached_property
    def predecessors(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {id: [] for id in self.vertices}
        for source, targets in self.successors.items():
            for target in targets:
                found[target].append(source)
        return found

    @property
    def sources(self) -> list[str]:
        """Ids of those that nothing comes before."""
        return [id for id, before in self.predecessors.items() if not before]

    @property
    def effects(self) -> list[Vertex]:
        """Without points of control."""
        return [one for one in self.vertices.values() if one.kind not in CONTROL]

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from weft.trace.graph.svg import svg

        return svg(self)

    def __repr__(self) -> str:
        return f"<graph {self.name}: {len(self.vertices):,} vertices, {len(self.edges):,} edges>"


def in_order(graph: Graph) -> list[str]:
    """Ids such that each comes after all that come before it; of several that could be next, the one made first.
    Raises BadInput if there is a cycle."""
    place = {id: number for number, id in enumerate(graph.vertices)}
    open = {id: len(before) for id, before in graph.predecessors.items()}
    ready = [(place[id], id) for id, count in open.items() if count == 0]
    found: list[str] = []
    while ready:
        _, id = heappop(ready)
        found.append(id)
        for after in graph.successors[id]:
            open[after] -= 1
            if open[after] == 0:
                heappush(ready, (place[after], after))
    if len(found) < len(graph.vertices):
        raise BadInput(f"the graph {graph.name!r} has a cycle, and was to be put in order")
    return found


def contracted(graph: Graph, hidden: Callable[[Vertex], bool]) -> Graph:
    """The graph without the hidden vertices: whoever came before one now comes before all that came after it."""
    away = {id for id, vertex in graph.vertices.items() if hidden(vertex)}
    kinds = {(edge.source, edge.target): edge.kind for edge in graph.edges}
    edges = []
    for source in graph.vertices:
        if source in away:
            continue
        seen: set[str] = set()
        waiting = [(target, kinds[source, target]) for target in reversed(graph.successors[source])]
        while waiting:
            target, kind = waiting.pop()
            if target not in away:
                edges.append(Edge(source, target, kind))
            elif target not in seen:
                seen.add(target)
                waiting += [(after, kinds[target, after]) for after in reversed(graph.successors[target])]
    return Graph([one for id, one in graph.vertices.items() if id not in away], edges, graph.name)

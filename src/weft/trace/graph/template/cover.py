"""Does a template cover what a run really made? Each effect must be in it, and each edge must be a way through it.

A way may pass points of control and optional effects that the run left out only where the template says so: it has an
edge from one effect's vertex to the other's once the points of control are contracted. An effect that may be several
vertices (a function that is called in two places) is covered if one pair fits.
"""

from __future__ import annotations

import msgspec

from weft.trace.graph.shape import CONTROL, Edge, Graph, Vertex, contracted
from weft.trace.graph.template.template import Template

BESIDE = frozenset({"control"})
"""Effects that no line of a program stands for: cancellations of children and the like."""


class Cover(msgspec.Struct, frozen=True):
    """What of a run is not in the template (`strange`: ids of effects, and edges), and what of the template is in the
    run (`used`: ids of its vertices)."""

    vertices: int
    edges: int
    strange: tuple[str, ...]
    strange_edges: tuple[Edge, ...]
    used: frozenset[str]

    @property
    def whole(self) -> bool:
        return not self.strange and not self.strange_edges

    @property
    def share(self) -> float:
        """Of the run's effects and edges, how many are covered; 1 of an empty run."""
        all = self.vertices + self.edges
        return 1.0 if not all else 1 - (len(self.strange) + len(self.strange_edges)) / all


def cover(template: Template, realised: Graph) -> Cover:
    ways = contracted(template, lambda vertex: vertex.kind in CONTROL - {"start", "end"})
    graph = contracted(realised, lambda vertex: vertex.kind in BESIDE)
    may = _Matches(template)
    fits = {id: may.of(vertex) for id, vertex in graph.vertices.items()}
    strange = tuple(id for id, found in fits.items() if not found)
    away = set(strange)
    strange_edges = tuple(
        edge for edge in graph.edges
        if edge.source not in away and edge.target not in away
        and not any(after in fits[edge.target] for one in fits[edge.source] for after in ways.successors[one])
    )  # fmt: skip
    used = frozenset(one for found in fits.values() for one in found)
    return Cover(len(graph.vertices), len(graph.edges), strange, strange_edges, used)


class _Matches:
    """Equal effects are looked up once."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.known: dict[tuple[str, str, str], frozenset[str]] = {}

    def of(self, vertex: Vertex) -> frozenset[str]:
        key = vertex.kind, vertex.name, vertex.place
        if key not in self.known:
            self.known[key] = frozenset(self.template.matches(vertex))
        return self.known[key]

"""A template: all that a workflow could make, with what is optional, what is repeated, and when each choice is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from weft.trace.graph.shape import Edge, Graph, Vertex
from weft.trace.graph.template.when import ORDER, When

ANY = frozenset({"dynamic", "agent"})
"""Kinds of a template's vertices that stand for effects which the text does not tell."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where the vertex of a template comes from, and what is known of it."""

    file: str
    first: int
    last: int
    """Lines of the call."""
    optional: bool = False
    """A run may be without it."""
    repeated: bool = False
    """A run may have it more than once."""
    when: When = "static"
    """Of a branch, loop or choice: when it is decided."""

    def fits(self, place: str) -> bool:
        """Whether a run's `file:line` is here."""
        file, _, line = place.rpartition(":")
        return file == self.file and line.isdigit() and self.first <= int(line) <= self.last


class Template(Graph):
    """A graph of effects and points of control, with the site of each; it may have cycles."""

    def __init__(self, vertices: Iterable[Vertex], edges: Iterable[Edge], name: str, sites: Mapping[str, Site]) -> None:
        super().__init__(vertices, edges, name)
        self.sites = {id: sites[id] for id in self.vertices if id in sites}
        self.files = {site.file for site in self.sites.values()}

    @property
    def optional(self) -> list[Vertex]:
        """Effects that a run may be without."""
        return [one for one in self.effects if self.sites[one.id].optional]

    @property
    def determined(self) -> When:
        """When the whole structure is known: when the last choice is made."""
        return max((site.when for site in self.sites.values()), key=ORDER.index, default="static")

    @property
    def plasticity(self) -> str:
        """What a run may do to the structure, in the survey's words: `none`; `select` among what the text says;
        `generate` what it does not say (code or calls that only the run knows)."""
        if any(one.kind in ANY for one in self.vertices.values()):
            return "generate"
        return "select" if any(site.optional or site.repeated for site in self.sites.values()) else "none"

    def matches(self, vertex: Vertex) -> list[str]:
        """Ids of those that an effect of a run may be. Where it was issued counts if that is in a file of the
        template's."""
        here = vertex.place.rpartition(":")[0] in self.files
        found = [
            one.id
            for one in self.effects
            if one.kind == vertex.kind and one.name in ("*", vertex.name)
            if not here or self.sites[one.id].fits(vertex.place)
        ]
        return found or [one.id for one in self.effects if one.kind in ANY]

"""What grows while a template is made: vertices and edges, what runs beside, and the function that is being walked."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.graph.shape import CONTROL, Edge, EdgeKind, Vertex
from weft.trace.graph.template.scope import Helper, Scope
from weft.trace.graph.template.template import ANY, Site
from weft.trace.graph.template.when import Times, When

if TYPE_CHECKING:
    from collections.abc import Iterator

Frontier = set[str]
"""Ids of the vertices that may have come last. Empty: this point is never reached."""

MOST = 3000
"""Vertices of a template."""


class Loop:
    """One that is being walked: who leaves it, and who goes on with its next turn."""

    def __init__(self) -> None:
        self.breaks: Frontier = set()
        self.continues: Frontier = set()


class Frame:
    """One call of a function. `on_yield`: what its caller does with each value that it yields."""

    def __init__(
        self, helper: Helper, scope: Scope, times: Times, on_yield: Callable[[Frontier], Frontier] | None = None
    ) -> None:
        self.helper = helper
        self.scope = scope
        self.times = times
        self.on_yield = on_yield
        self.exits: Frontier = set()
        self.loops: list[Loop] = []
        self.entry = self.leave = ""
        """Vertices that a recursive call leads to, and comes back from."""
        self.spawned = self.awaited = 0
        """How many children it starts in its text, and for how many it waits."""


class Builder:
    def __init__(self, module: str) -> None:
        self.module = module
        self.vertices: dict[str, Vertex] = {}
        self.edges: list[Edge] = []
        self.sites: dict[str, Site] = {}
        self.beside: dict[str, Frontier] = {}
        """The last vertices of what runs beside, by the name that holds it ("": none)."""
        self.stack: list[Frame] = []
        self.maybe = 0
        self.again = 0
        """How many branches and how many loops are around."""

    # --- vertices ---------------------------------------------------------------------------------------------------

    def effect(self, kind: str, name: str, frame: Frame, node: ast.AST, before: Frontier) -> Frontier:
        id = self._add(kind, name, frame.helper.file, node)
        self.link(before, id)
        for last in self.loose():
            self.edges.append(Edge(last, id, "join"))
        if kind in ANY:
            self.edges.append(Edge(id, id, "back"))
        return {id}

    def control(self, kind: str, file: str, line: int, when: When = "static", name: str = "") -> str:
        node = ast.Pass(lineno=line, end_lineno=line)
        return self._add(kind, name or kind, file, node, when)

    def _add(self, kind: str, name: str, file: str, node: ast.AST, when: When = "static") -> str:
        if len(self.vertices) >= MOST:
            raise BadInput(f"the template has more than {MOST:,} vertices: a workflow is called in too many places")
        id = str(len(self.vertices))
        first = getattr(node, "lineno", 0)
        last = getattr(node, "end_lineno", None) or first
        self.vertices[id] = Vertex(id=id, kind=kind, name=name, place=f"{file}:{first}")
        effect = kind not in CONTROL
        self.sites[id] = Site(
            file=file, first=first, last=last, optional=effect and self.maybe > 0, repeated=effect and self.again > 0,
            when="running" if kind in ANY else when,
        )  # fmt: skip
        return id

    def link(self, before: Iterable[str], after: str, kind: EdgeKind = "order") -> None:
        self.edges += [Edge(one, after, kind) for one in sorted(before, key=int)]

    # --- what is around ---------------------------------------------------------------------------------------------

    @contextmanager
    def perhaps(self, repeated: bool = False) -> Iterator[None]:
        self.maybe += 1
        self.again += repeated
        yield
        self.maybe -= 1
        self.again -= repeated

    # --- what runs beside -------------------------------------------------------------------------------------------

    def loose(self) -> Frontier:
        return {id for lasts in self.beside.values() for id in lasts}

    def line(self, walk: Callable[[Frontier], Frontier], before: Frontier) -> Frontier:
        """Walk what is another line of control; what it started beside and did not wait for is its end, too."""
        around, self.beside = self.beside, {}
        last = walk(before | {id for lasts in around.values() for id in lasts}) | self.loose()
        self.beside = around
        return last

    def start(self, holder: str, last: Frontier) -> None:
        self.beside.setdefault(holder, set()).update(last)

    def waited(self, holders: Iterable[str], aliases: dict[str, set[str]]) -> Frontier:
        """Those that run beside under one of these names, which are over now. If no name is known it may be any one,
        and each may still go on."""
        wanted = {other for name in holders for other in (name, *aliases.get(name, ()))}
        known = [name for name in self.beside if name in wanted]
        return {id for name in known for id in self.beside.pop(name)} if known else self.loose()

    def end_children(self, frame: Frame, last: Frontier) -> Frontier:
        """A process ends after its children: the waits that nobody wrote."""
        if frame.spawned <= frame.awaited:
            return last
        node = ast.Pass(lineno=0, end_lineno=0)
        with self.perhaps(repeated=True):
            wait = self.effect("child", "*", frame, node, last)
        self.edges += [Edge(id, id, "back") for id in wait]
        return last | wait

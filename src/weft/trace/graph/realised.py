"""The realised graph of a run: its effects, and which of them came after which because the program said so.

A journal tells of each effect its line of control (an asyncio task) and the effect that was issued before it there, or,
for the first of a line, by whoever started the line. These are the edges of order and of forks. A join is where a line
goes on after others that it had started were over: an effect comes after the last effect of each such line whose
outcome had reached the program when it was issued; a line that is started comes after them if all of them were over.
Two lines that run beside each other have no edges between them, whatever their times, so a run that only went faster or
slower has the same graph.

Not seen are waits that go over a queue, an event or a lock of asyncio between lines: there is no effect in them.
Journals of an older Weft tell no lines; then an effect comes after the last one whose outcome was there when it began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterable, Iterable
from itertools import pairwise
from math import inf

from weft.trace.graph.shape import Edge, EdgeKind, Graph, Vertex, contracted
from weft.trace.reading import Node

HIDDEN = frozenset({"spend", "open"})
"""Effects that only keep books."""


async def realised(nodes: AsyncIterable[Node], name: str = "") -> Graph:
    """The graph of the processes among these nodes (`weft.trace.reading.read_run`), children after what began them."""
    return graph_of([node async for node in nodes], name)


def graph_of(nodes: Iterable[Node], name: str = "") -> Graph:
    """The same, of nodes that are there."""
    runs: dict[str, list[Node]] = {}
    around: dict[str, str | None] = {}
    for node in nodes:
        if node.effect:
            runs.setdefault(node.run, []).append(node)
        else:
            runs.setdefault(node.run, [])
            around[node.run] = node.parent
            name = name or node.name
    vertices = [
        _vertex(node, node.child in runs)
        for effects in runs.values()
        for node in sorted(effects, key=lambda n: n.effect)
    ]
    edges = [edge for effects in runs.values() for edge in edges_of(effects)]
    edges += _between(runs, around, edges)
    hidden = {node.id for effects in runs.values() for node in effects if node.exact in HIDDEN}
    whole = Graph(vertices, edges, name)
    return contracted(whole, lambda vertex: vertex.id in hidden) if hidden else whole


def _vertex(node: Node, child_is_there: bool) -> Vertex:
    """Who only waits for a child whose effects are in the graph takes no time of its own."""
    only_waits = node.kind == "child" and child_is_there
    return Vertex(
        id=node.id, kind=node.kind, name=node.name, place=node.place, run=node.run, status=node.status,
        started=node.started, seconds=0.0 if only_waits else node.seconds, money=node.money, tokens=node.tokens,
    )  # fmt: skip


def edges_of(effects: Iterable[Node]) -> list[Edge]:
    """Those between the effects of one process."""
    ordered = sorted(effects, key=lambda node: node.effect)
    if any(node.line for node in ordered):
        lines = _Lines(ordered)
        for node in ordered:
            lines.take(node)
        return lines.edges
    return _by_time(ordered)


Front = tuple[Node, ...]


class _Lines:
    """The lines of one process, as far as its effects were taken, in the order in which they were issued."""

    def __init__(self, ordered: list[Node]) -> None:
        self.edges: list[Edge] = []
        self.there = {node.effect: node for node in ordered}
        self.numbers = [node.effect for node in ordered]
        self.ended: dict[int, float] = {}
        """By line: when its last effect reached the program; that of one in flight never did."""
        self.front: dict[int, Front] = {}
        """By line: the effects that its next one comes after."""
        self.then: dict[tuple[int, int], Front] = {}
        """By line and its last effect (0: none): the same, as it was until the next one."""
        self.last: dict[int, int] = {}
        """By line: its last effect, or that of whoever started it."""
        self.root: dict[int, Front] = {}
        """By line: what its first one came after."""
        self.open: dict[int, dict[int, None]] = {}
        """By line: those that it started and has not gone on after."""

    def take(self, node: Node) -> None:
        path = node.line or (-node.effect,)  # outside of tasks: a line of its own
        for around, line in pairwise((0, *path)):
            self._start(around, line, node)
        line = path[-1]
        first = line not in self.ended
        self._join(line, node.issued)
        kind: EdgeKind = "fork" if first else "join" if len(self.front[line]) > 1 else "order"
        self.edges += [Edge(before.id, node.id, kind) for before in self.front[line]]
        self._goes_on(line, node.effect, (node,))
        self.ended[line] = inf if node.ended is None else node.ended

    def _start(self, around: int, line: int, node: Node) -> None:
        """A line was started: it comes after what the line around it came after then, and after all that this one had
        started, if that was over."""
        if line not in self.front:
            begun = node.issued if node.begun is None else node.begun
            known = (around, node.after) in self.then
            if known and all(self._is_over(one, begun) for one in self.open.get(around, ())):
                self._join(around, begun)
            before = self._present(node.after)
            front = self.then.get((around, node.after), () if before is None else (before,))
            self._goes_on(line, node.after, front)
            self.root[line] = front
        self.open.setdefault(around, {})[line] = None  # again, if it was taken for over

    def _goes_on(self, line: int, last: int, front: Front) -> None:
        self.front[line] = self.then[line, last] = front
        self.last[line] = last

    def _is_over(self, line: int, at: float) -> bool:
        return self.ended.get(line, 0.0) <= at and all(self._is_over(each, at) for each in self.open.get(line, ()))

    def _join(self, line: int, at: float) -> None:
        """The line goes on after all lines below it that were over at that time."""
        over = self._over(line, at)
        if over:
            passed = {node.effect for _, root in over for node in root}
            tips = {node.effect: node for front in (self.front[line], *(front for front, _ in over)) for node in front}
            left = tuple(node for effect, node in tips.items() if effect not in passed)
            self._goes_on(line, self.last[line], left)

    def _over(self, line: int, at: float) -> list[tuple[Front, Front]]:
        """What the lines below this one end with that were over, and what each began with."""
        found: list[tuple[Front, Front]] = []
        for below in [one for one in self.open.get(line, ()) if self._is_over(one, at)]:
            self._join(below, at)
            found.append((self.front[below], self.root[below]))
            del self.open[line][below]
        return found

    def _present(self, number: int) -> Node | None:
        """The effect with this number; of one that left no trace (the wait for it was given up), the one before."""
        if number in self.there or number == 0:
            return self.there.get(number)
        at = bisect_left(self.numbers, number)
        return self.there[self.numbers[at - 1]] if at else None


def _by_time(ordered: list[Node]) -> list[Edge]:
    """For journals that tell no lines."""
    edges: list[Edge] = []
    ended = sorted((node for node in ordered if node.ended is not None), key=lambda node: node.ended or 0)
    times = [node.ended or 0 for node in ended]
    for node in ordered:
        at = bisect_left(times, node.issued + 1e-9)
        if at and ended[at - 1] is not node:
            edges.append(Edge(ended[at - 1].id, node.id))
    return edges


def _between(runs: dict[str, list[Node]], around: dict[str, str | None], edges: list[Edge]) -> list[Edge]:
    """From what started a child to its first effects, and from its last ones to the wait for it."""
    waits = {node.child: node.id for effects in runs.values() for node in effects if node.kind == "child"}
    before, after = {edge.target for edge in edges}, {edge.source for edge in edges}
    found: list[Edge] = []
    for run, effects in runs.items():
        starter, wait = around.get(run), waits.get(run)
        if starter and ":" in starter:
            found += [Edge(starter, node.id, "fork") for node in effects if node.id not in before]
        if wait:
            found += [Edge(node.id, wait, "join") for node in effects if node.id not in after]
    return found

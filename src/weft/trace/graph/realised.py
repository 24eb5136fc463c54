"""The realised graph of a run: its effects, and which of them came after which because the program said so.

A journal tells of each effect its line of control (an asyncio task) and the effect that was issued before it there, or,
for the first of a line, by whoever started the line. These are the edges of order and of forks. A join is where a line
goes on after others that it had started were over: an effect comes after the last effect of each such line whose
outcome had reached the program when it was issued. Two lines that run beside each other have no edges between them,
whatever their times, so a run that only went faster or slower has the same graph.

Not seen are waits that go over a queue, an event or a lock of asyncio between lines: there is no effect in them.
Journals of an older Weft tell no lines; then an effect comes after the last one whose outcome was there when it began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterable, Iterable
from itertools import pairwise

from weft.trace.graph.shape import Edge, Graph, Vertex, contracted
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


class _Lines:
    """The lines of one process, as far as its effects were taken, in the order in which they were issued."""

    def __init__(self, ordered: list[Node]) -> None:
        self.edges: list[Edge] = []
        self.there = {node.effect: node for node in ordered}
        self.numbers = [node.effect for node in ordered]
        self.tip: dict[int, Node] = {}
        """By line: its last effect."""
        self.root: dict[int, int] = {}
        """By line: the effect after which it was started, 0 if before any."""
        self.open: dict[int, dict[int, None]] = {}
        """By line: those that it started and has not gone on after."""
        self.joined: set[int] = set()
        """Last effects of lines that another one has gone on after."""

    def take(self, node: Node) -> None:
        path = node.line or (-node.effect,)  # outside of tasks: a line of its own
        line, before = path[-1], self._present(node.after)
        for each in path:
            self.root.setdefault(each, 0 if before is None else before.effect)
        over = self._over(line, node)
        self.edges += [Edge(tip.id, node.id, "join") for tip, _ in over]
        if before is not None and all(root != before.effect for _, root in over):
            self.edges.append(Edge(before.id, node.id, "order" if line in self.tip else "fork"))
        for around, within in pairwise(path):
            self.open.setdefault(around, {})[within] = None  # again, if it was taken for over
        self.tip[line] = node

    def _over(self, line: int, node: Node) -> list[tuple[Node, int]]:
        """The last effects of the lines below this one which had reached the program when `node` was issued; and each
        time the effect after which this line started them. They are joined now."""
        found = []
        for below in list(self.open.get(line, ())):
            inner = self._over(below, node)
            tip, root = self.tip.get(below), self.root[below]
            ended = tip is None or (tip.ended is not None and tip.ended <= node.issued)
            if tip is not None and ended and tip.effect not in self.joined:
                self.joined.add(tip.effect)
                if all(after != tip.effect for _, after in inner):
                    found.append((tip, root))
            found += [(last, root) for last, _ in inner]
            if ended and not self.open.get(below):
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

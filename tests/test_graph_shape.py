"""Graphs: their numbers against counting all paths, contraction against reachability, order, and bad input."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.errors import BadInput
from weft.trace.graph.draw import dot, drawable, folded, mermaid
from weft.trace.graph.layout import placed
from weft.trace.graph.measure import levels, measure
from weft.trace.graph.shape import Edge, Graph, Vertex, contracted, in_order
from weft.trace.graph.svg import svg


def graph(seconds: list[float], pairs: list[tuple[int, int]], kinds: str = "") -> Graph:
    vertices = [
        Vertex(
            id=str(n), kind="hidden" if kinds[n : n + 1] == "h" else "step", name=f"s{n}", started=1.0 + n, seconds=s
        )
        for n, s in enumerate(seconds)
    ]
    return Graph(vertices, [Edge(str(a), str(b)) for a, b in pairs], "made")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random ones without cycles, whose order of making is not their order."""
    size = draw(st.integers(0, 9))
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size) if draw(st.booleans())]
    names = draw(st.permutations(range(size)))
    kinds = "".join(draw(st.sampled_from("sh")) for _ in range(size))
    seconds = [float(draw(st.integers(0, 5))) for _ in range(size)]
    return graph(seconds, [(names[a], names[b]) for a, b in pairs], kinds)


def paths(of: Graph) -> list[list[str]]:
    """All that can't be made longer."""
    waiting, found = [[id] for id in of.sources], []
    while waiting:
        path = waiting.pop()
        after = of.successors[path[-1]]
        if not after:
            found.append(path)
        waiting += [[*path, one] for one in after]
    return found


@settings(max_examples=40)
@given(graphs())
def test_numbers_are_those_of_all_paths(of: Graph) -> None:
    found = measure(of)
    every = paths(of)
    assert found.nodes == len(of.vertices) and found.edges == len(of.edges)
    assert found.depth == max(map(len, every), default=0)
    assert found.critical == max((sum(of.vertices[id].seconds for id in path) for path in every), default=0)
    assert sum(of.vertices[id].seconds for id in found.critical_path) == found.critical
    assert all(b in of.successors[a] for a, b in pairwise(found.critical_path))
    level = levels(of)
    assert all(level[edge.source] < level[edge.target] for edge in of.edges)
    assert found.width == max((list(level.values()).count(one) for one in level.values()), default=0)
    assert found.parallelism >= 1 or found.work == 0


@settings(max_examples=40)
@given(graphs())
def test_contraction_keeps_who_comes_before_whom(of: Graph) -> None:
    small = contracted(of, lambda vertex: vertex.kind == "hidden")
    assert set(small.vertices) == {id for id, vertex in of.vertices.items() if vertex.kind != "hidden"}
    for a in small.vertices:
        for b in small.vertices:
            direct = any(
                path.index(a) < path.index(b)
                and all(of.vertices[id].kind == "hidden" for id in path[path.index(a) + 1 : path.index(b)])
                for path in paths(of)
                if a in path and b in path
            )
            assert (b in small.successors[a]) == direct


@settings(max_examples=40)
@given(graphs())
def test_drawings_show_every_vertex(of: Graph) -> None:
    order = in_order(of)
    assert sorted(order) == sorted(of.vertices)
    where = placed(of, dict.fromkeys(of.vertices, 40.0))
    assert set(where.at) == set(of.vertices) and len(set(where.at.values())) == len(where.at)
    assert set(where.ways) == {(edge.source, edge.target) for edge in of.edges}
    for text in (dot(of), mermaid(of), svg(of)):
        assert all(vertex.name in text for vertex in of.vertices.values())


def test_bad_graphs_are_refused() -> None:
    with pytest.raises(BadInput, match="lacks one of them"):
        Graph([Vertex(id="1", kind="step")], [Edge("1", "2")])
    cycle = graph([1, 1], [(0, 1), (1, 0)])
    with pytest.raises(BadInput, match="cycle"):
        measure(cycle)
    assert "made" in svg(cycle)  # which can be drawn all the same


def test_what_programs_are_called_is_no_markup() -> None:
    evil = Graph([Vertex(id="1", kind="step", name='<script>"x"</script>]', place="a&b.py:1")], [], "<b>")
    assert "<script>" not in svg(evil) and "<b>" not in svg(evil)
    assert '"x"' not in mermaid(evil) and "<script>" not in mermaid(evil)
    assert '\\"x\\"' in dot(evil)


def test_large_graphs_are_folded_by_place() -> None:
    vertices = [Vertex(id=str(n), kind="step", name="look", place=f"f.py:{n % 2}", seconds=1.0) for n in range(600)]
    whole = Graph(vertices, [Edge(str(n), str(n + 1)) for n in range(599)])
    small = drawable(whole)
    assert len(small.vertices) == 2 and sum(one.seconds for one in small.vertices.values()) == 600
    assert {one.name for one in small.vertices.values()} == {"look × 300"}
    assert len(folded(whole).edges) == 2 and drawable(small) is small

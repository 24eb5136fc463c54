"""A graph as text for other tools: DOT for Graphviz, Mermaid for pages that draw it. Large graphs are folded first."""

from __future__ import annotations

from weft.trace.graph.shape import CONTROL, Edge, Graph, Vertex
from weft.trace.graph.template.template import Template

MOST = 250
"""Vertices that are drawn one by one."""
SHAPES = {"branch": "diamond", "loop": "hexagon", "fork": "invtriangle", "join": "triangle", "try": "diamond",
          "start": "circle", "end": "doublecircle"}  # fmt: skip


def folded(graph: Graph) -> Graph:
    """The effects of one place as one vertex: how many they were stands in its name, times and costs are sums."""
    groups: dict[tuple[str, str, str], list[Vertex]] = {}
    of: dict[str, str] = {}
    for vertex in graph.vertices.values():
        group = groups.setdefault((vertex.kind, "" if vertex.kind == "child" else vertex.name, vertex.place), [])
        group.append(vertex)
        of[vertex.id] = group[0].id
    vertices = [_one(group) for group in groups.values()]
    edges = [Edge(of[edge.source], of[edge.target], edge.kind) for edge in graph.edges]
    return Graph(vertices, edges, graph.name)


def _one(group: list[Vertex]) -> Vertex:
    first = group[0]
    name = "" if first.kind == "child" else first.name
    worst = next((one.status for one in group if one.status == "failed"), first.status)
    return Vertex(
        id=first.id, kind=first.kind, name=f"{name} × {len(group):,}".strip() if len(group) > 1 else first.name,
        place=first.place, run=first.run, status=worst, started=min(one.started for one in group),
        seconds=sum(one.seconds for one in group), money=sum(one.money for one in group),
        tokens=sum(one.tokens for one in group),
    )  # fmt: skip


def drawable(graph: Graph) -> Graph:
    """The graph, or what is left of it when effects of one place are one, if it is too large to be looked at."""
    return graph if len(graph.vertices) <= MOST or isinstance(graph, Template) else folded(graph)


def names(graph: Graph) -> dict[str, str]:
    """Short ids for a drawing: n0, n1 …"""
    return {id: f"n{number}" for number, id in enumerate(graph.vertices)}


def is_optional(graph: Graph, id: str) -> bool:
    return isinstance(graph, Template) and graph.sites[id].optional


def text_of(vertex: Vertex) -> str:
    """What stands in a vertex."""
    if vertex.kind in CONTROL:
        return vertex.name
    took = f"{vertex.seconds:.3g} s" if vertex.seconds else ""
    cost = f"${vertex.money:.3g}" if vertex.money else ""
    more = ", ".join(part for part in (took, cost) if part)
    return f"{vertex.label} ({more})" if more else vertex.label


def dot(graph: Graph) -> str:
    """For `dot -Tsvg`."""
    graph = drawable(graph)
    short = names(graph)
    lines = [f"digraph {_quoted(graph.name or 'run')} {{", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for id, vertex in graph.vertices.items():
        shape = f", shape={SHAPES[vertex.kind]}, style=solid" if vertex.kind in SHAPES else ""
        dashed = ', style="rounded,dashed"' if is_optional(graph, id) else ""
        red = ", color=red" if vertex.status == "failed" else ""
        lines.append(f"  {short[id]} [label={_quoted(text_of(vertex))}{shape}{dashed}{red}];")
    kinds = _kinds(graph)
    for (source, target), kind in kinds.items():
        style = " [style=dashed, constraint=false]" if kind == "back" else ""
        lines.append(f"  {short[source]} -> {short[target]}{style};")
    return "\n".join([*lines, "}", ""])


def _kinds(graph: Graph) -> dict[tuple[str, str], str]:
    return {(edge.source, edge.target): edge.kind for edge in reversed(graph.edges)}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


MERMAID = {"branch": ("{", "}"), "try": ("{", "}"), "loop": ("{{", "}}"), "start": ("((", "))"), "end": ("((", "))")}


def mermaid(graph: Graph) -> str:
    """For a ```mermaid block."""
    graph = drawable(graph)
    short = names(graph)
    lines = ["flowchart TD"]
    for id, vertex in graph.vertices.items():
        left, right = MERMAID.get(vertex.kind, ("[", "]"))
        lines.append(f'  {short[id]}{left}"{_entities(text_of(vertex))}"{right}')
    for (source, target), kind in _kinds(graph).items():
        lines.append(f"  {short[source]} {'-.->' if kind == 'back' else '-->'} {short[target]}")
    optional = [short[id] for id in graph.vertices if is_optional(graph, id)]
    failed = [short[id] for id, vertex in graph.vertices.items() if vertex.status == "failed"]
    if optional:
        lines += ["  classDef optional stroke-dasharray: 4 3", f"  class {','.join(optional)} optional"]
    if failed:
        lines += ["  classDef failed stroke:#c00", f"  class {','.join(failed)} failed"]
    return "\n".join([*lines, ""])


def _entities(text: str) -> str:
    safe = "".join(one if one.isalnum() or one in " .,_-()$/:×" else f"#{ord(one)};" for one in text)
    return safe or " "

"""A graph as a picture that stands by itself: SVG, readable on light and dark, with the place of each effect on it."""

from __future__ import annotations

from html import escape

from weft.trace.graph.draw import drawable, is_optional, text_of
from weft.trace.graph.layout import placed
from weft.trace.graph.shape import CONTROL, Graph, Vertex

HIGH = 26
"""Of a vertex."""
WIDEST = 40
"""Characters of its text."""
STYLE = """
.weft-graph{font:12px system-ui,sans-serif;--ink:#1c2024;--line:#8b929a;--paper:#fff;--tint:#eef2f6}
@media(prefers-color-scheme:dark){.weft-graph{--ink:#e8eaed;--line:#7c848d;--paper:#16191d;--tint:#242a31}}
.weft-graph text{fill:var(--ink);text-anchor:middle;dominant-baseline:central}
.weft-graph rect,.weft-graph polygon{fill:var(--paper);stroke:var(--line)}
.weft-graph path{fill:none;stroke:var(--line)}.weft-graph .back{stroke-dasharray:2 3}
.weft-graph .optional rect{stroke-dasharray:4 3}.weft-graph .failed rect{stroke:#d33}
.weft-graph .generation rect{fill:var(--tint);stroke:#5b7fd1}.weft-graph .tool rect{fill:var(--tint);stroke:#3a9d74}
.weft-graph .agent rect,.weft-graph .dynamic rect{fill:var(--tint);stroke-dasharray:1 3}
.weft-graph marker path{fill:var(--line);stroke:none}
"""


def svg(graph: Graph) -> str:
    """The whole picture. A graph without vertices is an empty one that says so."""
    graph = drawable(graph)
    texts = {id: _short(text_of(vertex)) for id, vertex in graph.vertices.items()}
    widths = {id: _width(vertex, texts[id]) for id, vertex in graph.vertices.items()}
    where = placed(graph, widths)
    kinds = {(edge.source, edge.target): edge.kind for edge in graph.edges}
    lines = [_edge(points, kinds.get(pair, "order")) for pair, points in where.ways.items()]
    boxes = [_box(graph, vertex, texts[id], widths[id], *where.at[id]) for id, vertex in graph.vertices.items()]
    wide, high = max(where.width, 160) + 20, max(where.height, 40)
    empty = "" if graph.vertices else f'<text x="{wide / 2}" y="{high / 2}">no effects</text>'
    title = escape(graph.name or "run")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="weft-graph" role="img" aria-label="graph of {title}" '
        f'width="{wide:.0f}" height="{high:.0f}" viewBox="-10 0 {wide:.0f} {high:.0f}"><style>{STYLE}</style>'
        f'<defs><marker id="weft-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>{"".join(lines)}{"".join(boxes)}{empty}</svg>'
    )


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _width(vertex: Vertex, text: str) -> float:
    return 6.6 * len(text) + (30 if vertex.kind in ("branch", "try", "loop") else 18)


def _edge(points: list[tuple[float, float]], kind: str) -> str:
    rising = points[0][1] > points[-1][1]
    half = -HIGH / 2 if rising else HIGH / 2
    (x, y), (tx, ty) = points[0], points[-1]
    inner = points[1:-1]
    path = f"M{x:.1f} {y + half:.1f}"
    for px, py in [*inner, (tx, ty - half)]:
        bend = (y + py) / 2
        path += f"C{x:.1f} {bend:.1f} {px:.1f} {bend:.1f} {px:.1f} {py:.1f}"
        x, y = px, py
    return f'<path class="{kind}" d="{path}" marker-end="url(#weft-arrow)"/>'


def _box(graph: Graph, vertex: Vertex, text: str, wide: float, x: float, y: float) -> str:
    marks = [vertex.kind, *(["optional"] if is_optional(graph, vertex.id) else []), vertex.status]
    left, top = x - wide / 2, y - HIGH / 2
    if vertex.kind in ("branch", "try", "loop"):
        points = (
            f"{left:.1f},{y:.1f} {left + 12:.1f},{top:.1f} {left + wide - 12:.1f},{top:.1f} {left + wide:.1f},{y:.1f}"
        )
        points += f" {left + wide - 12:.1f},{top + HIGH:.1f} {left + 12:.1f},{top + HIGH:.1f}"
        shape = f'<polygon points="{points}"/>'
    else:
        round = HIGH / 2 if vertex.kind in CONTROL else 5
        shape = f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{HIGH}" rx="{round}"/>'
    hint = escape(f"{vertex.kind} {vertex.name}\n{vertex.place}")
    return (
        f'<g class="{" ".join(marks)}"><title>{hint}</title>{shape}'
        f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text></g>'
    )

"""A run as a person sees it in a terminal: as a tree, over time, and as a graph; and the numbers of graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    from weft.trace.graph.measure import Metrics
    from weft.trace.graph.shape import Graph
    from weft.trace.graph.vary import Variation
    from weft.trace.reading import Node

Form = Literal["text", "dot", "mermaid", "svg"]
WIDE = 60
"""Characters of a timeline."""
SIGNS = {"ok": ("✓", "green"), "failed": ("✗", "red"), "running": ("…", "yellow"), "waiting": ("…", "yellow"),
         "cancelled": ("–", "yellow")}  # fmt: skip


def tree(nodes: Sequence[Node]) -> Tree:
    """Effects below their process, children below the effect that started them."""
    from rich.tree import Tree

    made: dict[str | None, Tree] = {}
    for node in nodes:
        around = made.get(node.parent)
        made[node.id] = Tree(line(node)) if around is None else around.add(line(node))
    return made[nodes[0].id]


def line(node: Node) -> Text:
    from rich.text import Text

    sign, colour = SIGNS[node.status]
    kind = "" if node.kind in ("step", "process") or node.name == node.kind else f"{node.kind} "
    number = f"#{node.effect} " if node.effect else ""
    name = f"{node.name}  {node.run}" if node.kind == "process" else node.name
    text = Text.assemble((sign, colour), f" {number}{kind}{name}  ", (told(node), "dim"))
    if node.error:
        text.append(f"  {node.error}", "red")
    return text


def told(node: Node) -> str:
    """Times and costs, those that there are."""
    parts = ["" if node.ended is None else duration(node.seconds)]
    parts.append(f"waited {duration(node.waited)}" if node.effect and node.waited >= 0.1 else "")
    parts.append(f"{node.attempts} tries" if node.attempts > 1 else "")
    parts.append(f"{node.tokens:,.0f} tokens" if node.tokens else "")
    parts.append(f"${node.money:.4g}" if node.money else "")
    return ", ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def timeline(nodes: Sequence[Node], now: float) -> Table:
    """A bar for each node, from when it began to its end; dots while it waited to begin."""
    from rich.table import Table
    from rich.text import Text

    from weft.cli.render import effect_name

    first = min(node.issued or node.started for node in nodes)
    last = max([now if node.ended is None else node.ended for node in nodes])
    scale = WIDE / max(last - first, 1e-9)
    table = Table(box=None, pad_edge=False)
    for heading, right in (("#", True), ("what", False), (f"0 to {duration(last - first)}", False), ("took", True)):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for node in nodes:
        issued, began = int((node.issued - first) * scale), int((node.started - first) * scale)
        end = max(began + 1, round(((now if node.ended is None else node.ended) - first) * scale))
        bar = Text.assemble(" " * issued, ("·" * (began - issued), "dim"), ("━" * (end - began), SIGNS[node.status][1]))
        name = effect_name(node.kind, node.name)
        took = "" if node.ended is None else duration(node.seconds)
        table.add_row(str(node.effect or ""), name[:32], bar, took)
    return table


def graph_text(graph: Graph) -> Table:
    """Each effect with those that it comes after, level by level."""
    from rich.table import Table
    from rich.text import Text

    from weft.trace.graph.measure import levels

    table = Table(box=None, pad_edge=False)
    for heading in ("level", "effect", "after", "took"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    short = {id: _short(graph, id) for id in graph.vertices}
    before = -1
    for id, level in sorted(levels(graph).items(), key=lambda pair: pair[1]):
        vertex = graph.vertices[id]
        after = ", ".join(short[one] for one in graph.predecessors[id])
        name = Text(f"{short[id]} {vertex.label}", style="red" if vertex.status == "failed" else "")
        table.add_row(str(level) if level != before else "", name, after, duration(vertex.seconds))
        before = level
    return table


def _short(graph: Graph, id: str) -> str:
    """Its number; of another process than the first, with the end of that one's id."""
    run, _, number = id.rpartition(":")
    first = next(iter(graph.vertices)).rpartition(":")[0]
    return f"#{number}" if run == first else f"{run[-4:]}#{number}"


def drawn(graph: Graph, form: Form) -> str:
    """The graph as text for another tool."""
    from weft.trace.graph.draw import dot, mermaid
    from weft.trace.graph.svg import svg

    return {"dot": dot, "mermaid": mermaid, "svg": svg}[form](graph)


def plain_graph(graph: Graph) -> dict[str, Any]:
    import msgspec

    return {
        "name": graph.name,
        "vertices": [msgspec.structs.asdict(vertex) for vertex in graph.vertices.values()],
        "edges": [edge._asdict() for edge in graph.edges],
    }


def metrics_lines(found: Metrics) -> list[tuple[str, str]]:
    return [
        ("graph", f"{found.nodes:,} effects, {found.edges:,} edges, density {found.density:.3g}"),
        ("shape", f"depth {found.depth:,}, width {found.width:,}, fan-out {found.fan_out:,}"),
        (
            "time",
            f"{duration(found.wall)} in all; work {duration(found.work)}, critical path {duration(found.critical)}",
        ),
        ("parallel", f"work ÷ critical path {found.parallelism:.3g}; at most {found.together:,} at once"),
        ("cost", f"{found.tokens:,.0f} tokens, ${found.money:.4g}; {found.failed:,} effects failed"),
    ]


def variation_lines(found: Variation) -> list[tuple[str, str]]:
    lines = [
        (
            "runs",
            f"{found.runs:,}, with {found.distinct:,} distinct graphs; the most frequent one {found.common:,} times",
        ),
        ("entropy", f"{found.entropy:.3g} bits"),
        ("distance", f"{found.distance:.3g} on average between two runs (0 equal, 1 nothing in common)"),
        ("edges", f"{found.jaccard:.3g} of them in both of two runs, on average"),
    ]
    if found.coverage is not None:
        lines.append(("coverage", f"{found.coverage:.0%} of the template's effects are in some run; {found.covered} of "
                                  f"{found.runs} runs are wholly in the template"))  # fmt: skip
    return lines

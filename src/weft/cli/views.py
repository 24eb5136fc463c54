"""What `weft show RUN --graph`, `--timeline` and `--tree` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from weft.cli.look import ask, find_run
from weft.cli.picture import Form

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.reading import Node

View = Literal["graph", "timeline", "tree"]


def view(run: str, which: View, form: Form, most: int, store: str | None, json: bool) -> None:
    """`most`: effects that a table or tree shows. Raises BadInput for a form that the view has not."""
    from weft.core.errors import BadInput

    if form != "text" and which != "graph":
        raise BadInput(f"--as {form} goes with --graph")
    nodes = ask(store, lambda opened: _read(opened, run, most if which != "graph" else None))
    if json:
        _json(nodes, which)
    elif which == "graph":
        _graph(nodes, form)
    else:
        _text(nodes[: most + 1], which)
        if len(nodes) > most + 1:
            print("… more (--effects N)")


async def _read(store: Store, run: str, most: int | None) -> list[Node]:
    from weft.trace.reading import read_run

    row = await find_run(store, run)
    nodes: list[Node] = []
    async for node in read_run(store, row.id):
        nodes.append(node)
        if most is not None and len(nodes) > most + 1:
            break
    return nodes


def _json(nodes: list[Node], which: View) -> None:
    import msgspec

    from weft.cli.picture import plain_graph
    from weft.cli.render import out
    from weft.trace.graph.measure import measure
    from weft.trace.graph.realised import graph_of

    if which != "graph":
        out(
            [
                {"id": node.id, **msgspec.structs.asdict(node), "usage": msgspec.to_builtins(node.usage)}
                for node in nodes
            ]
        )
        return
    graph = graph_of(nodes)
    out({**plain_graph(graph), "metrics": msgspec.structs.asdict(measure(graph))})


def _graph(nodes: list[Node], form: Form) -> None:
    from weft.cli.picture import drawn, graph_text, metrics_lines
    from weft.cli.render import show
    from weft.trace.graph.draw import drawable
    from weft.trace.graph.measure import measure
    from weft.trace.graph.realised import graph_of

    graph = graph_of(nodes)
    if form != "text":
        print(drawn(graph, form), end="")
        return
    for name, text in metrics_lines(measure(graph)):
        print(f"{name:<9} {text}")
    if drawable(graph) is not graph:
        print(f"\n{len(graph.vertices):,} effects are too many to list; draw them with: --as svg, or --json")
    elif graph.vertices:
        print()
        show(graph_text(graph))


def _text(nodes: list[Node], which: View) -> None:
    from time import time

    from weft.cli.picture import timeline, tree
    from weft.cli.render import show

    show(tree(nodes) if which == "tree" else timeline(sorted(nodes, key=lambda node: node.issued), time()))

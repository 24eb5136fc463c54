"""The shape of runs: the graph that one made, the template of its workflow, and what two of them differ in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.requests import Request

from weft.cli.look import find_run
from weft.core.errors import BadInput, WeftError
from weft.core.workflow import Workflow, registry
from weft.store.base import Store
from weft.trace.diff import Change, Diff, diff
from weft.trace.graph.draw import MOST, drawable
from weft.trace.graph.layout import placed
from weft.trace.graph.measure import measure
from weft.trace.graph.realised import graph_of
from weft.trace.graph.shape import CONTROL, Graph, Vertex
from weft.trace.graph.template.extract import template_of
from weft.trace.graph.template.template import Template
from weft.trace.reading import Node, process_node
from weft.web.page.actions import declare
from weft.web.page.answer import needed
from weft.web.page.book import Book
from weft.web.page.books import Books
from weft.web.page.leaf import span
from weft.web.page.runs import line, sums_of

HIGH = 34.0
"""Of a vertex, in the units of the layout."""
NARROW, WIDE = 70.0, 230.0
CHANGES = 1_000
"""Differences that are told."""
LARGEST = 200_000
"""Effects of a run whose graph is made."""


# --- graphs ---------------------------------------------------------------------------------------------------------


async def graph(book: Book) -> dict[str, Any]:
    """`/api/runs/RUN/graph`."""
    if book.total > LARGEST:
        raise BadInput(f"the run has {book.total:,} spans; graphs are made of up to {LARGEST:,}")
    nodes = list(_nodes(book))
    return await asyncio.to_thread(_drawn, nodes, book.root.row.workflow)


def _nodes(book: Book) -> Iterator[Node]:
    for leaf in book.leaves.values():
        yield process_node(leaf.row, f"{leaf.parent}:{leaf.started_by}" if leaf.parent else None)
        yield from leaf.effects


def _drawn(nodes: list[Node], name: str) -> dict[str, Any]:
    found = graph_of(nodes, name)
    report = msgspec.structs.asdict(measure(found))
    return {**told(drawable(found)), "report": report, "folded": len(found.vertices) > MOST}


def told(graph: Graph) -> dict[str, Any]:
    """Vertices with their places, and edges."""
    widths = {id: min(WIDE, max(NARROW, 7.0 * len(one.label) + 24)) for id, one in graph.vertices.items()}
    where = placed(graph, widths).at
    return {
        "nodes": [_vertex(graph, one, widths[id], *where[id]) for id, one in graph.vertices.items()],
        "edges": [{"from": one.source, "to": one.target, "kind": one.kind} for one in graph.edges],
    }


def _vertex(graph: Graph, one: Vertex, wide: float, x: float, y: float) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name if one.kind in CONTROL else one.label, "kind": one.kind, "status": one.status,
        "place": one.place, "count": 1, "start": one.started or None, "seconds": one.seconds,
        "money": one.money or None, "optional": isinstance(graph, Template) and graph.sites[one.id].optional,
        "x": x - wide / 2, "y": y - HIGH / 2, "width": wide, "height": HIGH,
    }  # fmt: skip


async def template(book: Book, may_load: bool) -> dict[str, Any] | None:
    """`/api/runs/RUN/template`; None where the workflow is not declared here, and can't be loaded."""
    row = book.root.row
    try:
        if may_load:
            await asyncio.to_thread(declare, row)
        workflow = registry.get(row.workflow)
        return None if workflow is None else await asyncio.to_thread(_extracted, workflow)
    except WeftError:
        return None


_parsing = threading.Lock()
"""Python 3.11 counts how deep its parser is for all threads together, and fails where two of them parse at once."""


def _extracted(workflow: Workflow[..., Any]) -> dict[str, Any]:
    with _parsing:
        found = template_of(workflow)
    report = {
        "determined": found.determined, "plasticity": found.plasticity, "optional": len(found.optional),
        "effects": len(found.effects),
    }  # fmt: skip
    return {**told(found), "report": report, "folded": False}


# --- two runs -------------------------------------------------------------------------------------------------------


async def compare(store: Store, books: Books, request: Request) -> dict[str, Any]:
    """`/api/compare`."""
    one = await books.read((await find_run(store, needed(request, "a"))).id)
    other = await books.read((await find_run(store, needed(request, "b"))).id)
    found: Diff = await diff(store, one.id, other.id)
    rows = [_change(change, one, other) for change in found.changes[:CHANGES]]
    first = None
    if found.first is not None:
        first = {"a": rows[0]["a"], "b": rows[0]["b"], "why": _why(found.first)}
    return {
        "a": line(one.root.row, one.root.state, sums_of(one.root)),
        "b": line(other.root.row, other.root.state, sums_of(other.root)),
        "same": found.is_empty, "alike": found.same, "first": first, "rows": rows,
        "cut": len(found.changes) > CHANGES,
    }  # fmt: skip


def _change(change: Change, one: Book, other: Book) -> dict[str, Any]:
    a, b = _row(one, change.one), _row(other, change.other)
    kind = "only_b" if a is None else "only_a" if b is None else "changed"
    return {"kind": kind, "what": change.what, "why": _why(change), "a": a, "b": b}


def _row(book: Book, id: str | None) -> dict[str, Any] | None:
    place = book.place(id.removesuffix(":0")) if id is not None else None
    return None if place is None else span(place.leaf, place.node)


def _why(change: Change) -> str:
    """In words, what is different."""
    name = f"{change.kind} {change.name}".strip()
    if change.what == ("added",):
        return f"only the second run makes {name}"
    if change.what == ("removed",):
        return f"only the first run makes {name}"
    return f"{name}: another {' and '.join(change.what)}"

"""A run as a trace of Chrome's format, which Perfetto (ui.perfetto.dev) and speedscope show.

Each process is a process there; its effects lie inside it, in as many rows as ran at once. Spawning draws an arrow
from the effect that spawned to the child's first row. Times are microseconds since the first run was started.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from weft.core.traceparent import span_of
from weft.store.base import ProcessRow, Store
from weft.trace.export.files import written
from weft.trace.export.genai import family
from weft.trace.reading import Node, process_node, read_effects

_encode = msgspec.json.Encoder().encode


async def write(store: Store, runs: Sequence[str], path: Path | None) -> int:
    """Write these runs and their children; returns how many events. Raises BadInput."""
    count = number = 0
    origin = min([row.created for row in await store.rows(ids=runs, limit=len(runs))], default=0.0)
    with written(path) as out:
        out.write(b'{"displayTimeUnit":"ms","traceEvents":[')
        for run in runs:
            async for row in family(store, run):
                number += 1
                nodes = [node async for node in read_effects(store, row.id)]
                for event in _events(row, number, nodes, origin):
                    out.write((b",\n" if count else b"\n") + _encode(event))
                    count += 1
        out.write(b"\n]}\n")
    return count


def _events(row: ProcessRow, number: int, nodes: list[Node], origin: float) -> Iterator[dict[str, Any]]:
    whole = process_node(row)
    yield {"ph": "M", "pid": number, "name": "process_name", "args": {"name": f"{row.workflow} {row.id}"}}
    yield {"ph": "M", "pid": number, "name": "process_sort_index", "args": {"sort_index": number}}
    end = whole.ended if whole.ended is not None else max((n.ended or n.started for n in nodes), default=row.updated)
    yield _slice(whole, number, 0, end, origin)
    if row.parent is not None:
        yield _arrow("f", row.id, number, whole.started, origin)
    for lane, node in _lanes(nodes):
        yield _slice(node, number, lane, node.ended if node.ended is not None else end, origin)
        if node.kind == "spawn" and node.child:
            yield _arrow("s", node.child, number, node.started, origin, lane)


def _lanes(nodes: list[Node]) -> Iterator[tuple[int, Node]]:
    """Each effect with the first row that is free when it begins."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    rows = 0
    for node in sorted(nodes, key=lambda one: (one.started, one.effect)):
        while busy and busy[0][0] <= node.started:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane = rows
            rows += 1
        heapq.heappush(busy, (node.ended if node.ended is not None else float("inf"), lane))
        yield lane, node


def _slice(node: Node, number: int, lane: int, end: float, origin: float) -> dict[str, Any]:
    args: dict[str, Any] = {"run": node.run, "status": node.status}
    if node.effect:
        args |= {"effect": node.effect, "place": node.place}
    for name in ("model", "input_tokens", "output_tokens", "money", "error"):
        if value := getattr(node, name):
            args[name] = value
    if node.attempts > 1:
        args["attempts"] = node.attempts
    return {
        "ph": "X", "pid": number, "tid": lane, "name": node.name, "cat": node.kind, "ts": _us(node.started, origin),
        "dur": max(0, _us(end, origin) - _us(node.started, origin)), "args": args,
    }  # fmt: skip


def _arrow(phase: str, child: str, number: int, at: float, origin: float, lane: int = 0) -> dict[str, Any]:
    id = int(span_of(child)[:8], 16)
    return {
        "ph": phase, "bp": "e", "id": id, "pid": number, "tid": lane, "name": "spawn", "cat": "spawn",
        "ts": _us(at, origin),
    }  # fmt: skip


def _us(at: float, origin: float) -> int:
    return round((at - origin) * 1e6)  # whole ones, so that what follows in a row doesn't overlap by a rounding

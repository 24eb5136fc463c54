"""The spans of a run: rows by their place, children by page, and less detail where more does not fit on a screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from weft.core.errors import BadInput
from weft.web.page.answer import Refused, answer, flag, mark, marked, number, whole
from weft.web.page.book import Book, Place
from weft.web.page.leaf import WAITS, Leaf, span

WINDOW = 1_000
"""Rows in one answer."""
PARTS = 2_000
"""Buckets or bands in one answer."""


def page_of_rows(book: Book, request: Request) -> dict[str, Any]:
    """`…/rows`."""
    count = whole(request, "count", 200, 1, WINDOW)
    start = whole(request, "from", 0, 0, 1 << 53)
    found = None
    if at := request.query_params.get("at"):
        found = _place(book, at).at
        start = max(0, found - count // 3)
    fits = fitting(request)
    told: dict[str, Any] = {**read(book), "start": book.start(), "end": book.end()}
    if fits is None:
        rows = [book.told(place) for place in book.rows(start, count)]
        return {**told, "total": book.total, "found": found, "rows": rows}
    all_ = [place for place in book.rows() if fits(place)]
    rows = [book.told(place) for place in all_[start : start + count]]
    return {**told, "total": len(all_), "found": None, "rows": rows}


def read(book: Book) -> dict[str, Any]:
    """Which state of the tree an answer is of. `reading`: there is more, which is being read."""
    return {"revision": book.revision, "reading": book.reading}


def fitting(request: Request) -> Callable[[Place], bool] | None:
    """What `q`, `kind` and `status` let through; None: everything."""
    words = request.query_params.get("q", "").lower()
    kinds = set(request.query_params.getlist("kind"))
    statuses = set(request.query_params.getlist("status"))
    if not (words or kinds or statuses):
        return None

    def fits(place: Place) -> bool:
        if words and not _says(place, words):
            return False
        if not (kinds or statuses):
            return True
        one = span(place.leaf, place.node)
        return (not kinds or one["kind"] in kinds) and (not statuses or one["status"] in statuses)

    return fits


def _says(place: Place, words: str) -> bool:
    node, row = place.node, place.leaf.row
    if node is None:
        return words in row.workflow.lower() or words in row.id
    return words in node.name.lower() or words in node.error.lower() or words in node.model.lower() or words == node.id


def _place(book: Book, id: str) -> Place:
    place = book.place(id)
    if place is None:
        raise Refused(404, "unknown_effect", f"run {book.id} has no span {id[:80]!r}")
    return place


def find_row(book: Book, request: Request) -> dict[str, Any]:
    """`…/find`."""
    fits = fitting(request)
    if fits is None:
        raise BadInput("say what to find: q=…, kind=… or status=…")
    start = whole(request, "from", 0, 0, 1 << 53)
    if flag(request, "back"):
        found = None
        for place in book.rows(0, start):
            found = place if fits(place) else found
    else:
        found = next((place for place in book.rows(start) if fits(place)), None)
    if found is None:
        return {**read(book), "index": None, "id": None}
    return {**read(book), "index": found.at, "id": span(found.leaf, found.node)["id"]}


# --- children -------------------------------------------------------------------------------------------------------


def page_of_spans(book: Book, request: Request) -> Response:
    """`…/spans`."""
    parent = _place(book, request.query_params.get("parent", book.id))
    limit = whole(request, "limit", 500, 1, WINDOW)
    since, until = number(request, "since"), number(request, "until")
    items: list[dict[str, Any]] = []
    for place in _below(book, parent, marked(request, int) or 0):
        told = book.told(place)
        if (until is not None and told["start"] >= until) or (
            since is not None and told["end"] is not None and told["end"] < since
        ):
            continue
        if len(items) == limit:
            return answer({**read(book), "items": items, "next": mark(place.at)})
        items.append(told)
    return answer({**read(book), "items": items, "next": None})


def _below(book: Book, parent: Place, start: int) -> Iterator[Place]:
    """The rows directly below one, from index `start` on."""
    leaf = parent.leaf
    if parent.node is not None:
        for effect, child in leaf.children:
            if effect == parent.node.effect and (place := book.place(child.row.id)) and place.at >= start:
                yield place
        return
    at, before = parent.at + 1, 0
    for node in leaf.effects:
        while before < len(leaf.children) and leaf.children[before][0] < node.effect:
            at += leaf.children[before][1].size
            before += 1
        if at >= start:
            yield Place(at, parent.depth + 1, leaf, node)
        at += 1


# --- less detail ----------------------------------------------------------------------------------------------------


class Bucket(msgspec.Struct):
    spans: int = 0
    active: float = 0.0
    busy: float = 0.0
    failed: int = 0
    tokens: int = 0
    money: float = 0.0
    kinds: dict[str, int] = msgspec.field(default_factory=dict)


def buckets(book: Book, request: Request) -> dict[str, Any]:
    """`…/buckets`."""
    count = whole(request, "n", 200, 1, PARTS)
    since, until = number(request, "since"), number(request, "until")
    since = book.start() if since is None else since
    until = max(book.end() or book.latest(), since) if until is None else until
    if until < since:
        raise BadInput("until is before since")
    within = request.query_params.get("parent")
    leaves = list(book.leaves.values()) if within is None else list(_family(_place(book, within)))
    width = max((until - since) / count, 1e-9)
    told = {**read(book), "start": since, "end": until, "width": width}
    return {**told, "buckets": _counted(leaves, since, width, count, book.latest())}


def _family(place: Place) -> Iterator[Leaf]:
    """The processes at and below a row."""
    waiting = [place.leaf]
    if place.node is not None:
        waiting = [child for effect, child in place.leaf.children if effect == place.node.effect]
    while waiting:
        leaf = waiting.pop()
        yield leaf
        waiting += [child for _, child in leaf.children]


def _counted(leaves: list[Leaf], since: float, width: float, count: int, now: float) -> list[Bucket]:
    made = [Bucket() for _ in range(count)]
    whole_ones = [0] * (count + 1)
    """Of spans that fill buckets: +1 at the first, -1 after the last."""
    for leaf in leaves:
        for node in leaf.effects:
            begin = (node.started - since) / width
            end = ((node.ended if node.ended is not None else leaf.end or now) - since) / width
            if begin >= count or end < 0:
                continue
            first, last = max(0, int(begin)), min(count - 1, int(max(end, 0)))
            if begin >= 0:
                one = made[first]
                one.spans += 1
                one.kinds[node.kind] = one.kinds.get(node.kind, 0) + 1
            if node.ended is not None and end <= count:
                one = made[last]
                one.failed += node.status == "failed"
                one.tokens += node.input_tokens + node.output_tokens
                one.money += node.money
            if node.kind in WAITS:
                continue
            if first == last:
                made[first].busy += (min(end, count) - max(begin, 0)) * width
                continue
            made[first].busy += (first + 1 - max(begin, 0)) * width
            made[last].busy += (min(end, count) - last) * width
            whole_ones[first + 1] += 1
            whole_ones[last] -= 1
    for one, filled in zip(made, accumulate(whole_ones), strict=False):
        one.busy += filled * width
        one.active = one.busy / width
    return made


def bands(book: Book, request: Request) -> dict[str, Any]:
    """`…/bands`."""
    start = whole(request, "from", 0, 0, 1 << 53)
    rows = max(0, min(whole(request, "count", 1 << 53, 1, 1 << 53), book.total - start))
    parts = min(whole(request, "n", 200, 1, PARTS), rows)
    if not parts:
        return {**read(book), "total": book.total, "bands": []}
    made: list[dict[str, Any]] = [
        {"from": start + at * rows // parts, "to": start + (at + 1) * rows // parts, "start": None, "end": None}
        for at in range(parts)
    ]
    counts = [Counter[str]() for _ in made]
    now = book.latest()
    for place in book.rows(start, rows):
        at = ((place.at - start + 1) * parts - 1) // rows
        one, (begin, end, status) = made[at], _reach(place, now)
        one["start"] = begin if one["start"] is None else min(one["start"], begin)
        one["end"] = end if one["end"] is None else max(one["end"], end)
        counts[at][status] += 1
    told = [{**one, "failed": of["failed"], "running": of["running"]} for one, of in zip(made, counts, strict=True)]
    return {**read(book), "total": book.total, "bands": told}


def _reach(place: Place, now: float) -> tuple[float, float, str]:
    leaf, node = place.leaf, place.node
    if node is None:
        return leaf.row.started or leaf.row.created, leaf.end or now, "running" if not leaf.over else leaf.state
    end = node.ended if node.ended is not None else leaf.end or now
    return node.started, end, "running" if node.effect in leaf.flying and not leaf.over else node.status


VIEWS: dict[str, Callable[[Book, Request], Any]] = {
    "rows": page_of_rows, "spans": page_of_spans, "buckets": buckets, "bands": bands, "find": find_row,
}  # fmt: skip

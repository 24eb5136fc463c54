"""What was spent when: of one run with all below it, and of all runs of a store."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from weft.core.errors import BadInput
from weft.store.base import Store
from weft.web.page.answer import number, whole
from weft.web.page.book import Book
from weft.web.page.runs import summed
from weft.web.page.sums import Lines

LOOKED_AT = 2_000
"""Runs that are added up."""
DAY = 86400.0


def of_run(book: Book, request: Request) -> dict[str, Any]:
    """`/api/runs/RUN/costs`: sums up to each moment."""
    most = whole(request, "n", 100, 1, 2_000)
    spent = sorted(
        (node.ended, node.input_tokens, node.output_tokens, node.money)
        for leaf in book.leaves.values()
        for node in leaf.effects
        if node.ended is not None and (node.input_tokens or node.output_tokens or node.money)
    )
    points = [{"at": book.start(), "tokens_in": 0, "tokens_out": 0, "money": 0.0}]
    tokens_in = tokens_out = 0
    money = 0.0
    for at, (moment, into, out, paid) in enumerate(spent, 1):
        tokens_in, tokens_out, money = tokens_in + into, tokens_out + out, money + paid
        if at * most // len(spent) > (at - 1) * most // len(spent) or at == len(spent):
            points.append({"at": moment, "tokens_in": tokens_in, "tokens_out": tokens_out, "money": round(money, 9)})
    return {"points": points, "by": summed(book).models}


async def of_store(store: Store, sums: Lines, request: Request) -> dict[str, Any]:
    """`/api/costs`: what runs cost that began in each part of a time, children counted as runs of their own."""
    by = request.query_params.get("by", "workflow")
    if by not in ("workflow", "model"):
        raise BadInput(f"by={by[:40]!r} is neither workflow nor model")
    count = whole(request, "n", 60, 1, 1_000)
    until = number(request, "until")
    until = store.clock() if until is None else until
    since = number(request, "since")
    since = until - 7 * DAY if since is None else since
    if since >= until:
        raise BadInput("until is not after since")
    width = (until - since) / count
    buckets: list[dict[str, Any]] = [
        {"at": since + at * width, "runs": 0, "tokens_in": 0, "tokens_out": 0, "money": 0.0, "by": {}}
        for at in range(count)
    ]
    found = await store.listed(since=since, until=until, limit=LOOKED_AT)
    await sums.update([row for _, row in found])
    unknown = 0
    for _, row in found:
        read = sums.read(row)
        one = buckets[min(count - 1, int((row.created - since) / width))]
        one["runs"] += 1
        unknown += read is None
        if read is None:
            continue
        one["tokens_in"] += read.tokens_in
        one["tokens_out"] += read.tokens_out
        one["money"] += read.money
        names = {row.workflow: read.money} if by == "workflow" else {k: v["money"] for k, v in read.models.items()}
        for name, money in names.items():
            if money:
                one["by"][name] = one["by"].get(name, 0.0) + money
    partial = len(found) == LOOKED_AT or unknown > 0
    return {"start": since, "end": until, "width": width, "buckets": buckets, "partial": partial}

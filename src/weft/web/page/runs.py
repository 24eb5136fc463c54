"""The list of runs, with search and filters, and one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from weft.cli.look import states_of
from weft.core.codec import decode_plain
from weft.core.errors import BadInput
from weft.core.record import Blob, from_column
from weft.store.base import FINISHED, PAUSED, ProcessRow, Store
from weft.web.page.answer import flag, mark, marked, number, whole
from weft.web.page.body import column
from weft.web.page.book import Book
from weft.web.page.leaf import Leaf
from weft.web.page.sums import Lines, Sums

LOOKED_AT = 2_000
"""Runs that one search looks at."""
STATES = frozenset({"running", "waiting", "queued", PAUSED, "interrupted", *FINISHED, "arriving"})


# --- lines ----------------------------------------------------------------------------------------------------------


def line(row: ProcessRow, state: str, sums: dict[str, Any]) -> dict[str, Any]:
    """A run in a list."""
    over = row.state in FINISHED
    begin = row.started or row.created
    return {
        "id": row.id, "workflow": row.workflow, "state": state, "parent": row.parent, "forked": row.forked,
        "created": row.created, "started": row.started or None, "updated": row.updated,
        "ended": row.updated if over else None, "seconds": max(0.0, row.updated - begin) if over else None,
        "records": row.length, "queue": row.queue, "tenant": row.tenant, "error": error_of(row), **sums,
    }  # fmt: skip


def error_of(row: ProcessRow) -> dict[str, str] | None:
    """The type and the message of what ended it."""
    if row.error is None:
        return None
    value = from_column(row.error)
    found = None if isinstance(value, Blob) else decode_plain(value)
    if not isinstance(found, dict):
        return {"type": "Error", "message": "" if found is None else str(found)[:2000]}
    return {
        "type": str(found.get("type", "Error")).rpartition(".")[2],
        "message": str(found.get("message", ""))[:2000],
    }


async def lines(store: Store, sums: Lines, rows: Sequence[ProcessRow]) -> list[dict[str, Any]]:
    """These runs as a list has them."""
    await sums.update(rows)
    states = await states_of(store, rows)
    return [
        line(row, state, sums.of(row, row.state in FINISHED or state == "interrupted"))
        for row, state in zip(rows, states, strict=True)
    ]


async def list_runs(store: Store, sums: Lines, request: Request) -> dict[str, Any]:
    """`/api/runs`."""
    limit = whole(request, "limit", 50, 1, 200)
    after = marked(request, int)
    wanted = set(request.query_params.getlist("state"))
    if unknown := wanted - STATES:
        raise BadInput(f"there is no state {sorted(unknown)[0][:40]!r}; there are {', '.join(sorted(STATES))}")
    stored = [] if "interrupted" in wanted else sorted(wanted)  # interrupted ones are stored as something else
    since, until = number(request, "since"), number(request, "until")
    least, most = number(request, "cost_over"), number(request, "cost_under")
    found: list[dict[str, Any]] = []
    seen = 0
    while seen < LOOKED_AT:
        page = await store.listed(
            after=after, states=stored, roots=not flag(request, "children"),
            workflow=request.query_params.get("workflow"), since=since, until=until, limit=limit,
        )  # fmt: skip
        told = await lines(store, sums, [row for _, row in page])
        for (at, _), one in zip(page, told, strict=True):
            if len(found) == limit:
                return {"items": found, "next": mark(after), "partial": False}
            seen, after = seen + 1, at
            if (not wanted or one["state"] in wanted) and _fits(one, request, least, most):
                found.append(one)
        if len(page) < limit:
            return {"items": found, "next": None, "partial": False}
    return {"items": found, "next": mark(after), "partial": True}


def _fits(one: dict[str, Any], request: Request, least: float | None, most: float | None) -> bool:
    error = f"{one['error']['type']}: {one['error']['message']}".lower() if one["error"] else ""
    if (words := request.query_params.get("q", "").lower()) and not (
        words in one["id"] or words in one["workflow"].lower() or words in error
    ):
        return False
    if (part := request.query_params.get("error", "").lower()) and part not in error:
        return False
    money = one["money"]
    if least is None and most is None:
        return True
    return money is not None and (least is None or money >= least) and (most is None or money < most)


# --- one ------------------------------------------------------------------------------------------------------------


def sums_of(leaf: Leaf) -> dict[str, Any]:
    """Those of one process, as `Lines` gives them."""
    running = 0 if leaf.over else len(leaf.flying)
    return {**leaf.sums.plain(), "effects": len(leaf.effects), "running": running}


async def one_run(store: Store, book: Book) -> dict[str, Any]:
    """`/api/runs/RUN`."""
    leaf, row = book.root, book.root.row
    accounts = await store.accounts(row.id)
    budget = {}
    if accounts and accounts[0].process == row.id:
        own = accounts[0]
        budget = {kind: {"limit": limit, "spent": own.spent.get(kind, 0.0)} for kind, limit in own.limits.items()}
    error = await column(store, row.error, f"/api/runs/{row.id}/error")
    found = error["value"] if error else None
    return {
        **line(row, leaf.state, sums_of(leaf)),
        "source": row.source, "version": row.version, "key": row.key, "priority": row.priority, "owner": row.owner,
        "wake_at": row.wake_at, "strikes": row.strikes,
        "input": await column(store, row.input, f"/api/runs/{row.id}/input"),
        "result": await column(store, row.result, f"/api/runs/{row.id}/result"),
        "traceback": found.get("traceback") if isinstance(found, dict) else None,
        "children": len(leaf.children), "total": total(book), "budget": budget,
        "questions": len(await store.questions(process=row.id)), "models": summed(book).models,
    }  # fmt: skip


def summed(book: Book) -> Sums:
    """What the run and all below it add up to."""
    sums = Sums()
    for leaf in book.leaves.values():
        sums.join(leaf.sums)
    return sums


def total(book: Book) -> dict[str, Any]:
    leaves = book.leaves.values()
    return {
        **summed(book).plain(),
        "processes": len(leaves),
        "effects": sum(len(leaf.effects) for leaf in leaves),
        "running": sum(0 if leaf.over else len(leaf.flying) for leaf in leaves),
        "start": book.start(),
        "end": book.end(),
        "reading": book.reading,
    }


def tree(book: Book, most: int) -> dict[str, Any]:
    """`…/tree`: at most so many processes."""
    made: dict[str, dict[str, Any]] = {}
    for leaf in book.leaves.values():  # parents first
        if len(made) == most:
            break
        row, sums = leaf.row, sums_of(leaf)
        begin = row.started or row.created
        made[row.id] = {
            "id": row.id, "workflow": row.workflow, "state": leaf.state, "start": begin, "end": leaf.end,
            "seconds": (leaf.end or row.updated) - begin, "effects": sums["effects"], "failed": sums["failed"],
            "money": sums["money"], "effect": leaf.started_by or None, "children": [],
        }  # fmt: skip
        if leaf.parent in made:
            made[leaf.parent]["children"].append(made[row.id])
    return {**made[book.id], "cut": len(made) < len(book.leaves)}

"""One effect: what went in, what came out, what it took, and who allowed it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from weft.core.capability import Capability, render
from weft.core.image import decode_image
from weft.core.record import Approved, Attempt, Decision, Granted, Outcome, Probed, Started
from weft.runtime.inbox import opened
from weft.store.base import Store
from weft.trace.reading import Node, read_records
from weft.web.page.answer import Refused
from weft.web.page.body import body, in_full, plain_of, shortened
from weft.web.page.books import Books
from weft.web.page.leaf import Leaf, span
from weft.web.page.people import asked

GRANTS = 10_000
"""Records that are looked through for rights that people gave."""

PROBES, ROWS = 200, 50
"""Tables of probes that are told, and rows of each."""


async def locate(books: Books, id: str) -> tuple[Leaf, Node]:
    """The effect `RUN:NUMBER`. Raises Refused and UnknownRun."""
    run, _, number = id.partition(":")
    leaf = await books.leaf(run)
    node = leaf.effect(int(number)) if number.isdecimal() and len(number) < 16 else None
    if node is None:
        raise Refused(404, "unknown_effect", f"run {run} has no effect {number[:40]!r} that is known of yet")
    return leaf, node


async def whole_value(store: Store, books: Books, id: str, which: str) -> Response:
    """`…/input` and `…/output`."""
    leaf, node = await locate(books, id)
    record = await books.record(leaf, node.seq)
    if isinstance(record, Outcome | Started) and which == "input":
        return await in_full(store, record.args)
    if isinstance(record, Outcome) and which == "output":
        return await in_full(store, record.value)
    raise Refused(404, "unknown_effect", f"effect {id} has no {which} yet")


async def one_effect(store: Store, books: Books, leaf: Leaf, node: Node) -> dict[str, Any]:
    """`/api/effects/ID`."""
    id = node.id
    record = await books.record(leaf, node.seq)
    asides = [await books.record(leaf, number) for number in leaf.asides.get(node.effect, ())]
    done = record if isinstance(record, Outcome) else None
    args = record.args if isinstance(record, Outcome | Started) else None
    question = await store.question(node.id) if node.effect in leaf.flying else None
    told = {
        "span": span(leaf, node),
        "input": await body(store, args, f"/api/effects/{id}/input"),
        "output": await body(store, done.value, f"/api/effects/{id}/output") if done and done.ok else None,
        "error": await _error(store, done),
        "messages": None, "reply": None, "tools": None, "tokens": None, "cached": False,
        "money": node.money or None, "spent": node.spent, "queued": node.waited, "took": node.seconds,
        "attempts": [await _attempt(store, one) for one in asides if isinstance(one, Attempt)],
        "resources": None if node.usage is None else msgspec.structs.asdict(node.usage),
        "capabilities": await _capabilities(store, leaf, done.by) if done else [],
        "decisions": [_decision(one) for one in asides if isinstance(one, Decision)],
        "approvals": [
            {"verdict": one.verdict, "who": one.who, "at": one.at} for one in asides if isinstance(one, Approved)
        ],
        "probes": [await _probed(store, one) for one in [one for one in asides if isinstance(one, Probed)][:PROBES]],
        "impact": (done.impact if done else getattr(record, "impact", "")) or None,
        "label": str(done.label) if done and done.label is not None else None,
        "child": node.child or None, "question": asked(opened(question)) if question is not None else None,
        "forkable": True,
    }  # fmt: skip
    if node.kind == "generation":
        told.update(await _generation(store, args, done))
    return told


async def _error(store: Store, done: Outcome | None) -> dict[str, Any] | None:
    if done is None or done.ok:
        return None
    found = await plain_of(store, done.value)
    if not isinstance(found, dict):
        return {"type": "Error", "message": str(found), "traceback": None}
    return {name: shortened(found.get(name)) for name in ("type", "message", "traceback")}


async def _attempt(store: Store, one: Attempt) -> dict[str, Any]:
    found = await plain_of(store, one.error)
    error = {name: found.get(name) for name in ("type", "message")} if isinstance(found, dict) else found
    return {"number": one.attempt, "at": one.at, "error": shortened(error), "again": one.again}


async def _probed(store: Store, one: Probed) -> dict[str, Any]:
    """A table, its first rows."""
    told = {"probe": one.probe, "attempt": one.attempt, "columns": [], "rows": [], "of": "", "left_out": 0, "note": ""}
    table = await plain_of(store, one.value)
    if isinstance(table, dict):
        rows = table["rows"]
        told |= {**table, "rows": rows[:ROWS], "left_out": table["left_out"] + max(0, len(rows) - ROWS)}
    return told


def _decision(one: Decision) -> dict[str, Any]:
    return {"action": one.action, "resource": one.resource, "verdict": one.verdict, "by": one.by, "label": one.label}


async def _capabilities(store: Store, leaf: Leaf, numbers: tuple[int, ...]) -> list[dict[str, Any]]:
    """What allowed it, as it is written."""
    if numbers and max(numbers) >= len(leaf.rights):
        leaf.rights = await _rights(store, leaf)
    rights = leaf.rights
    return [{"number": one, "spec": rights[one] if one < len(rights) else None} for one in numbers]


async def _rights(store: Store, leaf: Leaf) -> list[str]:
    """The rights that a process began with, and those that people gave it since."""
    image = leaf.row.image
    held: list[Capability] = list(decode_image(await store.image(image)).capabilities) if image else []
    async for number, record in read_records(store, leaf.row.id):
        if type(record) is Granted:
            held.append(msgspec.msgpack.decode(record.spec, type=Capability))
        if number > GRANTS:
            break
    return [render(one, "/") for one in held]


# --- generations ----------------------------------------------------------------------------------------------------


async def _generation(store: Store, args: Any, done: Outcome | None) -> dict[str, Any]:
    """What a generation was asked, and what it answered; nothing for one whose arguments are of another form."""
    told: dict[str, Any] = {}
    request = _request(await plain_of(store, args)) if args is not None else None
    if request is not None:
        told["messages"] = [_message(one) for one in request.get("messages", ()) if isinstance(one, dict)]
        told["tools"] = [one.get("name") for one in request.get("tools", ()) if isinstance(one, dict)] or None
    reply = await plain_of(store, done.value) if done is not None and done.ok else None
    if isinstance(reply, dict) and isinstance(reply.get("message"), dict):
        usage = reply.get("usage")
        told["reply"] = {
            "model": reply.get("model"), "finish": reply.get("finish"), "parts": _message(reply["message"])["parts"],
        }  # fmt: skip
        told["tokens"] = usage if isinstance(usage, dict) else None
        told["cached"] = bool(reply.get("cached"))
    return told


def _request(plain: Any) -> dict[str, Any] | None:
    """The request among the arguments of a generation."""
    args = plain.get("*", ()) if isinstance(plain, dict) else plain
    found = [one for one in args if isinstance(one, dict) and "messages" in one] if isinstance(args, list) else []
    return found[0] if found else None


def _message(one: dict[str, Any]) -> dict[str, Any]:
    parts = one.get("parts")
    return {
        "role": one.get("role"),
        "name": one.get("name"),
        "parts": [_part(part) for part in shortened(parts)] if isinstance(parts, list) else [],
    }


TYPES = {
    "arguments": "tool_call", "response": "tool_call_response", "citations": "text", "uri": "uri", "file_id": "file",
    "modality": "blob", "hidden": "reasoning", "dialect": "opaque", "content": "text",
}  # fmt: skip
"""A field that a part has, and its type; the first that fits counts."""


def _part(part: Any) -> Any:
    """With its type, which the journal keeps as the name of its class."""
    if not isinstance(part, dict) or "type" in part:
        return part
    return {"type": next((kind for field, kind in TYPES.items() if field in part), "other"), **part}

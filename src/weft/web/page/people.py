"""What runs ask of people."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from weft.runtime.inbox import VERDICTS, OpenQuestion, questions
from weft.store.base import Store

FIELDS = (
    "id", "run", "workflow", "queue", "kind", "text", "asked", "expires", "place", "schema", "takes", "arguments",
    "label", "rejected",
)  # fmt: skip


def asked(one: OpenQuestion) -> dict[str, Any]:
    """A question, as clients have it."""
    told = {name: getattr(one, name) for name in FIELDS}
    for name in ("requests", "sinks"):
        told[name] = [{"action": action, "resource": resource} for action, resource in getattr(one, name)]
    return {**told, "verdicts": VERDICTS.get(one.kind)}


async def inbox(store: Store, request: Request) -> dict[str, Any]:
    """`/api/inbox`: the oldest first."""
    found = await questions(store, request.query_params.get("queue") or None)
    return {"items": [asked(one) for one in found]}

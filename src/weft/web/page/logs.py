"""A journal as lines that a person reads: one for each record."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from weft.core.codec import decode_plain
from weft.core.record import (
    AnyRecord,
    Approved,
    Attempt,
    Blob,
    Cancel,
    Decision,
    End,
    Fork,
    Granted,
    Outcome,
    Patch,
    Released,
    Reserved,
    Started,
    Value,
)
from weft.store.base import Store
from weft.trace.reading import error_text, read_records
from weft.web.page.answer import flag, mark, marked, whole
from weft.web.page.book import Book

WIDTH = 300
"""Characters of a value in a line."""


async def list_logs(store: Store, book: Book, request: Request) -> dict[str, Any]:
    """`/api/runs/RUN/logs`."""
    limit = whole(request, "limit", 500, 1, 2_000)
    leaf = book.root
    first = max(0, leaf.read - limit) if flag(request, "tail") else marked(request, int) or 0
    items: list[dict[str, Any]] = []
    async for number, record in read_records(store, leaf.row.id, first):
        if len(items) == limit:
            return {"items": items, "next": mark(number)}
        items.append(
            {
                "seq": number, "at": record.at, "run": leaf.row.id, "effect": getattr(record, "effect", None),
                "level": _level(record), "what": type(record).__name__.lower(), "text": text_of(record),
            }
        )  # fmt: skip
    return {"items": items, "next": None}


def _level(record: AnyRecord) -> str:
    match record:
        case Outcome(ok=False) | End(state="failed" | "killed"):
            return "error"
        case Attempt() | Cancel() | Decision(verdict="deny") | Approved(verdict="never"):
            return "warning"
    return "info"


def text_of(record: AnyRecord) -> str:
    """What a record says, in one line."""
    match record:
        case Outcome():
            name = record.name if record.kind == "step" else f"{record.kind} {record.name}".strip()
            return f"{name} → {_short(record.value)}" if record.ok else f"{name} failed: {_error(record.value)}"
        case Started():
            return f"{record.name or record.kind} began"
        case Attempt():
            return f"{record.name}: attempt {record.attempt} failed: {_error(record.error)}"
        case Decision():
            return f"{record.verdict}: {record.action} {record.resource}"
        case Approved():
            return f"{record.who or 'somebody'} said {record.verdict}"
        case Granted():
            return "a person gave it one more right"
        case Released():
            return f"{record.who or 'somebody'} let one value go to {record.action} {record.resource}"
        case Reserved():
            return "uses of limited rights were set apart"
        case Cancel():
            return "cancellation reached the body"
        case Patch():
            return f"the body took the new side of patched({record.id!r})"
        case Fork():
            return f"what comes before is of run {record.origin}"
        case End():
            failed = record.state == "failed"
            return f"end: {record.state}{': ' + _error(record.value) if failed else ''}"


def _short(value: Value) -> str:
    if isinstance(value, Blob):
        return f"({value.size:,} bytes)"
    text = json.dumps(decode_plain(value), ensure_ascii=False)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _error(value: Value) -> str:
    return f"({value.size:,} bytes)" if isinstance(value, Blob) else error_text(value)[:WIDTH]

"""A journal as lines that a person reads: one for each record."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from weft.cli.logs import words
from weft.core.record import AnyRecord, Approved, Attempt, Blob, Cancel, Decision, End, Outcome, Value
from weft.store.base import Store
from weft.trace.reading import error_text, read_records
from weft.web.page.answer import flag, mark, marked, whole
from weft.web.page.book import Book

WIDTH = 300
"""Characters of an error in a line."""


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
    """What a record says, in one line: what went wrong by its message, all else as `weft logs` has it."""
    match record:
        case Outcome(ok=False):
            return f"✗ #{record.effect} {record.name or record.kind} failed: {_error(record.value)}"
        case Attempt():
            return f"! #{record.effect} {record.name}: attempt {record.attempt} failed: {_error(record.error)}"
        case End(state="failed"):
            return f"· end: failed: {_error(record.value)}"
    return words(record)


def _error(value: Value) -> str:
    return f"({value.size:,} bytes)" if isinstance(value, Blob) else error_text(value)[:WIDTH]

"""Spans from files: OTLP's JSON, lines of it, and the JSON that OpenTelemetry's SDKs print.

Read are: the OTLP/JSON encoding of traces (`{"resourceSpans": [...]}`, one or one a line, as the collector's file
exporter writes), single spans in that encoding, and spans as `ReadableSpan.to_json()` of the Python SDK and its
console exporter write them; values follow one another or stand in lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OTLP = "resourceSpans"


class Event(msgspec.Struct, frozen=True):
    name: str
    at: int
    attributes: dict[str, Any]


class Span(msgspec.Struct, frozen=True):
    """One span. Times are nanoseconds since 1970; `parent` is a span's id or None; `failed`: its status is an error,
    and `why` what it says of that; `kind`: OTLP's number (1 internal, 2 server, 3 client)."""

    trace: str
    id: str
    parent: str | None
    name: str
    start: int
    end: int
    attributes: dict[str, Any]
    events: tuple[Event, ...] = ()
    failed: bool = False
    why: str = ""
    kind: int = 1


def is_spans(value: Any) -> bool:
    """Whether a JSON value looks like spans, in any of the forms above."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and not {OTLP, "spanId", "context"}.isdisjoint(first)


def json_values(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file, one after the other, each with its line. Raises BadInput with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} can't be read: {error}") from None
    decoder, at, line, counted = json.JSONDecoder(), 0, 1, 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise BadInput(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
        yield line, value


def read_spans(path: str | Path) -> list[Span]:
    """All spans of a file, by start. Raises BadInput with file and line."""
    spans: list[Span] = []
    for line, value in json_values(Path(path)):
        for one in value if isinstance(value, list) else [value]:
            try:
                spans += _spans(one)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
                raise BadInput(f"{path}:{line}: not a span of OpenTelemetry: {what}") from None
    return sorted(spans, key=lambda span: (span.start, span.end))


def _spans(value: Mapping[str, Any]) -> Iterator[Span]:
    if OTLP in value:
        for resource in value[OTLP]:
            for scope in resource.get("scopeSpans", ()):
                yield from map(_otlp, scope.get("spans", ()))
    elif "context" in value:
        yield _printed(value)
    else:
        yield _otlp(value)


def _otlp(span: Mapping[str, Any]) -> Span:
    events = tuple(
        Event(event.get("name", ""), int(event["timeUnixNano"]), _attributes(event)) for event in span.get("events", ())
    )
    return Span(
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId") or None,
        span.get("name", ""),
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        _attributes(span),
        events,
        span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR"),
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    found = holder.get("attributes") or {}
    return dict(found) if isinstance(found, Mapping) else {one["key"]: _value(one["value"]) for one in found}


def _value(value: Mapping[str, Any]) -> Any:
    """OTLP's AnyValue in plain Python."""
    match value:
        case {"intValue": number}:
            return int(number)
        case {"arrayValue": {"values": values}}:
            return [_value(one) for one in values]
        case {"kvlistValue": {"values": pairs}}:
            return {pair["key"]: _value(pair["value"]) for pair in pairs}
        case {"arrayValue": _}:
            return []
        case {"kvlistValue": _}:
            return {}
    return next(iter(value.values()), None)


def _printed(span: Mapping[str, Any]) -> Span:
    context, status = span["context"], span.get("status") or {}
    events = tuple(
        Event(event.get("name", ""), _moment(event["timestamp"]), _attributes(event))
        for event in span.get("events") or ()
    )
    return Span(
        context["trace_id"],
        context["span_id"],
        span.get("parent_id") or None,
        span.get("name", ""),
        _moment(span["start_time"]),
        _moment(span["end_time"]),
        _attributes(span),
        events,
        status.get("status_code") == "ERROR",
    )


def _moment(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) * 1000

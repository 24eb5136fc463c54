"""Spans from files: OTLP's JSON and protobuf, the JSON that OpenTelemetry's SDKs print, and other frameworks' own.

Read are: the OTLP/JSON encoding of traces (`{"resourceSpans": [...]}`, one or one a line, as the collector's file
exporter writes), single spans in that encoding, spans as `ReadableSpan.to_json()` of the Python SDK and its console
exporter write them, and the forms of `weft.trace.foreign`; values follow one another or stand in lists. A file whose
name ends in `.pb` is OTLP in protobuf.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput, MissingExtra
from weft.trace.foreign import foreign, is_foreign

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
    return isinstance(first, dict) and (not {OTLP, "spanId", "context"}.isdisjoint(first) or is_foreign(first))


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
    if Path(path).suffix == ".pb":
        return sorted(_binary(Path(path)), key=lambda span: (span.start, span.end))
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
    elif is_foreign(value):
        if (found := foreign(value)) is not None:
            yield Span(*found[:7], failed=found.failed, why=found.why)
    elif "context" in value:
        yield _printed(value)
    else:
        yield _otlp(value)


def _binary(path: Path) -> Iterator[Span]:
    """The spans of a protobuf file. Raises BadInput, MissingExtra."""
    try:
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
    except ImportError as error:
        raise MissingExtra("OTLP as protobuf needs the extra `otel`: pip install 'weft[otel]'") from error
    message = TracesData()
    try:
        message.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise BadInput(f"{path} can't be read as OTLP in protobuf: {error}") from None
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                plain = MessageToDict(span)  # its bytes are in base64, where OTLP's JSON has hexadecimal digits
                plain |= {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
                plain |= {"parentSpanId": span.parent_span_id.hex()}
                plain |= {"startTimeUnixNano": span.start_time_unix_nano, "endTimeUnixNano": span.end_time_unix_nano}
                yield _otlp(plain)


def _otlp(span: Mapping[str, Any]) -> Span:
    events = tuple(
        Event(event.get("name", ""), int(event["timeUnixNano"]), attributes(event)) for event in span.get("events", ())
    )
    return Span(
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId") or None,
        span.get("name", ""),
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        attributes(span),
        events,
        span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR"),
        str(span.get("status", {}).get("message") or ""),
    )


def attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    """What a resource, span or data point of OTLP says of itself, in plain Python."""
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
        Event(event.get("name", ""), _moment(event["timestamp"]), attributes(event))
        for event in span.get("events") or ()
    )
    return Span(
        context["trace_id"],
        context["span_id"],
        span.get("parent_id") or None,
        span.get("name", ""),
        _moment(span["start_time"]),
        _moment(span["end_time"]),
        attributes(span),
        events,
        status.get("status_code") == "ERROR",
        str(status.get("description") or ""),
    )


def _moment(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) * 1000

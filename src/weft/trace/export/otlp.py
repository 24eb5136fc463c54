"""Spans in OTLP: as its JSON, as protobuf, in files, and sent to a collector over HTTP.

A file gets lines of JSON, one request a line, as the collector's file exporter writes it; one whose name ends in `.pb`
gets one protobuf message. Sent is protobuf where the package `opentelemetry-proto` is there (extra `otel`), else JSON;
every collector takes both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import MissingExtra
from weft.trace.conventions import SCHEMA
from weft.trace.export.files import written
from weft.trace.spans import Span

BATCH = 1000
"""Spans of a request."""
OK, ERROR = 1, 2


async def batches(spans: AsyncIterator[Span], size: int = BATCH) -> AsyncIterator[list[Span]]:
    batch: list[Span] = []
    async for span in spans:
        batch.append(span)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def resource() -> dict[str, Any]:
    from weft import __version__

    return {"service.name": "weft", "telemetry.sdk.name": "weft", "telemetry.sdk.version": __version__}


# --- JSON ---------------------------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


def as_json(spans: Iterable[Span]) -> bytes:
    """One `ExportTraceServiceRequest` as JSON."""
    scope = {"name": "weft", "version": resource()["telemetry.sdk.version"]}
    each = {"scope": scope, "spans": [_plain(span) for span in spans], "schemaUrl": SCHEMA}
    attributes = pairs(resource())
    return _encode(
        {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [each], "schemaUrl": SCHEMA}]}
    )


def _plain(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": pairs(span.attributes),
        "status": {"code": ERROR, "message": span.why} if span.failed else {},
        "flags": 1,
    }
    if span.parent:
        found["parentSpanId"] = span.parent
    return found


def pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    """AnyValue in JSON; whole numbers are texts there."""
    kind = type(value)
    if kind is str:
        return {"stringValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int:
        return {"intValue": str(value)}
    if kind is float:
        return {"doubleValue": value}
    if kind is list or kind is tuple:
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    if kind is dict:
        return {"kvlistValue": {"values": pairs(value)}}
    return {"stringValue": str(value)}


# --- protobuf -----------------------------------------------------------------------------------------------------


def as_protobuf(spans: Iterable[Span]) -> bytes:
    """The same as protobuf. Raises MissingExtra."""
    messages = _messages()
    request = messages["trace"].TracesData()
    of = request.resource_spans.add(schema_url=SCHEMA)
    _put(of.resource.attributes, resource())
    scope = of.scope_spans.add(schema_url=SCHEMA)
    scope.scope.name, scope.scope.version = "weft", resource()["telemetry.sdk.version"]
    for span in spans:
        one = scope.spans.add(
            trace_id=bytes.fromhex(span.trace),
            span_id=bytes.fromhex(span.id),
            parent_span_id=bytes.fromhex(span.parent or ""),
            name=span.name,
            kind=span.kind,
            start_time_unix_nano=span.start,
            end_time_unix_nano=span.end,
            flags=1,
        )
        _put(one.attributes, span.attributes)
        if span.failed:
            one.status.code, one.status.message = ERROR, span.why
    data: bytes = request.SerializeToString()  # TracesData and ExportTraceServiceRequest are the same on the wire
    return data


def protobuf_there() -> bool:
    """Whether protobuf can be written here."""
    try:
        _messages()
    except MissingExtra:
        return False
    return True


def _messages() -> dict[str, Any]:
    try:
        from opentelemetry.proto.common.v1 import common_pb2
        from opentelemetry.proto.trace.v1 import trace_pb2
    except ImportError as error:
        raise MissingExtra("OTLP as protobuf needs the extra `otel`: pip install 'weft[otel]'") from error
    return {"trace": trace_pb2, "common": common_pb2}


def _put(target: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        _fill(target.add(key=key).value, value)


def _fill(target: Any, value: Any) -> None:
    kind = type(value)
    if kind is str:
        target.string_value = value
    elif kind is bool:
        target.bool_value = value
    elif kind is int:
        target.int_value = value
    elif kind is float:
        target.double_value = value
    elif kind is list or kind is tuple:
        target.array_value.SetInParent()
        for one in value:
            _fill(target.array_value.values.add(), one)
    elif kind is dict:
        target.kvlist_value.SetInParent()
        _put(target.kvlist_value.values, value)
    else:
        target.string_value = str(value)


# --- files --------------------------------------------------------------------------------------------------------


async def write(spans: AsyncIterator[Span], path: Path | None) -> int:
    """Write spans into a file, or on stdout; returns how many. Raises BadInput if it can't be written, MissingExtra."""
    count = 0
    binary = path is not None and path.suffix == ".pb"
    with written(path) as out:
        async for batch in batches(spans):
            out.write(as_protobuf(batch) if binary else as_json(batch) + b"\n")
            count += len(batch)
    return count

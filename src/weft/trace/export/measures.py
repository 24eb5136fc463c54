"""Metrics of the conventions, counted from spans that are sent: seconds of operations and to first chunks, tokens.

They are sent with the spans that they are counted from, as deltas, so nothing is kept between two exports. Histograms
of seconds have the bounds that the conventions advise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from weft.trace.conventions import AGENT_NAME, FIRST_CHUNK, OPERATION, SCHEMA, TOOL_NAME
from weft.trace.export.otlp import pairs, resource
from weft.trace.spans import Span

DURATIONS = {
    "chat": "gen_ai.client.inference.duration", "text_completion": "gen_ai.client.inference.duration",
    "embeddings": "gen_ai.client.inference.duration", "execute_tool": "gen_ai.execute_tool.duration",
    "invoke_agent": "gen_ai.invoke_agent.duration", "invoke_workflow": "gen_ai.invoke_workflow.duration",
}  # fmt: skip
TOKENS = {
    "gen_ai.usage.input_tokens": "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.usage.output_tokens": "gen_ai.client.inference.usage.output_tokens",
}
FIRST = "gen_ai.client.inference.time_to_first_chunk"
BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
BY = (
    OPERATION, AGENT_NAME, "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model", TOOL_NAME,
    "gen_ai.workflow.name", "error.type",
)  # fmt: skip
"""Attributes that tell series apart; all have few values."""
DELTA = 1

Key = tuple[tuple[str, Any], ...]


def as_json(spans: Sequence[Span]) -> bytes | None:
    """One `ExportMetricsServiceRequest` as JSON; None if there is nothing to count."""
    seconds: dict[str, dict[Key, list[float]]] = {}
    tokens: dict[str, dict[Key, int]] = {}
    for span in spans:
        operation = span.attributes.get(OPERATION)
        if operation not in DURATIONS:
            continue
        key = tuple((name, span.attributes[name]) for name in BY if name in span.attributes)
        seconds.setdefault(DURATIONS[operation], {}).setdefault(key, []).append((span.end - span.start) / 1e9)
        if (first := span.attributes.get(FIRST_CHUNK)) is not None:
            seconds.setdefault(FIRST, {}).setdefault(key, []).append(first)
        if DURATIONS[operation] == DURATIONS["chat"]:
            for attribute, name in TOKENS.items():
                of = tokens.setdefault(name, {})
                of[key] = of.get(key, 0) + span.attributes.get(attribute, 0)
    if not seconds:
        return None
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    during = {"startTimeUnixNano": str(start), "timeUnixNano": str(end)}
    metrics = [_durations(name, of, during) for name, of in seconds.items()]
    metrics += [_counts(name, of, during) for name, of in tokens.items()]
    scope = {"scope": {"name": "weft"}, "metrics": metrics, "schemaUrl": SCHEMA}
    return msgspec.json.encode(
        {"resourceMetrics": [{"resource": {"attributes": pairs(resource())}, "scopeMetrics": [scope]}]}
    )


def _durations(name: str, of: Mapping[Key, Sequence[float]], during: Mapping[str, str]) -> dict[str, Any]:
    points = [
        {
            "attributes": pairs(dict(key)), **during, "count": str(len(values)), "sum": sum(values),
            "bucketCounts": _buckets(values), "explicitBounds": list(BOUNDS), "min": min(values), "max": max(values),
        }
        for key, values in of.items()
    ]  # fmt: skip
    return {"name": name, "unit": "s", "histogram": {"aggregationTemporality": DELTA, "dataPoints": points}}


def _buckets(values: Iterable[float]) -> list[str]:
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[bisect_left(BOUNDS, value)] += 1
    return [str(count) for count in counts]


def _counts(name: str, of: Mapping[Key, int], during: Mapping[str, str]) -> dict[str, Any]:
    points = [{"attributes": pairs(dict(key)), **during, "asInt": str(value)} for key, value in of.items()]
    sum_ = {"aggregationTemporality": DELTA, "isMonotonic": True, "dataPoints": points}
    return {"name": name, "unit": "{token}", "sum": sum_}

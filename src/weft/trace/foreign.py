"""Spans of frameworks that write neither OTLP nor what OpenTelemetry's SDKs print, read as if they did.

- *OpenAI Agents SDK*: what its exporter is given, `{"object": "trace.span", "span_data": {"type": "function", ...}}`.
- *LangSmith*: runs as they are exported, `{"run_type": "llm", "inputs": ..., "outputs": ...}`.
- *Langfuse*: observations as they are exported, `{"traceId": ..., "type": "GENERATION", "input": ...}`.

What they say is put into the attributes of OpenTelemetry's conventions for generative AI, so that everything that reads
spans reads these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

AGENTS_SDK = {
    "agent": "invoke_agent", "function": "execute_tool", "mcp_tools": "", "generation": "chat", "response": "chat",
}  # fmt: skip
LANGSMITH = {"llm": "chat", "tool": "execute_tool", "retriever": "retrieval", "embedding": "embeddings"}
LANGFUSE = {
    "GENERATION": "chat", "TOOL": "execute_tool", "AGENT": "invoke_agent", "RETRIEVER": "retrieval",
    "EMBEDDING": "embeddings",
}  # fmt: skip


class Foreign(NamedTuple):
    """A span in plain values; times are nanoseconds since 1970."""

    trace: str
    id: str
    parent: str | None
    name: str
    start: int
    end: int
    attributes: dict[str, Any]
    failed: bool
    why: str


def is_foreign(value: Any) -> bool:
    """Whether a JSON value is a span in one of the forms above."""
    return isinstance(value, Mapping) and (
        value.get("object") in ("trace", "trace.span")
        or "run_type" in value
        or ("traceId" in value and {"startTime", "start_time"} & value.keys() != set())
    )


def foreign(value: Mapping[str, Any]) -> Foreign | None:
    """The span; None for what is none (the Agents SDK's traces, which only name the workflow). Raises KeyError,
    ValueError and TypeError."""
    if value.get("object") == "trace":
        return None
    if value.get("object") == "trace.span":
        return _agents_sdk(value)
    return _langsmith(value) if "run_type" in value else _langfuse(value)


def _agents_sdk(value: Mapping[str, Any]) -> Foreign:
    data, error = value["span_data"], value.get("error")
    kind = str(data.get("type", ""))
    name = str(data.get("name") or data.get("model") or kind)
    usage = data.get("usage") or {}
    return Foreign(
        value["trace_id"],
        value["id"],
        value.get("parent_id") or None,
        name,
        moment(value["started_at"]),
        moment(value.get("ended_at") or value["started_at"]),
        said(
            AGENTS_SDK.get(kind, ""), name, data.get("input"), data.get("output", data.get("data")), data.get("model"),
            usage.get("input_tokens"), usage.get("output_tokens"),
        ),
        bool(error),
        str((error or {}).get("message") or ""),
    )  # fmt: skip


def _langsmith(value: Mapping[str, Any]) -> Foreign:
    outputs, error = value.get("outputs") or {}, value.get("error")
    told = (value.get("extra") or {}).get("metadata") or {}
    usage = outputs.get("usage_metadata") or value.get("usage_metadata") or {}
    name, kind = str(value.get("name", "")), str(value["run_type"])
    return Foreign(
        str(value.get("trace_id") or value.get("session_id") or value["id"]),
        str(value["id"]),
        str(value["parent_run_id"]) if value.get("parent_run_id") else None,
        name,
        moment(value["start_time"]),
        moment(value.get("end_time") or value["start_time"]),
        said(
            LANGSMITH.get(kind, ""), name, value.get("inputs"), outputs,
            told.get("ls_model_name"), value.get("prompt_tokens") or usage.get("input_tokens"),
            value.get("completion_tokens") or usage.get("output_tokens"),
        ),
        bool(error),
        str(error or ""),
    )  # fmt: skip


def _langfuse(value: Mapping[str, Any]) -> Foreign:
    usage = value.get("usageDetails") or value.get("usage") or {}
    name, start = str(value.get("name") or ""), value.get("startTime") or value["start_time"]
    return Foreign(
        str(value["traceId"]),
        str(value["id"]),
        value.get("parentObservationId") or None,
        name,
        moment(start),
        moment(value.get("endTime") or value.get("end_time") or start),
        said(
            LANGFUSE.get(str(value.get("type", "")), ""), name, value.get("input"), value.get("output"),
            value.get("model"), usage.get("input"), usage.get("output"),
        ),
        value.get("level") == "ERROR",
        str(value.get("statusMessage") or ""),
    )  # fmt: skip


def said(
    operation: str, name: str, given: Any, came: Any, model: Any, input_tokens: Any, output_tokens: Any
) -> dict[str, Any]:
    """The attributes that say this."""
    pairs = {
        "gen_ai.operation.name": operation,
        {"execute_tool": "gen_ai.tool.name", "invoke_agent": "gen_ai.agent.name"}.get(operation, ""): name,
        "input.value": _text(given),
        "output.value": _text(came),
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
    }
    return {key: value for key, value in pairs.items() if key and value not in (None, "")}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def moment(value: Any) -> int:
    """Nanoseconds since 1970: of a text in ISO 8601 (UTC if it names no zone), or of milliseconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * 1_000_000)
    found = datetime.fromisoformat(str(value))
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000

"""What one span says about agents, tools and memory, by the conventions that are in use.

Those of OpenTelemetry for generative AI (schema below; all still in development), and, for who emits nothing else, the
kinds of OpenInference and of OpenLLMetry. OpenTelemetry has words for records of a memory, but none for values that a
program shares in other ways; for these Weft reads attributes of its own, on any span:

- `weft.read.<cell>` = value: the span read that at its start. `weft.write.<cell>` = value: it wrote that at its end.
- events `weft.read` and `weft.write` with `weft.cell` and `weft.value`: the same, at the event's time.
- `weft.operation` = id: the span is one operation, from its start to its commit; `weft.level`, `weft.predecessors`
  (ids), `weft.retracted`, `weft.planned` (names), `weft.tools` and `weft.tools_at_end` (JSON objects, name to
  signature) say the rest of it. A span that both reads and writes is an operation without being told.
- `weft.tool.signature`, `weft.tool.effect` (`ordered`, `commutes`, `none`) of a tool call; `weft.tools` of a
generation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from weft.trace.spans import Span

SCHEMA = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
OPERATION = "gen_ai.operation.name"
AGENT_ID, AGENT_NAME = "gen_ai.agent.id", "gen_ai.agent.name"
TOOL_NAME, CALL_ID, DEFINITIONS = "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.definitions"
OUTPUT = "gen_ai.output.messages"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
STORE_ID, RECORD_ID, RECORDS = "gen_ai.memory.store.id", "gen_ai.memory.record.id", "gen_ai.memory.records"

GENERATIONS = {"chat", "generate_content", "text_completion"}
MEMORY_READS = {"search_memory"}
MEMORY_WRITES = {"create_memory", "update_memory", "upsert_memory", "delete_memory"}
DELETED = "(deleted)"
LONGEST = 200
"""Values of more characters are kept as digests."""

KINDS_OF_OPENINFERENCE = {
    "AGENT": "invoke_agent", "LLM": "chat", "TOOL": "execute_tool", "EMBEDDING": "embeddings", "RETRIEVER": "retrieval",
}  # fmt: skip
KINDS_OF_OPENLLMETRY = {"agent": "invoke_agent", "tool": "execute_tool", "workflow": "invoke_workflow"}
_CALL_OF_OPENINFERENCE = re.compile(
    r"llm\.output_messages\.(\d+)\.message\.tool_calls\.(\d+)\.tool_call\.(id|function\.name)"
)


class Access(NamedTuple):
    """One read or write of a cell at a moment (nanoseconds); `value` None: not told."""

    kind: Literal["read", "write"]
    cell: str
    value: str | None
    at: int


class Asked(NamedTuple):
    """A tool call in an assistant's message."""

    id: str
    name: str


def operation(span: Span) -> str:
    """What kind of operation a span is, in OpenTelemetry's words; "" if it does not say."""
    found = span.attributes
    inferred = KINDS_OF_OPENINFERENCE.get(found.get("openinference.span.kind", ""), "")
    return str(found.get(OPERATION) or inferred or KINDS_OF_OPENLLMETRY.get(found.get("traceloop.span.kind", ""), ""))


def is_agent(span: Span) -> bool:
    return operation(span) == "invoke_agent"


def is_generation(span: Span) -> bool:
    return operation(span) in GENERATIONS


def is_call(span: Span) -> bool:
    return operation(span) == "execute_tool"


def agent(span: Span) -> str | None:
    found = span.attributes
    name = found.get(AGENT_ID) or found.get(AGENT_NAME) or found.get("agent.name")
    if not name and found.get("traceloop.span.kind") == "agent":
        name = found.get("traceloop.entity.name")
    return str(name) if name else None


def tool(span: Span) -> str:
    found = span.attributes
    name = found.get(TOOL_NAME) or found.get("tool.name") or found.get("traceloop.entity.name")
    return str(name or span.name.removeprefix("execute_tool "))


def call_id(span: Span) -> str:
    return str(span.attributes.get(CALL_ID) or span.attributes.get("tool_call.id") or "")


def failed(span: Span) -> bool:
    return span.failed or "error.type" in span.attributes


def parsed(value: Any) -> Any:
    """An attribute that is structured, or the JSON of that; None if it is neither."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def asked(span: Span) -> list[Asked]:
    """The tool calls in the message that a generation gave, in their order."""
    messages = parsed(span.attributes.get(OUTPUT))
    if isinstance(messages, list):
        parts = [
            part
            for message in messages
            if isinstance(message, Mapping)
            for part in message.get("parts", ())
            if isinstance(part, Mapping) and part.get("type") == "tool_call"
        ]
        return [Asked(str(part.get("id") or ""), str(part.get("name") or "")) for part in parts]
    found: dict[tuple[int, int], dict[str, str]] = {}
    for key, value in span.attributes.items():
        if (match := _CALL_OF_OPENINFERENCE.fullmatch(key)) is not None:
            found.setdefault((int(match[1]), int(match[2])), {})[match[3]] = str(value)
    return [Asked(call.get("id", ""), call.get("function.name", "")) for _, call in sorted(found.items())]


def tools(span: Span) -> dict[str, str]:
    """The registry that a span saw: `weft.tools`, else digests of the definitions that a model was given."""
    if "weft.tools" in span.attributes:
        return signatures(span.attributes["weft.tools"])
    definitions = parsed(span.attributes.get(DEFINITIONS))
    if not isinstance(definitions, list):
        return {}
    return {str(one["name"]): digest(one) for one in definitions if isinstance(one, Mapping) and "name" in one}


def signatures(value: Any) -> dict[str, str]:
    found = parsed(value)
    return {str(name): text(signature) for name, signature in found.items()} if isinstance(found, Mapping) else {}


def digest(value: Any) -> str:
    return "sha256:" + sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def text(value: Any) -> str:
    """A value as history has it: short texts as they are, others as JSON, and long ones as digests."""
    plain = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return plain if len(plain) <= LONGEST else digest(value)


# --- reads and writes ---------------------------------------------------------------------------------------------


def accesses(span: Span) -> list[Access]:
    """What a span read and wrote. A span that failed wrote nothing by its end."""
    found = [*_attributes(span), *_events(span), *_memory(span)]
    return [one for one in found if one.kind == "read" or not failed(span) or one.at != span.end]


def _attributes(span: Span) -> Iterator[Access]:
    for key, value in span.attributes.items():
        if key.startswith("weft.read."):
            yield Access("read", key.removeprefix("weft.read."), text(value), span.start)
        elif key.startswith("weft.write."):
            yield Access("write", key.removeprefix("weft.write."), text(value), span.end)


def _events(span: Span) -> Iterator[Access]:
    for event in span.events:
        if event.name in ("weft.read", "weft.write") and "weft.cell" in event.attributes:
            value = event.attributes.get("weft.value")
            told = None if value is None else text(value)
            kind: Literal["read", "write"] = "read" if event.name == "weft.read" else "write"
            yield Access(kind, str(event.attributes["weft.cell"]), told, event.at)


def _memory(span: Span) -> Iterator[Access]:
    """Records of a memory: each a cell `store/record`, or the whole store where no record is named."""
    name = operation(span)
    if name not in MEMORY_READS | MEMORY_WRITES:
        return
    reads = name in MEMORY_READS
    for cell, value in _records(span):
        told = DELETED if name == "delete_memory" else value
        yield Access("read", cell, told, span.start) if reads else Access("write", cell, told, span.end)


def _records(span: Span) -> Iterator[tuple[str, str | None]]:
    store, one = str(span.attributes.get(STORE_ID) or ""), str(span.attributes.get(RECORD_ID) or "")
    records = parsed(span.attributes.get(RECORDS))
    named = [r for r in records if isinstance(r, Mapping) and r.get("id")] if isinstance(records, list) else []
    if named:
        yield from ((_cell(store, str(record["id"])), text(record.get("content"))) for record in named)
    elif one or store:
        content = records[0].get("content") if isinstance(records, list) and records and one else records
        yield _cell(store, one), None if content is None else text(content)


def _cell(store: str, record: str) -> str:
    return "/".join(part for part in (store, record) if part)

"""A run as spans of OpenTelemetry, by its conventions for generative AI, version `SCHEMA`.

| of a run | span |
| --- | --- |
| a process of an agent | `invoke_agent {agent}` |
| any other process | `invoke_workflow {workflow}` |
| a generation | `chat {model}` or `text_completion {model}`; CLIENT, INTERNAL if the model runs in this process |
| embeddings | `embeddings {model}` |
| a call of a tool | `execute_tool {tool}` |
| any other effect | `{kind} {name}`, with attributes `weft.*` only |

A child's process is below its parent's; for its spawning and the wait for its end there are no spans. Ids are digests
of run and effect (`weft.core.traceparent`), so an export can be repeated, and fits what others were told meanwhile.
Content (messages, arguments, results) is there only if `Content` is given. The Python package of the conventions lags
behind them, so the names stand here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

from weft.core.codec import decode_plain
from weft.core.image import decode_image
from weft.core.record import Outcome, Started, from_column
from weft.core.traceparent import Caller, read, span_of, trace_of
from weft.store.base import FINISHED, ProcessRow, Store, bytes_of
from weft.trace.conventions import AGENT_NAME, CALL_ID, DEFINITIONS, FIRST_CHUNK, OPERATION, OUTPUT, TOOL_NAME
from weft.trace.export.content import Content
from weft.trace.reading import Node, process_node, read_with_records
from weft.trace.spans import Span

INTERNAL, CLIENT = 1, 3
ANSWER = b"weft.agent.answer:Answer"
"""What an agent returns, as the codec names it."""
COMPLETIONS = frozenset({"complete", "threads", "generate.passage"})
PROVIDERS = {
    "gemini": "gcp.gemini", "google": "gcp.gemini", "bedrock": "aws.bedrock", "azure": "azure.ai.openai",
    "mistral": "mistral_ai", "xai": "x_ai", "local": "weft",
}  # fmt: skip
"""Providers whose name the conventions write otherwise."""
REQUESTED = {
    "max_tokens": "gen_ai.request.max_tokens", "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p", "top_k": "gen_ai.request.top_k", "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences", "effort": "gen_ai.request.reasoning.level",
}  # fmt: skip
COUNTED = {
    "input": "gen_ai.usage.input_tokens", "output": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens", "cache_write": "gen_ai.usage.cache_write.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}  # fmt: skip
LEFT_OUT = frozenset({"spawn", "child"})


async def family(store: Store, run: str) -> AsyncIterator[ProcessRow]:
    """A process and all below it, parents first."""
    first = await store.row(run)
    waiting = [] if first is None else [first]
    while waiting:
        row = waiting.pop(0)
        yield row
        waiting.extend(reversed(await store.rows(parent=row.id, limit=1_000_000)))


async def trace_at(store: Store, row: ProcessRow) -> Caller:
    """The trace that a process belongs to, and the span above it ("" if there is none)."""
    told = decode_image(await store.image(row.image)).caller if row.image else ""
    caller = read(told) if told else None
    if row.parent is None:
        return caller or Caller(trace_of(row.id), "")
    return Caller(caller.trace if caller else trace_of(await _root(store, row)), span_of(row.parent))


async def _root(store: Store, row: ProcessRow) -> str:
    while row.parent is not None and (above := await store.row(row.parent)) is not None:
        row = above
    return row.id


async def spans_of_run(store: Store, run: str, content: Content | None = None) -> AsyncIterator[Span]:
    """All spans of a process and those below it, each process's after its effects'."""
    trace = ""
    async for row in family(store, run):
        at = await trace_at(store, row) if not trace else Caller(trace, span_of(row.parent or ""))
        trace = at.trace
        async for span in spans_of_process(store, row, at, content):
            yield span


async def spans_of_process(
    store: Store, row: ProcessRow, at: Caller, content: Content | None = None
) -> AsyncIterator[Span]:
    """The spans of its effects, and then its own. `at`: its trace, and the span above it."""
    over = row.updated if row.state in FINISHED else None
    total, own = _Total(), Caller(at.trace, span_of(row.id))
    async for node, record in read_with_records(store, row.id, over=over):
        total.add(node)
        if node.kind not in LEFT_OUT and node.ended is not None:
            yield await _effect(store, own, node, record, content)
    node = process_node(row)
    if node.ended is not None:
        yield await _process(store, row, node, at, total, content)


class _Total:
    """What the generations of a process come to, and whether an agent made them."""

    def __init__(self) -> None:
        self.input = self.output = self.generations = self.tools = 0

    def add(self, node: Node) -> None:
        self.input += node.input_tokens
        self.output += node.output_tokens
        self.generations += node.kind == "generation"
        self.tools += node.kind == "tool"


def is_agent(row: ProcessRow, generations: int, tools: int) -> bool:
    """Whether a process is an agent's: it returned an agent's answer, or failed after it had used a model and tools."""
    if row.result is not None:
        return ANSWER in row.result[:200]
    return bool(generations and tools)


async def _process(
    store: Store, row: ProcessRow, node: Node, at: Caller, total: _Total, content: Content | None
) -> Span:
    agent = is_agent(row, total.generations, total.tools)
    operation = "invoke_agent" if agent else "invoke_workflow"
    attributes: dict[str, Any] = {OPERATION: operation, AGENT_NAME if agent else "gen_ai.workflow.name": node.name}
    if agent:
        attributes["gen_ai.conversation.id"] = row.id
    if total.generations:
        attributes |= {COUNTED["input"]: total.input, COUNTED["output"]: total.output}
    attributes |= _ours(node)
    if content is not None:
        for key, data in (("input", row.input), ("output", row.result)):
            if data is not None:
                value = decode_plain(await bytes_of(store, from_column(data)))
                attributes[f"weft.{key}"] = content.text(value)
    return _span(node, at.trace, span_of(row.id), at.span or None, f"{operation} {node.name}", attributes)


async def _effect(store: Store, own: Caller, node: Node, record: Outcome | Started, content: Content | None) -> Span:
    name, kind = f"{node.exact} {node.name}" if node.exact != node.name else node.name, INTERNAL
    attributes: dict[str, Any] = {}
    value = record.value if type(record) is Outcome else None
    if node.kind == "generation" or node.name == "embed":
        args = decode_plain(await bytes_of(store, record.args))
        came = decode_plain(await bytes_of(store, value)) if value is not None else None
        name, kind, attributes = _generation(node, args, came, content)
    elif node.kind == "tool":
        name, attributes = f"execute_tool {node.name}", {OPERATION: "execute_tool", TOOL_NAME: node.name}
        came = decode_plain(await bytes_of(store, value)) if value is not None else None
        attributes |= _call(came)
        if content is not None:
            args = decode_plain(await bytes_of(store, record.args))
            attributes["gen_ai.tool.call.arguments"] = content.text(_arguments(args))
            attributes["gen_ai.tool.call.result"] = content.text(_result(came))
    elif content is not None:
        attributes["weft.input"] = content.text(decode_plain(await bytes_of(store, record.args)))
        if value is not None:
            attributes["weft.output"] = content.text(decode_plain(await bytes_of(store, value)))
    attributes |= _ours(node)
    return _span(node, own.trace, span_of(node.run, node.effect), own.span, name, attributes, kind)


def _span(
    node: Node, trace: str, id: str, parent: str | None, name: str, attributes: dict[str, Any], kind: int = INTERNAL
) -> Span:
    failed = node.status == "failed"
    if failed:
        attributes["error.type"] = node.error.partition(":")[0] or "_OTHER"
    elif node.status == "cancelled":
        attributes["error.type"] = "cancelled"
    start = _nanoseconds(node.started)
    end = max(start, _nanoseconds(node.ended or node.started))
    return Span(trace, id, parent, name, start, end, attributes, (), failed, node.error, kind)


def _nanoseconds(at: float) -> int:
    return round(at * 1e6) * 1000  # what a float of seconds has behind its microseconds is noise


def _ours(node: Node) -> dict[str, Any]:
    """What every span of Weft says."""
    found: dict[str, Any] = {"weft.run": node.run}
    if node.effect:
        found |= {"weft.effect": node.effect, "weft.kind": node.exact}
    if node.attempts > 1:
        found["weft.attempts"] = node.attempts
    if node.waited > 0:
        found["weft.waited"] = round(node.waited, 6)
    if node.money:
        found["weft.money"] = node.money
    if node.usage is not None:
        found |= {"weft.cpu_seconds": node.usage.cpu_seconds, "weft.memory_peak": node.usage.memory_peak}
    return found | _code(node.place)


@lru_cache(1000)
def _code(place: str) -> dict[str, Any]:
    file, colon, line = place.rpartition(":")
    return {"code.file.path": file, "code.line.number": int(line)} if colon and line.isdigit() else {}


# --- generations and calls of tools -------------------------------------------------------------------------------


def _generation(node: Node, args: Any, came: Any, content: Content | None) -> tuple[str, int, dict[str, Any]]:
    given = args["*"] if isinstance(args, dict) and "*" in args else args
    spec = str(given[0]) if isinstance(given, list) and given else ""
    place, _, model = spec.rpartition(":") if ":" in spec else ("local", "", spec)
    operation = "embeddings" if node.name == "embed" else "text_completion" if node.name in COMPLETIONS else "chat"
    request = given[1] if isinstance(given, list) and len(given) > 1 and isinstance(given[1], dict) else {}
    reply = came if isinstance(came, dict) and node.status == "ok" else {}
    attributes: dict[str, Any] = {OPERATION: operation, "gen_ai.provider.name": provider(place)}
    if model:
        attributes["gen_ai.request.model"] = model
    if node.name == "generate" and isinstance(given, list) and len(given) > 2 and given[2]:
        attributes["gen_ai.request.stream"] = True
    attributes |= {name: request[key] for key, name in REQUESTED.items() if request.get(key) not in (None, [])}
    attributes |= dict(_replied(reply, request))
    if content is not None:
        attributes |= _said(request, reply, content)
    kind = INTERNAL if place in ("local", "script") else CLIENT
    return f"{operation} {model}".strip(), kind, attributes


def provider(place: str) -> str:
    """The provider as the conventions name it."""
    return PROVIDERS.get(place.partition("/")[0], place) or "weft"


def _replied(reply: dict[str, Any], request: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if request.get("schema"):
        yield "gen_ai.output.type", "json"
    for key, name in (("model", "gen_ai.response.model"), ("id", "gen_ai.response.id")):
        if reply.get(key):
            yield name, reply[key]
    if reply.get("finish"):
        yield "gen_ai.response.finish_reasons", [reply["finish"]]
    if reply.get("first") is not None:
        yield FIRST_CHUNK, reply["first"]
    usage = reply.get("usage")
    if isinstance(usage, dict):
        yield from ((name, usage[key]) for key, name in COUNTED.items() if usage.get(key))


def _said(request: dict[str, Any], reply: dict[str, Any], content: Content) -> dict[str, Any]:
    found: dict[str, Any] = {}
    messages = [one for one in request.get("messages") or () if isinstance(one, dict)]
    system = [part for one in messages if one.get("role") == "system" for part in one.get("parts", ())]
    others = [one for one in messages if one.get("role") != "system"]
    if system:
        found["gen_ai.system_instructions"] = content.text([{"type": "text", "content": _text(one)} for one in system])
    if others:
        found["gen_ai.input.messages"] = content.messages(others)
    if isinstance(reply.get("message"), dict):
        found[OUTPUT] = content.messages([reply["message"]])
    if request.get("tools"):
        found[DEFINITIONS] = content.text(
            [
                {
                    "type": "function",
                    "name": t["name"],
                    "description": t.get("description", ""),
                    "parameters": t["schema"],
                }
                for t in request["tools"]
                if isinstance(t, dict) and "schema" in t
            ]
        )
    return found


def _text(part: Any) -> str:
    return str(part.get("content", "")) if isinstance(part, dict) else str(part)


def _call(came: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"gen_ai.tool.type": "function"}
    if isinstance(came, dict) and came.get("type") == "tool_call_response" and came.get("id"):
        found[CALL_ID] = came["id"]
    return found


def _arguments(args: Any) -> Any:
    """A call's arguments: those by name, if there are no others."""
    if isinstance(args, dict) and args.keys() == {"*", "**"} and not args["*"]:
        return args["**"]
    return args


def _result(came: Any) -> Any:
    if isinstance(came, dict) and came.get("type") == "tool_call_response":
        return came.get("response")
    return came

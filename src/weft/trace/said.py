"""What one span says went in and came out, in the form that Weft's own journals have it.

Read are the conventions of OpenTelemetry (messages as JSON, and the older `gen_ai.prompt.0.content`), those of
OpenInference (`input.value`, `llm.input_messages.0.message.content`, `llm.token_count.prompt`) and of OpenLLMetry
(`traceloop.entity.input`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from weft.trace import conventions as says
from weft.trace.spans import Span


class Said(NamedTuple):
    """An effect: its name, role, arguments and outcome."""

    name: str
    role: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    value: Any


def said(span: Span) -> Said:
    """What a span says."""
    if says.is_generation(span):
        return _generation(span)
    if says.is_call(span):
        given = _first(span, "gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input")
        came = _first(span, "gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
        named = given if isinstance(given, dict) and all(isinstance(key, str) for key in given) else None
        return Said(says.tool(span), "tool", () if named is not None or given is None else (given,), named or {}, came)
    given = _first(span, "weft.input", "input.value", "traceloop.entity.input", "gen_ai.input.messages")
    came = _first(span, "weft.output", "output.value", "traceloop.entity.output", "gen_ai.output.messages")
    args = given if "weft.input" in span.attributes and isinstance(given, list) else [given]
    return Said(_name(span), "", () if given is None else tuple(args), {}, came)


def _name(span: Span) -> str:
    """An agent's, a workflow's, or else the span's."""
    named = says.agent(span) if says.is_agent(span) else span.attributes.get("gen_ai.workflow.name")
    kind = span.attributes.get("weft.kind")  # in spans of Weft's own the name begins with it
    return str(named or span.name.removeprefix(f"{kind} ") or "trace")


def _generation(span: Span) -> Said:
    found = span.attributes
    asked = _text(found, "gen_ai.request.model", "llm.model_name", "gen_ai.response.model")
    provider = _text(found, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
    messages = [*_system(span), *_messages(span, "input")]
    answers = _messages(span, "output")
    request: dict[str, Any] = {"messages": messages}
    if isinstance(tools := says.parsed(found.get(says.DEFINITIONS)), list):
        request["tools"] = tools
    for key in ("temperature", "top_p", "max_tokens", "seed"):
        if f"gen_ai.request.{key}" in found:
            request[key] = found[f"gen_ai.request.{key}"]
    usage = {
        "input": _number(found, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
        "output": _number(
            found, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"
        ),
        "cache_read": _number(
            found, "gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"
        ),
        "cache_write": _number(
            found, "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
            "llm.token_count.prompt_details.cache_write",
        ),
        "reasoning": _number(
            found, "gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning"
        ),
    }  # fmt: skip
    reply = {
        "message": answers[0] if answers else {"role": "assistant", "parts": []}, "finish": _finish(span),
        "usage": usage, "model": _text(found, "gen_ai.response.model") or asked,
        "id": _text(found, "gen_ai.response.id"), "money": found.get("weft.money") or found.get("llm.cost.total"),
    }  # fmt: skip
    spec = f"{provider}:{asked}" if provider and asked else asked or provider
    return Said("generate", "generation", (spec, request), {}, reply)


def _system(span: Span) -> list[dict[str, Any]]:
    parts = says.parsed(span.attributes.get("gen_ai.system_instructions"))
    return [{"role": "system", "parts": parts}] if isinstance(parts, list) and parts else []


def _messages(span: Span, which: str) -> list[dict[str, Any]]:
    """The messages that went in or came out, in OpenTelemetry's form."""
    found = span.attributes
    plain = says.parsed(found.get(f"gen_ai.{which}.messages"))
    if isinstance(plain, list):
        return [_whole(one) for one in plain if isinstance(one, Mapping)]
    listed = unflattened(found, f"llm.{which}_messages") or unflattened(
        found, "gen_ai.prompt" if which == "input" else "gen_ai.completion"
    )
    if listed:
        return [_whole(one.get("message", one)) for one in listed if isinstance(one, Mapping)]
    value = says.parsed(found.get(f"{which}.value")) if f"{which}.value" in found else None
    if value is None and f"{which}.value" not in found:
        return []
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "role" in one for one in value):
        return [_whole(one) for one in value]
    words = found[f"{which}.value"]
    return [{"role": "user" if which == "input" else "assistant", "parts": [{"type": "text", "content": str(words)}]}]


def _whole(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with parts, of one that has `content` and `tool_calls`."""
    role = str(message.get("role") or "assistant")
    if isinstance(message.get("parts"), list):
        return {"role": role, "parts": message["parts"]}
    content = message.get("content")
    texts = content if isinstance(content, list) else [content] if content else []
    parts: list[dict[str, Any]] = [{"type": "text", "content": _words(one)} for one in texts]
    if role == "tool" and parts:
        id = str(message.get("tool_call_id") or "")
        parts = [{"type": "tool_call_response", "id": id, "response": parts[0]["content"]}]
    for one in message.get("tool_calls") or ():
        call = one.get("tool_call", one) if isinstance(one, Mapping) else {}
        function = call.get("function") or call
        arguments = says.parsed(function.get("arguments"))
        given = arguments if arguments is not None else function.get("arguments", {})
        parts.append(
            {"type": "tool_call", "id": str(call.get("id") or ""), "name": function.get("name", ""), "arguments": given}
        )
    return {"role": role, "parts": parts}


def _words(part: Any) -> str:
    if isinstance(part, Mapping):
        part = part.get("text", part.get("content", part))
    return part if isinstance(part, str) else str(part)


def unflattened(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """A list that lies in attributes such as `prefix.0.message.role`."""
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if key.startswith(f"{prefix}."):
            at = tree
            *path, last = key.removeprefix(f"{prefix}.").split(".")
            for step in path:
                inner = at.setdefault(step, {})
                if not isinstance(inner, dict):
                    break
                at = inner
            else:
                at.setdefault(last, value)
    found = _listed(tree)
    return found if isinstance(found, list) else []


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(re.fullmatch(r"\d+", key) for key in tree):
        return [_listed(tree[key]) for key in sorted(tree, key=int)]
    return {key: _listed(value) for key, value in tree.items()}


def _first(span: Span, *names: str) -> Any:
    """The first of these attributes that is there, as what its JSON stands for."""
    for name in names:
        if name in span.attributes:
            value = span.attributes[name]
            plain = says.parsed(value)
            return value if plain is None and value != "null" else plain
    return None


def _text(found: Mapping[str, Any], *names: str) -> str:
    return next((str(found[name]) for name in names if found.get(name)), "")


def _number(found: Mapping[str, Any], *names: str) -> int:
    return next((int(found[name]) for name in names if isinstance(found.get(name), int | float)), 0)


def _finish(span: Span) -> str:
    reasons = span.attributes.get("gen_ai.response.finish_reasons") or ["stop"]
    return str(reasons[0] if isinstance(reasons, list) else reasons)

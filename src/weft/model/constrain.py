"""Tool calls where the server makes none, or ignores which one it was told to make: by a schema over the tools.

A request with tools becomes one without: the tools are described in the instructions, and the answer must be JSON that
either names a tool with arguments that fit its schema, or (where the model may choose) gives an answer. Whoever
enforces schemas so enforces tool calls, and the reply is turned back. Earlier calls and results are told in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from weft.core.content import Blob, File, Text, ToolCall, ToolResult, ToolSpec, Uri
from weft.core.errors import AnswerMisfit, BadInput
from weft.model.dialect.gather import text_of
from weft.model.message import Message, Part
from weft.model.request import Reply, Request

_TEXT = {"type": "string"}


def check(request: Request) -> None:
    """Raises BadInput for a choice among tools that are not there."""
    names = [tool.name for tool in request.tools]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"there are two tools named {twice!r}; rename one")
    if request.tool_choice in ("auto", "none"):
        return
    if not names:
        raise BadInput(f"tool_choice={request.tool_choice!r}, but the request has no tools; give tools=")
    if request.tool_choice != "required" and request.tool_choice not in names:
        raise BadInput(f"tool_choice={request.tool_choice!r} is none of the tools {', '.join(names)}")


def kept(request: Request, reply: Reply) -> bool:
    """Whether a reply keeps to the choice among tools that was asked for."""
    called = {call.name for call in reply.calls}
    if request.tool_choice == "none":
        return not called
    if request.tool_choice == "auto":
        return called <= {tool.name for tool in request.tools}
    if request.tool_choice == "required":
        return bool(called) and called <= {tool.name for tool in request.tools}
    return called == {request.tool_choice}


def constrained(request: Request) -> Request:
    """The same request as one for an answer that fits a schema."""
    messages = [*map(_in_words, request.messages)]
    tools = [] if request.tool_choice == "none" else _choosable(request)
    if not tools:
        return msgspec.structs.replace(request, messages=messages, tools=[], tool_choice="auto")
    return msgspec.structs.replace(
        request,
        messages=_instructed(messages, _instructions(tools, request)),
        tools=[],
        tool_choice="auto",
        schema=_union(tools, request),
    )


def _choosable(request: Request) -> list[ToolSpec]:
    if request.tool_choice in ("auto", "required"):
        return request.tools
    return [tool for tool in request.tools if tool.name == request.tool_choice]


def _union(tools: list[ToolSpec], request: Request) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    options = [_object(tool={"const": tool.name}, arguments=_hoisted(tool.schema, f"tool{number}", definitions))
               for number, tool in enumerate(tools)]  # fmt: skip
    if request.tool_choice == "auto":
        answer = _TEXT if request.schema is None else _hoisted(request.schema, "answer", definitions)
        options.append(_object(answer=answer))
    schema = options[0] if len(options) == 1 else {"anyOf": options}
    return {**schema, "$defs": definitions} if definitions else schema


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": [*properties], "additionalProperties": False
    }  # fmt: skip


def _hoisted(schema: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema as part of a larger one: what it defines goes to the root under names of its own."""

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(one) for one in node]
        if not isinstance(node, dict):
            return node
        found = {key: moved(value) for key, value in node.items() if key != "$defs"}
        reference = node.get("$ref")
        if isinstance(reference, str):
            found["$ref"] = re.sub(r"^#/\$defs/", f"#/$defs/{prefix}_", reference)
        return found

    for name, definition in schema.get("$defs", {}).items():
        definitions[f"{prefix}_{name}"] = moved(definition)
    whole: dict[str, Any] = moved(schema)
    return whole


def _instructions(tools: list[ToolSpec], request: Request) -> str:
    lines = "\n".join(
        msgspec.json.encode({"tool": tool.name, "description": tool.description, "arguments": tool.schema}).decode()
        for tool in tools
    )
    how = 'To call one, answer with {"tool": its name, "arguments": {...}}.'
    if request.tool_choice == "auto":
        how += ' To answer without a tool, write {"answer": ...}.'
    return f"You can call these tools:\n{lines}\n{how}"


def _instructed(messages: list[Message], words: str) -> list[Message]:
    if messages and messages[0].role == "system":
        return [Message("system", (*messages[0].parts, Text(content=f"\n\n{words}"))), *messages[1:]]
    return [Message("system", (Text(content=words),)), *messages]


def _in_words(message: Message) -> Message:
    """A message without calls and results."""
    if not any(isinstance(part, ToolCall | ToolResult) for part in message.parts):
        return message
    role = "user" if message.role == "tool" else message.role
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            parts.append(Text(content=f'{{"tool": {_json(part.name)}, "arguments": {text_of(part.arguments)}}}'))
        elif isinstance(part, ToolResult):
            parts += _result_in_words(part)
        else:
            parts.append(part)
    return Message(role, tuple(parts), message.name)


def _result_in_words(result: ToolResult) -> Iterator[Text | Blob | Uri | File]:
    what = "Error of" if result.error else "Result of"
    yield Text(content=f"{what} {result.name or result.id}:\n")
    yield from result.response


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def unconstrained(request: Request, reply: Reply) -> Reply:
    """The reply to the request that this one was `constrained` to, as one to this. Raises AnswerMisfit if it was cut
    short before it could be read."""
    if not request.tools or request.tool_choice == "none":
        return reply
    try:
        said = msgspec.json.decode(reply.text)
    except msgspec.DecodeError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("tool"), str) and isinstance(said.get("arguments"), dict):
        number = sum(len(message.calls) for message in request.messages)
        call = ToolCall(id=f"call_{number}", name=said["tool"], arguments=said["arguments"])
        parts: tuple[Part, ...] = (call,)
        return msgspec.structs.replace(reply, message=Message("assistant", parts), finish="tool_call")
    if isinstance(said, dict) and "answer" in said:
        answer = said["answer"]
        text = answer if request.schema is None and isinstance(answer, str) else _json(answer)
        return msgspec.structs.replace(reply, message=Message("assistant", (Text(content=text),)))
    fix = "raise max_tokens" if reply.finish == "length" else "try a larger model"
    raise AnswerMisfit(f"{reply.model or 'the model'} wrote {reply.text[:80]!r}, which is no whole tool call; {fix}")

"""OpenAI's Chat Completions, which most other servers speak too: vLLM, llama.cpp, DeepSeek, OpenRouter, and so on.

What OpenAI's own models don't take and other servers do (a thought given back, in `reasoning_content`), and the other
way round (a cache mark, from gpt-5.6 on), goes by the model's name. `Embedded` is the same for the engine at home.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from weft.core.content import Text, ToolSpec
from weft.core.errors import ModelError
from weft.model.dialect import Call, Decoder
from weft.model.dialect.body import given, merged, named_tool
from weft.model.dialect.chat_answer import FINISHES, ChatDecoder, Completion, likely_of, usage_of
from weft.model.dialect.chat_messages import read, said_parts, written
from weft.model.dialect.gather import calls_in, finish_of
from weft.model.dialect.likelihood import scored
from weft.model.dialect.lost import Lost
from weft.model.dialect.pairs import understood
from weft.model.dialect.refusal import Refusing
from weft.model.dialect.schema import guaranteed, is_object, unwrapped
from weft.model.message import Message, Part, Reasoning
from weft.model.request import Reply, Request

_OWN = re.compile(r"(ft:)?(gpt-\d|chatgpt|o\d)")
"""Models of OpenAI's own: they want `max_completion_tokens`, and no thoughts."""
_MARKED = re.compile(r"gpt-(5\.[6-9]|[6-9]|\d\d)")
"""Those that take cache marks."""


class Chat(Refusing):
    """Chat Completions of a hosted server."""

    name: ClassVar[str] = "openai"
    framing: ClassVar[Literal["sse", "lines"]] = "sse"
    key: ClassVar[str] = "OPENAI_API_KEY"
    base: ClassVar[str] = "https://api.openai.com/v1"
    base_variable: ClassVar[str] = "OPENAI_BASE_URL"
    top_logprobs: ClassVar[int] = 20
    """The most likely tokens a server tells, to find labels' among them."""

    def headers(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, model: str, request: Request, *, stream: bool) -> Call:
        lost = Lost(self.name)
        body: dict[str, Any] = {"model": model, "messages": written(self._fit(model, request.messages, lost), lost)}
        if request.tools:
            body |= _tools(request)
        if request.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": self._schema(request.schema)}
        if request.max_tokens is not None:
            body["max_completion_tokens" if _OWN.match(model) else "max_tokens"] = request.max_tokens
        body |= given(
            temperature=request.temperature, top_p=request.top_p, seed=request.seed, stop=request.stop or None
        )
        if request.score or request.logprobs is not None:
            most = self.top_logprobs if request.score else request.logprobs
            body |= {"logprobs": True, "top_logprobs": most}
        self._more(body, request, lost)
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Call("/chat/completions", merged(body, request.extra), lost.words)

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return guaranteed(schema)

    def _more(self, body: dict[str, Any], request: Request, lost: Lost) -> None:
        if request.top_k is not None:
            lost("top_k")
        if request.effort is not None:
            body["reasoning_effort"] = request.effort

    def _fit(self, model: str, messages: Sequence[Message], lost: Lost) -> Sequence[Message]:
        """The messages as this model takes them."""
        no_thoughts, no_marks = bool(_OWN.match(model)), not _MARKED.match(model)
        return [_fitting(message, no_thoughts, no_marks, lost) for message in messages]

    def _wraps(self, request: Request) -> bool:
        """Whether the answer comes under "answer": hosted servers take only objects at the root of a schema."""
        return request.schema is not None and not is_object(request.schema)

    def reply(self, answer: Any, request: Request) -> Reply:
        try:
            said = msgspec.convert(answer, Completion)
            choice = said.choices[0]
            parts = tuple(said_parts(choice.message, calls_in(request.messages)))
        except (msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
            if isinstance(answer, dict) and answer.get("error"):
                raise self.error(answer, "") from None
            raise ModelError(
                f"the server answered something that is not a chat completion ({error}): {str(answer)[:80]!r}; "
                "check that the address is an OpenAI-compatible one"
            ) from error
        if self._wraps(request):
            parts = tuple(
                msgspec.structs.replace(part, content=unwrapped(part.content)) if isinstance(part, Text) else part
                for part in parts
            )
        reply = Reply(
            message=Message("assistant", parts),
            finish=finish_of(FINISHES.get(choice.finish_reason or "", "stop"), parts),
            usage=usage_of(said.usage),
            model=said.model or "",
            id=said.id or "",
            logprobs=tuple(likely_of(choice.logprobs)),
        )
        return scored(reply, request, self._wraps(request))

    def decoder(self, request: Request) -> Decoder:
        return ChatDecoder(request, self._wraps(request), self.error)

    def write(self, messages: Sequence[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
        lost = Lost(self.name)
        return {"messages": written(messages, lost)}, lost.words

    def read(self, wire: Mapping[str, Any]) -> list[Message]:
        return understood(self.name, read(wire))


class Embedded(Chat):
    """The same for llama.cpp's own server: any schema as it is, many likelihoods, and nothing left to chance."""

    top_logprobs: ClassVar[int] = 200

    def headers(self, key: str) -> Mapping[str, str]:
        # It closes a connection after a stream and does not say so: the next request there would be lost.
        return {**super().headers(key), "Connection": "close"}

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {"name": "answer", "schema": schema}

    def _wraps(self, request: Request) -> bool:
        return False

    def _more(self, body: dict[str, Any], request: Request, lost: Lost) -> None:
        body.setdefault("temperature", 0.0)
        body.setdefault("seed", 0)
        if request.top_k is not None:
            body["top_k"] = request.top_k
        if request.effort is not None:
            thinks = request.effort != "none"
            body["chat_template_kwargs"] = {"enable_thinking": thinks, "reasoning_effort": request.effort}


# --- the request ---


def _tools(request: Request) -> dict[str, Any]:
    """The tools, and how they are chosen."""
    body: dict[str, Any] = {"tools": [_tool(tool) for tool in request.tools]}
    if request.tool_choice in ("none", "required"):
        body["tool_choice"] = request.tool_choice
    elif request.tool_choice != "auto":
        named = named_tool(request)
        body["tool_choice"] = {"type": "function", "function": {"name": named}}
    if not request.parallel:
        body["parallel_tool_calls"] = False
    return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
    }


def _fitting(message: Message, no_thoughts: bool, no_marks: bool, lost: Lost) -> Message:
    parts: list[Part] = []
    for part in message.parts:
        if no_thoughts and isinstance(part, Reasoning):
            lost("thought given back")
            continue
        if no_marks and part.cache:
            lost.say("keeps prompts by itself; it takes no cache marks for this model")
            part = msgspec.structs.replace(part, cache="")
        parts.append(part)
    return message if tuple(parts) == message.parts else msgspec.structs.replace(message, parts=tuple(parts))

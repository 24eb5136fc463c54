"""Ollama's own chat API: lines of JSON.

A message is one text with images beside it. Tools can't be forced here; the ids of calls are given back, though older
servers send none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from weft.core.content import Blob, Text, ToolCall, ToolResult
from weft.model.dialect import Call, Decoder, Frame
from weft.model.dialect.body import given, merged, named_tool
from weft.model.dialect.chat_answer import in_order
from weft.model.dialect.gather import (
    Gather,
    arguments_in,
    arguments_of,
    at_once,
    calls_in,
    checked,
    malformed,
    object_of,
    text_of,
)
from weft.model.dialect.likelihood import scored
from weft.model.dialect.lost import Lost
from weft.model.dialect.media import base64_of, bytes_of, image_type
from weft.model.dialect.pairs import Pairs, names_of, understood
from weft.model.dialect.refusal import Refusing
from weft.model.event import Event
from weft.model.message import Message, Part, Reasoning
from weft.model.request import Finish, Likely, Reply, Request, Usage

_LEVELS = re.compile(r"(.*/)?gpt-oss")
"""Models whose thought has levels; the others think or don't."""
_FINISHES: dict[str, Finish] = {"length": "length"}
_TOP = 20


class Ollama(Refusing):
    """/api/chat."""

    name: ClassVar[str] = "ollama"
    framing: ClassVar[Literal["sse", "lines"]] = "lines"
    key: ClassVar[str] = "OLLAMA_API_KEY"
    base: ClassVar[str] = "http://127.0.0.1:11434"
    base_variable: ClassVar[str] = "OLLAMA_HOST"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, model: str, request: Request, *, stream: bool) -> Call:
        lost = Lost(self.name)
        body: dict[str, Any] = {"model": model, "messages": _written(request.messages, lost), "stream": stream}
        if request.tools and request.tool_choice != "none":
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
                }
                for tool in request.tools
            ]
            if request.tool_choice == "required":
                lost("demand that a tool be called")
            elif request.tool_choice != "auto":
                lost(f"demand that the tool {named_tool(request)} be called")
            if not request.parallel:
                lost("limit to one tool call at a time")
        if request.schema is not None:
            body["format"] = request.schema
        options = given(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            num_predict=request.max_tokens,
            seed=request.seed,
            stop=request.stop or None,
        )
        if options:
            body["options"] = options
        if request.effort is not None:
            levels = bool(_LEVELS.match(model)) and request.effort != "none"
            body["think"] = request.effort if levels else request.effort != "none"
        if request.score or request.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": _TOP if request.score else request.logprobs}
        return Call("/api/chat", merged(body, request.extra), lost.words)

    def reply(self, answer: Any, request: Request) -> Reply:
        return at_once(_Decoder(self, request), answer, _Chunk, "Ollama's", "one of an Ollama server")

    def decoder(self, request: Request) -> Decoder:
        return _Decoder(self, request)

    def write(self, messages: Sequence[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
        lost = Lost(self.name)
        return {"messages": _written(messages, lost)}, lost.words

    def read(self, wire: Mapping[str, Any]) -> list[Message]:
        return understood(self.name, _read(wire))


# --- messages to the wire ---


def _written(messages: Sequence[Message], lost: Lost) -> list[dict[str, Any]]:
    names = names_of(messages)
    wire: list[dict[str, Any]] = []
    before = ""
    for message in messages:
        if message.name:
            lost("name of a speaker")
        if message.role == "tool":
            if before == "tool":
                lost("border between two messages of results")
            wire += _results(message, names, lost)
        else:
            wire.append(_message(message, lost))
        before = message.role
    return wire


def _message(message: Message, lost: Lost) -> dict[str, Any]:
    """A text, then what stands beside it: images that a user shows, thoughts and calls of a model."""
    said = message.role == "assistant"
    texts: list[str] = []
    more: dict[str, list[Any]] = {}
    for part in message.parts:
        lost.mark(part, "any part")
        match part:
            case Text(content=words):
                if not words or texts or more.keys() - {"thinking"}:
                    lost("empty text, second text, or text after what stands beside it")
                if part.citations:
                    lost("citations")
                texts.append(words)
            case Reasoning(content=words) if said and words:
                if part.signature or part.id or part.hidden:
                    lost("seal of a thought")
                if texts or more:
                    lost("second thought, or one after words")
                more.setdefault("thinking", []).append(words)
            case ToolCall() if said:
                if part.signature:
                    lost("seal of a tool call")
                function = {"name": part.name, "arguments": object_of(part.arguments)}
                more.setdefault("tool_calls", []).append({"id": part.id, "function": function})
            case Blob(modality="image") if message.role == "user":
                if image_type(part.content) != part.mime_type:
                    lost("MIME type of an image but what its bytes tell")
                if part.name:
                    lost("name of an image")
                more.setdefault("images", []).append(base64_of(part.content))
            case _:
                lost(f"{type(part).__name__} from the {message.role}")
    wire = {"role": message.role, "content": "".join(texts)} | more
    return wire | ({"thinking": "".join(more["thinking"])} if "thinking" in more else {})


def _results(message: Message, names: Mapping[str, str], lost: Lost) -> Iterator[dict[str, Any]]:
    for result in message.parts:
        lost.mark(result, "any part")
        if not isinstance(result, ToolResult):
            lost(f"{type(result).__name__} among the results of tools")
            continue
        if result.error:
            lost("mark that a tool failed, besides its words")
        for part in result.response:
            lost.mark(part, "any part")
            if not isinstance(part, Text):
                lost(f"{part.modality} in a tool result")
            elif part.citations:
                lost("citations")
        if len(result.response) > 1 or result.response[:1] == (Text(content=""),):
            lost("border between two texts of a result, or an empty text")
        name = result.name or names.get(result.id, "")
        wire = {"role": "tool", "content": result.text, "tool_call_id": result.id}
        yield wire | ({"tool_name": name} if name else {})


# --- and back ---


def _read(wire: Mapping[str, Any]) -> Iterator[Message]:
    pairs = Pairs()
    results: list[Part] = []
    for message in wire["messages"]:
        words = message.get("content") or ""
        text = (Text(content=words),) if words else ()
        if message["role"] == "tool":
            id, name = pairs.result(message.get("tool_call_id") or "", message.get("tool_name") or "")
            results.append(ToolResult(id=id, name=name, response=text))
            continue
        if results:
            yield Message("tool", tuple(results))
            results = []
        thought = (Reasoning(content=message["thinking"]),) if message.get("thinking") else ()
        images = (bytes_of(image) for image in message.get("images") or ())
        yield Message(
            message["role"],
            (
                *thought,
                *text,
                *(Blob.of(image, image_type(image)) for image in images),
                *(_call(call, pairs) for call in message.get("tool_calls") or ()),
            ),
        )
    if results:
        yield Message("tool", tuple(results))


def _call(call: Mapping[str, Any], pairs: Pairs) -> ToolCall:
    function = call["function"]
    return ToolCall(
        id=pairs.call(call.get("id") or "", function["name"]),
        name=function["name"],
        arguments=_arguments(function.get("arguments")),
    )


def _arguments(given: Any) -> dict[str, Any] | str:
    return arguments_in(given) if isinstance(given, dict) else arguments_of(given or "")


# --- answers and streams ---


class _Function(msgspec.Struct):
    name: str
    arguments: Any = None


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Said(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Token] | None = None


class _Chunk(msgspec.Struct):
    message: _Said | None = None
    model: str = ""
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    logprobs: list[_Token] | None = None
    error: Any = None


_read_chunk = msgspec.json.Decoder(_Chunk).decode


class _Decoder:
    def __init__(self, dialect: Ollama, request: Request) -> None:
        self._gather = Gather(calls_in(request.messages))
        self._dialect = dialect
        self._request = request
        self._calls = 0

    def feed(self, frame: Frame) -> Iterable[Event]:
        try:
            chunk = _read_chunk(frame.data)
        except msgspec.MsgspecError as error:
            raise malformed(frame, self._gather.model, error) from None
        return checked(self.chunk(chunk), frame, self._gather.model)

    def chunk(self, chunk: _Chunk) -> Iterator[Event]:
        """A piece of a stream, or a whole answer."""
        gather, said = self._gather, chunk.message
        if chunk.error is not None:
            raise self._dialect.error({"error": chunk.error}, gather.model)
        if said is None and not chunk.done:
            raise TypeError("it has no message")
        gather.model = gather.model or chunk.model
        if said is not None:
            yield from gather.reasoning(said.thinking or "")
            yield from gather.text(said.content or "")
            for call in said.tool_calls or ():
                yield from self._call(call)
        for token in chunk.logprobs or ():
            top = tuple((each.token, each.logprob) for each in token.top_logprobs or ())
            gather.logprobs.append(Likely(token.token, token.logprob, top))
        if chunk.done:
            yield from gather.counted(Usage(input=chunk.prompt_eval_count, output=chunk.eval_count))
            gather.finish = _FINISHES.get(chunk.done_reason or "", "stop")

    def _call(self, call: _Call) -> Iterator[Event]:
        """Calls come whole."""
        number, self._calls = self._calls, self._calls + 1
        yield from self._gather.call(number, call.id, call.function.name)
        yield from self._gather.arguments(number, text_of(_arguments(call.function.arguments)))
        yield from self._gather.called(number)

    def end(self) -> Reply:
        reply = self._gather.end()
        ordered = Message("assistant", in_order(reply.message.parts))
        return scored(msgspec.structs.replace(reply, message=ordered), self._request, False)

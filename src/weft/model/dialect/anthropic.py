"""Anthropic's Messages.

What the newer models take and the older don't (a schema, thought by effort) and the other way round (temperature) goes
by the model's name. A name that is none of Anthropic's is another server's that speaks this dialect: it gets all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from weft.core.content import Text, ToolCall
from weft.core.errors import ModelError
from weft.model.dialect import Call, Decoder, Frame
from weft.model.dialect.anthropic_messages import citation_of, part_of, read, seal_of, written
from weft.model.dialect.body import given, merged, named_tool
from weft.model.dialect.gather import Gather, arguments_of, checked, finish_of, is_empty, malformed
from weft.model.dialect.lost import Lost
from weft.model.dialect.pairs import understood
from weft.model.dialect.refusal import Refusing
from weft.model.dialect.schema import ANSWER, Unwrap, answer_tool, closed, is_object, unwrapped, wrapped
from weft.model.dialect.seal import sealed
from weft.model.event import Event
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal
from weft.model.request import Effort, Finish, Reply, Request, Usage

MAX_TOKENS = 8192
"""The API wants to be told a most; this is it if the request has none."""
_DATE = r"(-\d{8}|-latest)?$"
_NO_SCHEMA = re.compile(r"claude-(\d|instant|(opus|sonnet|haiku)-4(-[01])?" + _DATE + ")")
_BUDGETED = re.compile(r"claude-(\d|instant|(opus|sonnet|haiku)-4(-[0-5])?" + _DATE + ")")
"""Those that think for a number of tokens, not by effort, and know no system message in mid-conversation."""
_SAMPLED = re.compile(r"(?!claude)|claude-(\d|instant|(opus|sonnet|haiku)-4(-[0-6])?" + _DATE + ")")
"""Those that take a temperature."""
_BUDGETS: dict[Effort, int] = {"low": 2048, "medium": 8192, "high": 16384}
_FINISHES: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "refusal": "content_filter",
    "pause_turn": "interrupted",  # a long search of the provider's own rests; given back, the message goes on
}


class Anthropic(Refusing):
    """The Messages API."""

    name: ClassVar[str] = "anthropic"
    framing: ClassVar[Literal["sse", "lines"]] = "sse"
    key: ClassVar[str] = "ANTHROPIC_API_KEY"
    base: ClassVar[str] = "https://api.anthropic.com"
    base_variable: ClassVar[str] = "ANTHROPIC_BASE_URL"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})

    def call(self, model: str, request: Request, *, stream: bool) -> Call:
        lost = Lost(self.name)
        messages: Sequence[Message] = request.messages
        if _BUDGETED.match(model):
            messages = _system_first(messages, lost)
        body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens or MAX_TOKENS} | written(
            messages, lost
        )
        body |= _answering(model, request) | given(stop_sequences=request.stop or None)
        _think(body, model, request, lost)
        settings = given(temperature=request.temperature, top_p=request.top_p, top_k=request.top_k)
        if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
            for setting in settings:
                lost(f"{setting} beside thought")
        elif _SAMPLED.match(model):
            body |= settings
        else:
            for setting in settings:
                lost(f"{setting} for this model")
        if request.seed is not None:
            lost("seed")
        if request.score or request.logprobs is not None:
            lost("question for likelihoods of tokens")
        if stream:
            body["stream"] = True
        return Call("/v1/messages", merged(body, request.extra), lost.words)

    def reply(self, answer: Any, request: Request) -> Reply:
        try:
            said = msgspec.convert(answer, _Answer)
            parts = [part_of(block) for block in said.content]
        except (msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
            if isinstance(answer, dict) and answer.get("error"):
                raise self.error(answer, "") from None
            raise ModelError(
                f"the server answered something that is not Anthropic's message ({error}): {str(answer)[:80]!r}; "
                "check that the address is one of Anthropic's Messages API"
            ) from error
        if request.schema is not None:
            parts = [_answer(part, wraps=not is_object(request.schema)) for part in parts]
        if said.stop_reason == "refusal":
            parts.append(Refusal(content=_why(said.stop_details)))
        kept = tuple(part for part in parts if not is_empty(part))
        return Reply(
            message=Message("assistant", kept),
            finish=_finish(said.stop_reason, kept),
            usage=_usage(said.usage),
            model=said.model or "",
            id=said.id or "",
        )

    def decoder(self, request: Request) -> Decoder:
        return _Decoder(self, request)

    def write(self, messages: Sequence[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
        lost = Lost(self.name)
        return written(messages, lost), lost.words

    def read(self, wire: Mapping[str, Any]) -> list[Message]:
        return understood(self.name, read(wire))


# --- the request ---


def _system_first(messages: Sequence[Message], lost: Lost) -> Sequence[Message]:
    ordered = sorted(messages, key=lambda message: message.role != "system")
    if ordered != list(messages):
        lost("system message but at the beginning, for this model")
    return ordered


def _answering(model: str, request: Request) -> dict[str, Any]:
    """The tools, how they are chosen, and the schema: as it is, or as a tool to answer with."""
    tools = list(request.tools)
    choice: dict[str, Any] = {"type": {"required": "any"}.get(request.tool_choice, request.tool_choice)}
    if request.tool_choice not in ("auto", "none", "required"):
        choice = {"type": "tool", "name": named_tool(request)}
    body: dict[str, Any] = {}
    if request.schema is not None:
        schema = request.schema if is_object(request.schema) else wrapped(request.schema)
        narrow = None if _NO_SCHEMA.match(model) else closed(schema)
        if narrow is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": narrow}}
        else:
            tools.append(answer_tool(schema))
            if not request.tools or request.tool_choice == "none":
                choice = {"type": "tool", "name": ANSWER}
            elif request.tool_choice == "auto":
                choice = {"type": "any"}
    if tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in tools
        ]
        if not request.parallel and choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
        if choice != {"type": "auto"}:
            body["tool_choice"] = choice
    return body


def _think(body: dict[str, Any], model: str, request: Request, lost: Lost) -> None:
    effort = request.effort
    if effort is None:
        return
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    if effort != "none" and forced:
        lost("thought where a tool must be called")
    if _BUDGETED.match(model):
        if effort != "none" and not forced:
            body["thinking"] = {"type": "enabled", "budget_tokens": _BUDGETS[effort]}
            body["max_tokens"] += _BUDGETS[effort]  # the API counts thoughts among the answer
    elif effort == "none" or forced:
        body["thinking"] = {"type": "disabled"}
    else:
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = body.get("output_config", {}) | {"effort": effort}


# --- answers and streams ---


class _Thinking(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Thinking | None = None


class _Why(msgspec.Struct):
    category: str | None = None
    explanation: str | None = None


class _Answer(msgspec.Struct):
    content: list[dict[str, Any]]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_details: _Why | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_details: _Why | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: _Answer | None = None
    usage: _Usage | None = None


_read_event = msgspec.json.Decoder(_Event).decode


def _usage(said: _Usage | None, before: Usage = Usage()) -> Usage:
    """Anthropic counts what it read from its cache and wrote into it apart; here it is part of the input."""
    if said is None:
        return before
    details = said.output_tokens_details
    read, write = said.cache_read_input_tokens, said.cache_creation_input_tokens
    fresh = before.input - before.cache_read - before.cache_write if said.input_tokens is None else said.input_tokens
    read, write = before.cache_read if read is None else read, before.cache_write if write is None else write
    return Usage(
        input=fresh + read + write,
        output=before.output if said.output_tokens is None else said.output_tokens,
        cache_read=read,
        cache_write=write,
        reasoning=before.reasoning if details is None else details.thinking_tokens or 0,
    )


def _finish(reason: str | None, parts: tuple[Part, ...]) -> Finish:
    return finish_of(_FINISHES.get(reason or "", "stop"), parts)


def _why(details: _Why | None) -> str:
    details = details or _Why()
    return details.explanation or f"the model refused to answer{f' ({details.category})' if details.category else ''}"


def _answer(part: Part, *, wraps: bool) -> Part:
    """The answer's text, if this part is it: given by the tool to answer with, or inside an object."""
    if isinstance(part, ToolCall) and part.name == ANSWER:
        part = Text(content=msgspec.json.encode(part.arguments).decode())
    if wraps and isinstance(part, Text):
        return msgspec.structs.replace(part, content=unwrapped(part.content))
    return part


class _Decoder:
    def __init__(self, dialect: Anthropic, request: Request) -> None:
        self._gather = Gather()
        self._error = dialect.error
        self._answers = request.schema is not None
        self._wraps = request.schema is not None and not is_object(request.schema)
        self._unwrap: Unwrap | None = None
        self._answering: set[int] = set()
        """The blocks that are calls of the tool to answer with."""
        self._opaque: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def feed(self, frame: Frame) -> Iterable[Event]:
        try:
            event = _read_event(frame.data)
        except msgspec.MsgspecError as error:
            raise malformed(frame, self._gather.model, error) from None
        return checked(self._event(event, frame), frame, self._gather.model)

    def _event(self, event: _Event, frame: Frame) -> Iterable[Event]:
        if event.type == "content_block_delta" and event.delta is not None:
            return self._delta(event.index, event.delta)
        if event.type == "content_block_start" and event.content_block is not None:
            return self._start(event.index, event.content_block)
        if event.type == "content_block_stop":
            return self._stop(event.index)
        if event.type == "message_start" and event.message is not None:
            self._gather.model, self._gather.id = event.message.model or "", event.message.id or ""
            return self._gather.counted(_usage(event.message.usage))
        if event.type == "message_delta":
            return self._ended(event)
        if event.type == "error":
            raise self._error(msgspec.json.decode(frame.data), self._gather.model)
        return ()

    def _start(self, index: int, block: dict[str, Any]) -> Iterator[Event]:
        gather = self._gather
        match block:
            case {"type": "text"}:
                self._unwrap = Unwrap() if self._wraps else None
                gather.begin(Text)
                yield from gather.text(block.get("text") or "")
                for citation in block.get("citations") or ():
                    gather.cite(citation_of(citation))
            case {"type": "thinking"}:
                gather.begin(Reasoning)
                yield from gather.reasoning(block.get("thinking") or "")
                if block.get("signature"):
                    gather.mark(Reasoning, signature=sealed("anthropic", block["signature"]))
            case {"type": "redacted_thinking", "data": str(seal)}:
                gather.begin(Reasoning)
                gather.mark(Reasoning, hidden=True, signature=sealed("anthropic", seal))
            case {"type": "tool_use", "name": name} if name == ANSWER and self._answers:
                self._answering.add(index)
                self._unwrap = Unwrap() if self._wraps else None
                gather.begin(Text)
            case {"type": "tool_use", "id": str(id), "name": str(name)}:
                seal = seal_of(block)
                yield from gather.call(index, id, name, **({"signature": seal} if seal else {}))
                if block.get("input"):
                    yield from gather.arguments(index, msgspec.json.encode(block["input"]).decode())
            case _:
                self._opaque[index] = (block, [])

    def _delta(self, index: int, delta: _Delta) -> Iterator[Event]:
        gather = self._gather
        words = delta.partial_json if index in self._answering else delta.text
        if words:
            yield from gather.text(self._unwrap.feed(words) if self._unwrap else words)
        elif delta.thinking:
            yield from gather.reasoning(delta.thinking)
        elif index in self._opaque:
            self._opaque[index][1].append(delta.partial_json)
        elif delta.partial_json:
            yield from gather.arguments(index, delta.partial_json)
        if delta.signature:
            gather.mark(Reasoning, signature=sealed("anthropic", delta.signature))
        if delta.citation is not None:
            gather.cite(citation_of(delta.citation))

    def _stop(self, index: int) -> Iterator[Event]:
        if self._unwrap is not None:
            rest, self._unwrap = self._unwrap.end(), None
            yield from self._gather.text(rest)
        if index in self._opaque:
            block, pieces = self._opaque.pop(index)
            written = "".join(pieces)
            content = block | ({"input": arguments_of(written)} if written else {})
            yield from self._gather.whole(Opaque(dialect="anthropic", content=content))
        yield from self._gather.ended()
        yield from self._gather.called(index)

    def _ended(self, event: _Event) -> Iterator[Event]:
        delta, gather = event.delta or _Delta(), self._gather
        yield from gather.counted(_usage(event.usage, gather.usage))
        if delta.stop_reason == "refusal":
            gather.begin(Refusal)
            yield from gather.refusal(_why(delta.stop_details))
        if delta.stop_reason is not None:
            yield from gather.ended()
            yield from gather.all_called()
            gather.finish = _FINISHES.get(delta.stop_reason, "stop")

    def end(self) -> Reply:
        return self._gather.end()

"""OpenAI's Responses.

Nothing is kept at the provider's: the conversation is sent as a whole, and thoughts come sealed, to be given back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from weft.core.content import Text
from weft.core.errors import ModelError
from weft.model.dialect import Call, Decoder, Frame
from weft.model.dialect.body import given, merged, named_tool
from weft.model.dialect.gather import Gather, checked, malformed
from weft.model.dialect.likelihood import scored
from weft.model.dialect.lost import Lost
from weft.model.dialect.pairs import understood
from weft.model.dialect.refusal import Refusing
from weft.model.dialect.responses_messages import (
    citation_of,
    parts_of,
    phase_of,
    read,
    seal_of,
    sealing,
    word_of,
    written,
)
from weft.model.dialect.schema import Unwrap, guaranteed, is_object, unwrapped
from weft.model.event import Event
from weft.model.message import Message, Reasoning, Refusal
from weft.model.request import Finish, Likely, Reply, Request, Usage

_THINKS = re.compile(r"o\d|gpt-(?!5-chat)([5-9]|\d\d)")
_MARKED = re.compile(r"gpt-(5\.[6-9]|[6-9]|\d\d)")
"""Models that take cache marks."""
_FINISHES: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_TOP = 20
_FEWEST = 16


class Responses(Refusing):
    """The Responses API."""

    name: ClassVar[str] = "openai-responses"
    framing: ClassVar[Literal["sse", "lines"]] = "sse"
    key: ClassVar[str] = "OPENAI_API_KEY"
    base: ClassVar[str] = "https://api.openai.com/v1"
    base_variable: ClassVar[str] = "OPENAI_BASE_URL"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, model: str, request: Request, *, stream: bool) -> Call:
        lost = Lost(self.name)
        messages = request.messages if _MARKED.match(model) else _unmarked(request.messages, lost)
        body: dict[str, Any] = {"model": model, "input": written(messages, lost), "store": False}
        include = ["reasoning.encrypted_content"] if _THINKS.match(model) else []
        if request.tools:
            body |= _tools(request)
        if request.schema is not None:
            body["text"] = {"format": {"type": "json_schema"} | guaranteed(request.schema)}
        if request.effort is not None:
            body["reasoning"] = {"effort": request.effort}
        if request.score or request.logprobs is not None:
            body["top_logprobs"] = _TOP if request.score else request.logprobs
            include.append("message.output_text.logprobs")
        if request.max_tokens is not None and request.max_tokens < _FEWEST:
            lost(f"limit below {_FEWEST} tokens")
        body |= given(
            max_output_tokens=request.max_tokens and max(request.max_tokens, _FEWEST),
            temperature=request.temperature,
            top_p=request.top_p,
            include=include or None,
            stream=stream or None,
        )
        for name, value in (("top_k", request.top_k), ("seed", request.seed), ("stop texts", request.stop or None)):
            if value is not None:
                lost(name)
        return Call("/responses", merged(body, request.extra), lost.words)

    def reply(self, answer: Any, request: Request) -> Reply:
        decoder = _Decoder(self, request)
        try:
            decoder.whole(msgspec.convert(answer, _Response))
        except (msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
            if isinstance(answer, dict) and answer.get("error"):
                raise self.error(answer, "") from None
            raise ModelError(
                f"the server answered something that is no response ({error}): {str(answer)[:80]!r}; "
                "check that the address is one of the Responses API"
            ) from error
        return decoder.end()

    def decoder(self, request: Request) -> Decoder:
        return _Decoder(self, request)

    def write(self, messages: Sequence[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
        lost = Lost(self.name)
        return {"input": written(messages, lost)}, lost.words

    def read(self, wire: Mapping[str, Any]) -> list[Message]:
        return understood(self.name, read(wire))


# --- the request ---


def _unmarked(messages: Sequence[Message], lost: Lost) -> Sequence[Message]:
    for message in messages:
        if any(part.cache for part in message.parts):
            lost.say("keeps prompts by itself; it takes no cache marks for this model")
    return [
        msgspec.structs.replace(
            message,
            parts=tuple(msgspec.structs.replace(part, cache="") if part.cache else part for part in message.parts),
        )
        for message in messages
    ]


def _tools(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema,
                "strict": False,  # the API's usual would have every argument required
            }
            for tool in request.tools
        ]
    }
    if request.tool_choice in ("none", "required"):
        body["tool_choice"] = request.tool_choice
    elif request.tool_choice != "auto":
        body["tool_choice"] = {"type": "function", "name": named_tool(request)}
    if not request.parallel:
        body["parallel_tool_calls"] = False
    return body


# --- answers and streams ---


class _Counts(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Counts | None = None
    output_tokens_details: _Counts | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    output: list[dict[str, Any]] | None = None
    id: str | None = None
    model: str | None = None
    status: str | None = None
    error: dict[str, Any] | None = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    type: str
    delta: Any = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: dict[str, Any] | None = None
    logprobs: list[dict[str, Any]] | None = None
    response: _Response | None = None


_read_event = msgspec.json.Decoder(_Event).decode


def _usage(said: _Usage | None) -> Usage:
    if said is None:
        return Usage()
    prompt, answer = said.input_tokens_details or _Counts(), said.output_tokens_details or _Counts()
    return Usage(
        input=said.input_tokens or 0,
        output=said.output_tokens or 0,
        cache_read=prompt.cached_tokens or 0,
        cache_write=prompt.cache_write_tokens or 0,
        reasoning=answer.reasoning_tokens or 0,
    )


def _likely(tokens: Iterable[Mapping[str, Any]]) -> Iterator[Likely]:
    for token in tokens:
        top = tuple((each["token"], each["logprob"]) for each in token.get("top_logprobs") or ())
        yield Likely(token["token"], token["logprob"], top)


class _Decoder:
    def __init__(self, dialect: Responses, request: Request) -> None:
        self._gather = Gather()
        self._dialect = dialect
        self._request = request
        self._wraps = request.schema is not None and not is_object(request.schema)
        self._unwrap: Unwrap | None = None
        self._place: tuple[Any, ...] = ()
        """Where the words under way stand: the kind, and the numbers of the item and of the piece in it."""
        self._texts: dict[tuple[int, int], Any] = {}
        self._known: set[int] = set()
        """The items of which the beginning was told."""
        self._begun: set[int] = set()
        """The items of which pieces have come."""

    def feed(self, frame: Frame) -> Iterable[Event]:
        if frame.data == "[DONE]":
            return ()
        try:
            event = _read_event(frame.data)
        except msgspec.MsgspecError as error:
            raise malformed(frame, self._gather.model, error) from None
        return checked(self._event(event, frame), frame, self._gather.model)

    def _event(self, event: _Event, frame: Frame) -> Iterable[Event]:
        if isinstance(event.delta, str):
            return self._delta(event, event.delta)
        match event.type:
            case "response.output_item.added" if event.item is not None:
                return self._added(event.output_index, event.item)
            case "response.output_item.done" if event.item is not None:
                return self._done(event.output_index, event.item)
            case "response.created" | "response.in_progress" if event.response is not None:
                self._gather.model, self._gather.id = event.response.model or "", event.response.id or ""
            case "response.completed" | "response.incomplete" | "response.failed" if event.response is not None:
                return self._ended(event.response)
            case "error":
                raise self._dialect.error(msgspec.json.decode(frame.data), self._gather.model)
        return ()

    def _delta(self, event: _Event, piece: str) -> Iterator[Event]:
        gather, index = self._gather, event.output_index
        match event.type:
            case "response.output_text.delta":
                yield from self._at(Text, index, event.content_index)
                yield from gather.text(self._unwrap.feed(piece) if self._unwrap else piece)
                gather.logprobs.extend(_likely(event.logprobs or ()))
            case "response.refusal.delta":
                yield from self._at(Refusal, index, event.content_index)
                yield from gather.refusal(piece)
            case "response.reasoning_summary_text.delta":
                yield from self._at(Reasoning, index, event.summary_index)
                yield from gather.reasoning(piece)
            case "response.reasoning_text.delta":
                yield from self._at(Reasoning, index, event.content_index)
                yield from gather.reasoning(piece)
            case "response.function_call_arguments.delta":
                self._begun.add(index)
                yield from gather.arguments(index, piece)

    def _at(self, kind: type[Text] | type[Reasoning] | type[Refusal], index: int, number: int) -> Iterator[Event]:
        """The words to come stand here."""
        place = (kind, index, number)
        if place == self._place:
            return
        yield from self._rest()
        if kind is Reasoning and self._place[:2] == place[:2]:
            yield from self._gather.reasoning("\n\n")
        else:
            self._texts[index, number] = self._gather.begin(kind)
        if kind is Text and self._wraps:
            self._unwrap = Unwrap()
        self._place = place
        self._begun.add(index)

    def _rest(self) -> Iterator[Event]:
        if self._unwrap is not None:
            rest, self._unwrap = self._unwrap.end(), None
            yield from self._gather.text(rest)

    def _added(self, index: int, item: Mapping[str, Any]) -> Iterator[Event]:
        if index in self._known:
            return
        self._known.add(index)
        if item["type"] == "function_call":
            seal = seal_of(item)
            yield from self._gather.call(index, item["call_id"], item["name"], **({"signature": seal} if seal else {}))
        elif item["type"] == "message" and item.get("phase"):
            yield from self._gather.whole(phase_of(item))

    def _done(self, index: int, item: Mapping[str, Any]) -> Iterator[Event]:
        """An item is whole; of what did not come in pieces, all is told now."""
        gather = self._gather
        kind, begun = item["type"], index in self._begun
        yield from self._added(index, item)
        if kind == "function_call":
            if not begun:
                yield from gather.arguments(index, item.get("arguments") or "")
            yield from gather.called(index)
        elif kind == "reasoning":
            if not begun:
                gather.begin(Reasoning)
                yield from gather.reasoning(
                    "\n\n".join(p["text"] for p in item.get("summary") or item.get("content") or ())
                )
            gather.mark(Reasoning, **sealing(item))
        elif kind == "message":
            yield from self._message(index, item, begun)
        else:
            for part in parts_of(item):
                yield from gather.whole(part)
        yield from gather.ended()

    def _message(self, index: int, item: Mapping[str, Any], begun: bool) -> Iterator[Event]:
        for number, wire in enumerate(item.get("content") or ()):
            word = word_of(wire)
            if not begun and isinstance(word, Text | Refusal):
                yield from self._at(type(word), index, number)
                if isinstance(word, Refusal):
                    yield from self._gather.refusal(word.content)
                else:
                    yield from self._gather.text(unwrapped(word.content) if self._wraps else word.content)
                    self._unwrap = None
                    self._gather.logprobs.extend(_likely(wire.get("logprobs") or ()))
            for citation in wire.get("annotations") or ():
                self._gather.cite(citation_of(citation), self._texts.get((index, number)))
        yield from self._rest()

    def _ended(self, response: _Response) -> Iterator[Event]:
        gather = self._gather
        if response.error is not None or response.status == "failed":
            raise self._dialect.error({"error": response.error or "the response failed"}, gather.model)
        gather.model, gather.id = response.model or gather.model, response.id or gather.id
        yield from self._rest()
        yield from gather.ended()
        yield from gather.all_called()
        yield from gather.counted(_usage(response.usage))
        why = response.incomplete_details
        gather.finish = _FINISHES.get(why.reason or "", "length") if why and response.status == "incomplete" else "stop"

    def whole(self, response: _Response) -> None:
        """An answer that is not streamed."""
        if response.output is None and response.error is None:
            raise TypeError("it has no output")
        for index, item in enumerate(response.output or ()):
            for _ in self._done(index, item):
                pass
        for _ in self._ended(response):
            pass

    def end(self) -> Reply:
        return scored(self._gather.end(), self._request, self._wraps)

"""What Chat Completions answers: a completion as a whole, or its chunks one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from weft.core.content import Text, ToolCall
from weft.core.errors import ModelError
from weft.model.dialect import Frame
from weft.model.dialect.chat_messages import citations, seal_of
from weft.model.dialect.gather import Gather, calls_in, checked, malformed
from weft.model.dialect.likelihood import scored
from weft.model.dialect.schema import Unwrap
from weft.model.event import Event
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal
from weft.model.request import Finish, Likely, Reply, Request, Usage

FINISHES: dict[str, Finish] = {
    "length": "length",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "content_filter": "content_filter",
    "error": "error",
}


class _Counts(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Counts | None = None
    completion_tokens_details: _Counts | None = None


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Token] | None = None


class _Tokens(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    message: dict[str, Any]
    finish_reason: str | None = None
    logprobs: _Tokens | None = None


class Completion(msgspec.Struct):
    """An answer as a whole."""

    choices: list[_Choice]
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallPiece(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallPiece] | None = None
    annotations: list[dict[str, Any]] | None = None
    audio: dict[str, Any] | None = None


class _Piece(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Tokens | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Piece] | None = None
    usage: _Usage | None = None
    error: Any = None


_read_chunk = msgspec.json.Decoder(_Chunk).decode


def usage_of(said: _Usage | None) -> Usage:
    if said is None:
        return Usage()
    prompt, answer = said.prompt_tokens_details or _Counts(), said.completion_tokens_details or _Counts()
    return Usage(
        input=said.prompt_tokens or 0,
        output=said.completion_tokens or 0,
        cache_read=prompt.cached_tokens or 0,
        cache_write=prompt.cache_write_tokens or 0,
        reasoning=answer.reasoning_tokens or 0,
    )


def likely_of(tokens: _Tokens | None) -> Iterator[Likely]:
    for token in (tokens.content if tokens else None) or ():
        yield Likely(token.token, token.logprob, tuple((top.token, top.logprob) for top in token.top_logprobs or ()))


class ChatDecoder:
    """Reads one stream. `wraps`: the answer comes inside an object; `error`: the error that a frame tells of."""

    def __init__(self, request: Request, wraps: bool, error: Callable[[Any, str], ModelError]) -> None:
        self._gather = Gather(calls_in(request.messages))
        self._request = request
        self._wraps = wraps
        self._unwrap = Unwrap() if wraps else None
        self._error = error
        self._ids: dict[int, str] = {}
        self._audio: dict[str, Any] = {}

    def feed(self, frame: Frame) -> Iterable[Event]:
        gather = self._gather
        if frame.data == "[DONE]":
            return self._ended("stop") if gather.finish is None else ()
        try:
            chunk = _read_chunk(frame.data)
        except msgspec.MsgspecError as error:
            raise malformed(frame, gather.model, error) from None
        if chunk.error is not None or frame.event == "error":
            raise self._error(msgspec.json.decode(frame.data), gather.model)
        return checked(self._chunk(chunk), frame, gather.model)

    def _chunk(self, chunk: _Chunk) -> Iterator[Event]:
        gather = self._gather
        gather.model = gather.model or chunk.model or ""
        gather.id = gather.id or chunk.id or ""
        for piece in chunk.choices or ():
            if piece.index == 0:
                yield from self._piece(piece)
        if chunk.usage is not None:
            yield from gather.counted(usage_of(chunk.usage))

    def _piece(self, piece: _Piece) -> Iterator[Event]:
        delta, gather = piece.delta, self._gather
        if delta is not None:
            thought = delta.reasoning_content or delta.reasoning
            if thought:
                yield from gather.reasoning(thought)
            if delta.content:
                yield from gather.text(self._unwrap.feed(delta.content) if self._unwrap else delta.content)
            if delta.refusal:
                yield from gather.refusal(delta.refusal)
            for number, call in enumerate(delta.tool_calls or ()):
                yield from self._call(call, number)
            for citation in citations(delta.annotations or ()):
                gather.cite(citation)
            for key, value in (delta.audio or {}).items():
                joins = key in ("data", "transcript") and key in self._audio
                self._audio[key] = self._audio[key] + value if joins else value
        if piece.logprobs is not None:
            gather.logprobs.extend(likely_of(piece.logprobs))
        if piece.finish_reason is not None:
            yield from self._ended(FINISHES.get(piece.finish_reason, "stop"))

    def _call(self, piece: _CallPiece, number: int) -> Iterator[Event]:
        """Most servers number their calls; some give each the number 0 and an id of its own, or no number."""
        index = number if piece.index is None else piece.index
        function = piece.function or _Function()
        started = self._ids.get(index)
        if piece.id and function.name and started not in (None, piece.id):
            index = next((i for i, id in self._ids.items() if id == piece.id), len(self._ids) + 1000)
            started = self._ids.get(index)
        if started is None and function.name:
            self._ids[index] = piece.id or ""
            more = {"signature": seal_of(piece.extra_content)} if piece.extra_content else {}
            yield from self._gather.call(index, piece.id or "", function.name, **more)
        given = function.arguments
        text = msgspec.json.encode(given).decode() if isinstance(given, dict) else given or ""
        if text or started is None:
            yield from self._gather.arguments(index, text)

    def _ended(self, why: Finish) -> Iterator[Event]:
        gather = self._gather
        if self._unwrap is not None:
            yield from gather.text(self._unwrap.end())
        if self._audio:
            yield from gather.whole(Opaque(dialect="openai", content={"type": "audio", "audio": self._audio}))
            self._audio = {}
        yield from gather.ended()
        yield from gather.all_called()
        gather.finish = why

    def end(self) -> Reply:
        reply = self._gather.end()
        parts = in_order(reply.message.parts)
        return scored(msgspec.structs.replace(reply, message=Message("assistant", parts)), self._request, self._wraps)


def in_order(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts as one message of this API has them: one thought, one text, one refusal, then the rest."""
    joined: list[Part] = []
    for kind in (Reasoning, Text, Refusal):
        mine = [part for part in parts if isinstance(part, kind)]
        if mine:
            more = {"citations": tuple(c for part in mine for c in part.citations)} if kind is Text else {}  # type: ignore[union-attr]
            joined.append(msgspec.structs.replace(mine[0], content="".join(part.content for part in mine), **more))
    rest = [part for part in parts if not isinstance(part, Reasoning | Text | Refusal)]
    return (*joined, *sorted(rest, key=lambda part: isinstance(part, ToolCall)))

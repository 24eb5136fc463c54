"""Google's Gemini, by generateContent and streamGenerateContent.

A piece of a stream has the form of a whole answer, so both are read by one reader. What Gemini 3 takes and the older
ones don't goes by the model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from weft.core.content import Citation, Text, ToolResult
from weft.model.dialect import Call, Decoder, Frame
from weft.model.dialect.body import given, merged, named_tool
from weft.model.dialect.gather import Gather, at_once, calls_in, checked, malformed, text_of
from weft.model.dialect.gemini_messages import UNSEALED, parts_of, read, written
from weft.model.dialect.likelihood import scored
from weft.model.dialect.lost import Lost
from weft.model.dialect.pairs import understood
from weft.model.dialect.refusal import Refusing
from weft.model.dialect.schema import ANSWER, answer_tool, is_object, unwrapped
from weft.model.dialect.seal import sealed
from weft.model.event import Event
from weft.model.message import Message, Opaque, Reasoning, Refusal
from weft.model.request import Effort, Finish, Likely, Reply, Request, Usage

_OLD = re.compile(r"(models/)?gemini-[12]\b")
"""Those that think for a number of tokens, take no image in a result and no schema beside tools."""
_BUDGETS: dict[Effort, int] = {"none": 0, "low": 1024, "medium": 8192, "high": 24576}
_FINISHES: dict[str, Finish] = {
    "STOP": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
        "content_filter",
    ),
    **dict.fromkeys(("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"), "content_filter"),
}
"""All others are faults: a call that makes no sense, and so on."""
_TOP = 20


class Gemini(Refusing):
    """The Gemini API."""

    name: ClassVar[str] = "gemini"
    framing: ClassVar[Literal["sse", "lines"]] = "sse"
    key: ClassVar[str] = "GEMINI_API_KEY"
    base: ClassVar[str] = "https://generativelanguage.googleapis.com"
    base_variable: ClassVar[str] = "GOOGLE_GEMINI_BASE_URL"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def call(self, model: str, request: Request, *, stream: bool) -> Call:
        lost = Lost(self.name)
        old = bool(_OLD.match(model))
        messages = _without_media(request.messages, lost) if old else request.messages
        body = written(messages, lost)
        if not old:
            _seal(body["contents"])
        config = given(
            temperature=request.temperature,
            topP=request.top_p,
            topK=request.top_k,
            maxOutputTokens=request.max_tokens,
            stopSequences=request.stop or None,
            seed=request.seed,
        )
        if request.score or request.logprobs is not None:
            config |= {"responseLogprobs": True, "logprobs": _TOP if request.score else request.logprobs}
        if request.effort is not None:
            config["thinkingConfig"] = _thinking(request.effort, old)
        body |= _answering(request, config, old, lost)
        if config:
            body["generationConfig"] = config
        path = model if "/" in model else f"models/{model}"
        way = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return Call(f"/v1beta/{path}:{way}", merged(body, request.extra), lost.words)

    def reply(self, answer: Any, request: Request) -> Reply:
        return at_once(_Decoder(self, request), answer, _Chunk, "Gemini's", "one of the Gemini API")

    def decoder(self, request: Request) -> Decoder:
        return _Decoder(self, request)

    def write(self, messages: Sequence[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
        lost = Lost(self.name)
        return written(messages, lost), lost.words

    def read(self, wire: Mapping[str, Any]) -> list[Message]:
        return understood(self.name, read(wire))


# --- the request ---


def _without_media(messages: Sequence[Message], lost: Lost) -> Sequence[Message]:
    """Without images and documents in results."""

    def plain(part: Any) -> Any:
        if not isinstance(part, ToolResult) or all(isinstance(piece, Text) for piece in part.response):
            return part
        lost("image or document in a tool result, for this model")
        words = tuple(piece for piece in part.response if isinstance(piece, Text))
        return msgspec.structs.replace(part, response=words)

    return [msgspec.structs.replace(message, parts=tuple(map(plain, message.parts))) for message in messages]


def _seal(contents: list[dict[str, Any]]) -> None:
    """The first call of each turn needs a seal; one that another model made gets the one for such calls."""
    for content in contents:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None:
            first.setdefault("thoughtSignature", UNSEALED)


def _thinking(effort: Effort, old: bool) -> dict[str, Any]:
    how = {"thinkingBudget": _BUDGETS[effort]} if old else {"thinkingLevel": "minimal" if effort == "none" else effort}
    return how | {"includeThoughts": effort != "none"}


def _answering(request: Request, config: dict[str, Any], old: bool, lost: Lost) -> dict[str, Any]:
    """The tools, how they are chosen, and the schema: as it is, or as a tool to answer with."""
    tools = list(request.tools)
    choice: dict[str, Any] = {"mode": {"required": "ANY", "none": "NONE"}.get(request.tool_choice, "AUTO")}
    if request.tool_choice not in ("auto", "none", "required"):
        choice = {"mode": "ANY", "allowedFunctionNames": [named_tool(request)]}
    if request.schema is not None and tools and old:
        tools.append(answer_tool(request.schema))
        if choice["mode"] == "NONE":
            choice = {"mode": "ANY", "allowedFunctionNames": [ANSWER]}
        elif choice["mode"] == "AUTO":
            choice = {"mode": "ANY"}
    elif request.schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": request.schema}
    if not tools:
        return {}
    if not request.parallel:
        lost("limit to one tool call at a time")
    declared = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.schema} for tool in tools
    ]
    body: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    return body if choice == {"mode": "AUTO"} else body | {"toolConfig": {"functionCallingConfig": choice}}


# --- answers and streams ---


class _Content(msgspec.Struct):
    parts: list[dict[str, Any]] | None = None


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Top(msgspec.Struct):
    candidates: list[_Token] = []


class _Likelihoods(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Top] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0
    citation_metadata: dict[str, Any] | None = None
    grounding_metadata: dict[str, Any] | None = None
    url_context_metadata: dict[str, Any] | None = None
    logprobs_result: _Likelihoods | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0
    tool_use_prompt_token_count: int = 0


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str = ""
    response_id: str = ""
    error: Any = None


_read_chunk = msgspec.json.Decoder(_Chunk).decode


class _Decoder:
    def __init__(self, dialect: Gemini, request: Request) -> None:
        self._gather = Gather(calls_in(request.messages))
        self._dialect = dialect
        self._request = request
        self._wraps = request.schema is not None and not is_object(request.schema)
        self._calls = 0
        self._text: list[str] = []
        """The text so far, in which places are counted."""
        self._about: dict[str, Any] = {}
        """What the provider tells of its own searches."""

    def feed(self, frame: Frame) -> Iterable[Event]:
        try:
            chunk = _read_chunk(frame.data)
        except msgspec.MsgspecError as error:
            raise malformed(frame, self._gather.model, error) from None
        return checked(self.chunk(chunk), frame, self._gather.model)

    def chunk(self, chunk: _Chunk) -> Iterator[Event]:
        """A piece of a stream, or a whole answer."""
        gather = self._gather
        if chunk.error is not None:
            raise self._dialect.error({"error": chunk.error}, gather.model)
        if chunk.candidates is None and chunk.prompt_feedback is None and chunk.usage_metadata is None:
            raise TypeError("it has no candidates")
        gather.model, gather.id = chunk.model_version or gather.model, chunk.response_id or gather.id
        if chunk.usage_metadata is not None:
            yield from gather.counted(_usage(chunk.usage_metadata))
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            why = chunk.prompt_feedback
            gather.begin(Refusal)
            yield from gather.refusal(why.block_reason_message or f"the prompt was blocked ({why.block_reason})")
            gather.finish = "content_filter"
        for candidate in chunk.candidates or ():
            if candidate.index == 0:
                yield from self._candidate(candidate)

    def _candidate(self, candidate: _Candidate) -> Iterator[Event]:
        gather = self._gather
        for part in (candidate.content.parts if candidate.content else None) or ():
            yield from self._part(part)
        for citation in _cited(candidate, self._text):
            gather.cite(citation)
        if candidate.logprobs_result is not None:
            gather.logprobs.extend(_likely(candidate.logprobs_result))
        if candidate.grounding_metadata:
            self._about["groundingMetadata"] = candidate.grounding_metadata
        if candidate.url_context_metadata:
            self._about["urlContextMetadata"] = candidate.url_context_metadata
        if candidate.finish_reason:
            yield from gather.ended()
            yield from gather.all_called()
            for name, about in self._about.items():
                yield from gather.whole(Opaque(dialect="gemini", content={name: about}))
            self._about = {}
            gather.finish = _FINISHES.get(candidate.finish_reason, "error")
            if gather.finish == "content_filter" and not self._text:
                why = candidate.finish_message or f"the answer was blocked ({candidate.finish_reason})"
                yield from gather.refusal(why)

    def _part(self, wire: dict[str, Any]) -> Iterator[Event]:
        gather = self._gather
        call = wire.get("functionCall")
        if call is not None:
            yield from self._call(call, wire.get("thoughtSignature") or "")
            return
        for part in parts_of(wire):
            match part:
                case Text(content=words):
                    self._text.append(words)
                    yield from gather.text(words)
                case Reasoning(hidden=False):
                    yield from gather.reasoning(part.content)
                    if part.signature:
                        gather.mark(Reasoning, signature=part.signature)
                        yield from gather.ended()
                case Reasoning():
                    gather.begin(Reasoning)
                    gather.mark(Reasoning, hidden=True, signature=part.signature)
                    yield from gather.ended()
                case _:
                    yield from gather.whole(part)

    def _call(self, call: Mapping[str, Any], seal: str) -> Iterator[Event]:
        """Calls come whole."""
        gather = self._gather
        written = text_of(call.get("args") or {})
        if call["name"] == ANSWER and self._request.schema is not None:
            yield from gather.text(unwrapped(written) if self._wraps else written)
            return
        number, self._calls = self._calls, self._calls + 1
        more = {"signature": sealed("gemini", seal)} if seal else {}
        yield from gather.call(number, call.get("id") or "", call["name"], **more)
        yield from gather.arguments(number, written)
        yield from gather.called(number)

    def end(self) -> Reply:
        return scored(self._gather.end(), self._request, False)


def _usage(said: _Usage) -> Usage:
    return Usage(
        input=said.prompt_token_count + said.tool_use_prompt_token_count,
        output=said.candidates_token_count + said.thoughts_token_count,
        cache_read=said.cached_content_token_count,
        reasoning=said.thoughts_token_count,
    )


def _likely(said: _Likelihoods) -> Iterator[Likely]:
    for number, chosen in enumerate(said.chosen_candidates):
        top = said.top_candidates[number].candidates if number < len(said.top_candidates) else []
        yield Likely(chosen.token, chosen.log_probability, tuple((each.token, each.log_probability) for each in top))


def _cited(candidate: _Candidate, text: list[str]) -> Iterator[Citation]:
    """What the text rests on. The provider counts bytes, and here characters are counted."""
    if not (candidate.citation_metadata or candidate.grounding_metadata):
        return
    content = "".join(text).encode()

    def place(index: int | None) -> int | None:
        return None if index is None else len(content[:index].decode(errors="ignore"))

    for cited in (candidate.citation_metadata or {}).get("citations") or ():
        more = {key: value for key, value in cited.items() if key not in ("uri", "title", "startIndex", "endIndex")}
        yield Citation(
            url=cited.get("uri") or "",
            title=cited.get("title") or "",
            start=place(cited.get("startIndex", 0)),
            end=place(cited.get("endIndex")),
            extra=more,
        )
    grounding = candidate.grounding_metadata or {}
    chunks = grounding.get("groundingChunks") or ()
    for support in grounding.get("groundingSupports") or ():
        segment = support.get("segment") or {}
        for index in support.get("groundingChunkIndices") or ():
            source: Mapping[str, Any] = next(iter(chunks[index].values()), {})
            yield Citation(
                url=source.get("uri") or "",
                title=source.get("title") or "",
                quote=segment.get("text") or "",
                start=place(segment.get("startIndex", 0)),
                end=place(segment.get("endIndex")),
            )

"""The reply that a stream adds up to, whatever the dialect: every decoder tells its events to a `Gather`.

It keeps the parts in the order in which they began, gives each tool call its number, joins the pieces, and refuses
what makes no sense (a piece of a call that never began). A call is told as `Called` once it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from weft.core.content import Citation, Text, ToolCall
from weft.core.errors import ModelError, ModelUnavailable
from weft.model.dialect import Frame
from weft.model.event import (
    CallDelta,
    Called,
    CallStarted,
    Counted,
    Event,
    PartDone,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal
from weft.model.request import Finish, Likely, Reply, Usage

C = TypeVar("C", contravariant=True)

_NO_OBJECT = "INVALID_JSON"


class _Words:
    """A text, thought or refusal under way."""

    def __init__(self, kind: type[Text] | type[Reasoning] | type[Refusal]) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.more: dict[str, Any] = {}
        """Other fields of the part: `signature`, `id`, `hidden`, `citations`."""
        self.told = False

    def part(self) -> Part:
        return self.kind(content="".join(self.pieces), **self.more)


class _Calling:
    """A tool call under way."""

    def __init__(self, index: int, id: str, name: str) -> None:
        self.index = index
        self.id = id
        self.name = name
        self.pieces: list[str] = []
        self.more: dict[str, Any] = {}
        self.whole: ToolCall | None = None

    def part(self) -> Part:
        return self.whole or ToolCall(
            id=self.id, name=self.name, arguments=arguments_of("".join(self.pieces)), **self.more
        )


class Gather:
    """What a stream has told so far. The methods return the events to pass on."""

    def __init__(self, calls_before: int = 0) -> None:
        self.model = ""
        self.id = ""
        self.usage = Usage()
        self.finish: Finish | None = None
        """Set by the decoder when the provider has said why it ended; without it the stream broke off."""
        self.logprobs: list[Likely] = []
        self._parts: list[_Words | _Calling | Part] = []
        self._calls: dict[Any, _Calling] = {}
        self._count = 0
        self._calls_before = calls_before
        """How many calls the conversation held before: those without an id are numbered through all of it."""

    # --- words ---

    def text(self, piece: str) -> Iterator[Event]:
        if piece:
            self._words(Text).pieces.append(piece)
            yield TextDelta(piece)

    def reasoning(self, piece: str) -> Iterator[Event]:
        if piece:
            self._words(Reasoning).pieces.append(piece)
            yield ReasoningDelta(piece)

    def refusal(self, piece: str) -> Iterator[Event]:
        if piece:
            self._words(Refusal).pieces.append(piece)
            yield RefusalDelta(piece)

    def _words(self, kind: type[Text] | type[Reasoning] | type[Refusal]) -> _Words:
        last = self._parts[-1] if self._parts else None
        if not (isinstance(last, _Words) and last.kind is kind):
            last = _Words(kind)
            self._parts.append(last)
        return last

    def begin(self, kind: type[Text] | type[Reasoning] | type[Refusal]) -> _Words:
        """A new part of words begins here, even if the last one was of the same kind."""
        words = _Words(kind)
        self._parts.append(words)
        return words

    def mark(self, kind: type[Text] | type[Reasoning], **more: Any) -> None:
        """Say something of the part of words that is under way (or of an empty new one): its `signature`, `id`,
        `hidden`, `citations`."""
        self._words(kind).more.update(more)

    def cite(self, citation: Citation, words: _Words | None = None) -> None:
        """A text (the last one) rests on this."""
        if words is None:
            texts = (part for part in reversed(self._parts) if isinstance(part, _Words) and part.kind is Text)
            words = next(texts, None) or self._words(Text)
        words.more["citations"] = (*words.more.get("citations", ()), citation)

    def ended(self) -> Iterator[Event]:
        """The parts of words so far have ended: those that hold more than words are told."""
        for part in self._parts:
            if isinstance(part, _Words) and part.more and not part.told:
                part.told = True
                yield PartDone(part.part())

    def whole(self, part: Part) -> Iterator[Event]:
        """A part that comes in one piece."""
        self._parts.append(part)
        yield PartDone(part)

    # --- calls ---

    def call(self, key: Any, id: str, name: str, **more: Any) -> Iterator[Event]:
        """A call begins; `key` is how the provider tells its calls apart. Without an id it gets one."""
        calling = _Calling(self._count, id or f"call_{self._calls_before + self._count}", name)
        calling.more.update(more)
        self._count += 1
        self._calls[key] = calling
        self._parts.append(calling)
        yield CallStarted(calling.index, calling.id, name)

    def has(self, key: Any) -> bool:
        """Whether a call with this key has begun."""
        return key in self._calls

    def arguments(self, key: Any, piece: str) -> Iterator[Event]:
        """More of the arguments of a call."""
        if key not in self._calls:
            raise ModelError(
                f"{self.model or 'the model'} sent arguments of a tool call that it had not begun ({piece[:40]!r})"
            )
        if piece:
            calling = self._calls[key]
            calling.pieces.append(piece)
            yield CallDelta(calling.index, piece)

    def called(self, key: Any, **more: Any) -> Iterator[Event]:
        """The call is whole."""
        calling = self._calls.get(key)
        if calling is not None and calling.whole is None:
            calling.more.update(more)
            if not calling.pieces:
                yield CallDelta(calling.index, "{}")
            whole = calling.part()
            assert isinstance(whole, ToolCall)
            calling.whole = whole
            yield Called(calling.index, whole)

    def all_called(self) -> Iterator[Event]:
        """Every call that has begun is whole: for providers that don't say so of each."""
        for key in [*self._calls]:
            yield from self.called(key)

    # --- the end ---

    def counted(self, usage: Usage) -> Iterator[Event]:
        if usage != self.usage:
            self.usage = usage
            yield Counted(usage)

    def end(self) -> Reply:
        """The reply. Raises ModelUnavailable if the provider never said that it had finished."""
        if self.finish is None:
            raise ModelUnavailable(f"the stream of {self.model or 'the model'} broke off before its end; ask again")
        gathered = (part.part() if isinstance(part, _Words | _Calling) else part for part in self._parts)
        parts = tuple(part for part in gathered if not is_empty(part))
        return Reply(
            message=Message("assistant", parts),
            finish=finish_of(self.finish, parts),
            usage=self.usage,
            model=self.model,
            id=self.id,
            logprobs=tuple(self.logprobs),
        )


def checked(events: Iterable[Event], frame: Frame, model: str) -> list[Event]:
    """The events of this frame. Raises ModelError if what it holds is not what its type promises."""
    try:
        return [*events]
    except ModelError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise malformed(frame, model, error) from None


def malformed(frame: Frame, model: str, error: Exception) -> ModelError:
    """The error that a frame is which makes no sense."""
    return ModelError(
        f"{model or 'the server'} sent {frame.data[:80]!r}, which is no piece of a stream in this dialect ({error}); "
        "check that the address is one of this API"
    )


def is_empty(part: Part) -> bool:
    """Whether there is nothing in it."""
    return isinstance(part, Text | Reasoning | Refusal) and part == type(part)(content="")


def finish_of(said: Finish, parts: tuple[Part, ...]) -> Finish:
    """A reply with calls ended to have them called, whatever the provider calls it (some say "stop"), and one without
    did not (its one call may have been the answer)."""
    if said == "stop" and any(isinstance(part, ToolCall) for part in parts):
        return "tool_call"
    if said == "tool_call" and not any(isinstance(part, ToolCall | Opaque) for part in parts):
        return "stop"
    return said


def arguments_of(text: str) -> dict[str, Any] | str:
    """The arguments that a model wrote: an object, or the text itself if it is none. Nothing means none."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, dict) else text


def text_of(arguments: dict[str, Any] | str) -> str:
    """The other way."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def object_of(arguments: dict[str, Any] | str) -> dict[str, Any]:
    """The arguments for providers that take only an object back."""
    return {_NO_OBJECT: arguments} if isinstance(arguments, str) else arguments


def arguments_in(given: dict[str, Any]) -> dict[str, Any] | str:
    """The other way."""
    text = given.get(_NO_OBJECT)
    return text if isinstance(text, str) and len(given) == 1 else given


def calls_in(messages: Sequence[Message]) -> int:
    """How many tool calls there are."""
    return sum(isinstance(part, ToolCall) for message in messages for part in message.parts)


class Chunked(Protocol[C]):
    """A decoder whose frames have the form of a whole answer."""

    def chunk(self, chunk: C, /) -> Iterable[Event]: ...
    def end(self) -> Reply: ...


def at_once(decoder: Chunked[C], answer: Any, kind: type[C], whose: str, where: str) -> Reply:
    """The reply in an answer that is one such frame. Raises ModelError if it is none of `whose` answers; `where`: what
    the address should be."""
    try:
        for _ in decoder.chunk(msgspec.convert(answer, kind)):
            pass
        return decoder.end()
    except (msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"the server answered something that is none of {whose} answers ({error}): {str(answer)[:80]!r}; "
            f"check that the address is {where}"
        ) from error

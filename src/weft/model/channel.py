"""The way of a stream's events from the generation, a step on the host, to the body that reads them.

The generation is one step, journaled with its whole reply as any other. What the body reads meanwhile are steps, too:
each takes all that came since the one before, and is journaled, so a replay sees the same pieces in the same order.
The channel itself lives in memory, and dies with the process. The generation that runs anew after a crash finds
a new one, to which the replayed body has told what it had read: it begins again (`Restarted`), or, if a tool call
had been read by then, ends with what had been read, for the call may have been carried out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from weft.core.content import Text, ToolCall
from weft.core.step import primitive
from weft.model.dialect.gather import text_of
from weft.model.event import (
    CallDelta,
    Called,
    CallStarted,
    Counted,
    Event,
    PartDone,
    ReasoningDelta,
    RefusalDelta,
    Restarted,
    TextDelta,
)
from weft.model.message import Message, Part, Reasoning, Refusal
from weft.model.request import Reply, Usage


class Batch(msgspec.Struct, frozen=True):
    """What came since the last look. `end`: nothing more will."""

    events: list[Event] = []
    end: bool = False


class Channel:
    """One stream in this process."""

    def __init__(self) -> None:
        self.waiting: list[Event] = []
        self.told: list[Event] = []
        """What the body has read, in this life and in those before."""
        self.sent: list[Event] = []
        """What this attempt has put in."""
        self.first: float | None = None
        """When it put in the first, by `time.perf_counter`."""
        self.closed = False
        self.begun = False
        self._news = asyncio.Event()

    def put(self, events: Sequence[Event]) -> None:
        """From the generation."""
        if events:
            if not self.sent:
                self.first = time.perf_counter()
            self.waiting += events
            self.sent += events
            self._news.set()

    async def offer(self, events: Sequence[Event]) -> None:
        """The same, while more may come at once: as long as nothing was read, who reads goes first."""
        self.put(events)
        if events and not self.told:
            await asyncio.sleep(0)

    def finish(self, reply: Reply) -> None:
        """Put in what of this reply was not put in yet."""
        self.put([*rest_of(reply, self.sent)])

    def begin(self) -> None:
        """An attempt begins. If something was heard of an earlier one, that is void."""
        if self.begun or self.told:
            why = "the attempt before broke off" if self.begun else "the process that read it died"
            self.waiting = [Restarted(why)]
            self._news.set()
        self.begun = True
        self.sent, self.first = [], None

    def close(self) -> None:
        """Nothing more comes."""
        self.closed = True
        self._news.set()

    async def take(self) -> Batch:
        """All that came since the last time; waits for something."""
        while not self.waiting and not self.closed:
            self._news.clear()
            await self._news.wait()
        events, self.waiting = self.waiting, []
        return Batch(events, self.closed)

    @property
    def called(self) -> Reply | None:
        """The reply as far as it was read, if a tool call was."""
        if not any(isinstance(event, Called) for event in since_restart(self.told)):
            return None
        return Reply(message=Message("assistant", tuple(read_parts(self.told))), finish="interrupted")


channels: dict[str, Channel] = {}
"""The streams of this interpreter, by key."""


def channel(key: str) -> Channel:
    """The channel with this key, made when first asked for."""
    return channels.setdefault(key, Channel())


@primitive(name="generate.events", effect="pure", needs=())
async def events(key: str, number: int) -> Batch:
    """The events of a stream since the last look, number `number` of it. `weft.model.stream` calls it."""
    return await channel(key).take()


# --- what a list of events says -------------------------------------------------------------------------------------


def events_of(reply: Reply) -> Iterator[Event]:
    """A whole reply as events: each part in one piece; what is known of words at their end only (seals, citations)
    last, as in a stream."""
    index = 0
    sealed: list[Event] = []
    for part in reply.message.parts:
        if isinstance(part, ToolCall):
            yield CallStarted(index, part.id, part.name)
            yield CallDelta(index, text_of(part.arguments))
            yield Called(index, part)
            index += 1
        elif isinstance(part, Text | Reasoning | Refusal):
            if part.content:
                yield _WORDS[type(part)](part.content)
            if part != type(part)(content=part.content):
                sealed.append(PartDone(part))
        else:
            yield PartDone(part)
    yield from sealed
    if reply.usage != Usage():
        yield Counted(reply.usage)


_WORDS: dict[type, Any] = {Text: TextDelta, Reasoning: ReasoningDelta, Refusal: RefusalDelta}
_KINDS: dict[type, Any] = {delta: part for part, delta in _WORDS.items()}


def since_restart(told: Sequence[Event]) -> Sequence[Event]:
    """The events of the last attempt."""
    for number in range(len(told) - 1, -1, -1):
        if isinstance(told[number], Restarted):
            return told[number + 1 :]
    return told


def read_parts(told: Sequence[Event]) -> list[Part]:
    """The parts that were read: words as far as they came, calls that had ended."""
    parts: list[Part] = []
    for event in since_restart(told):
        last = parts[-1] if parts else None
        if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
            kind = _KINDS[type(event)]
            if isinstance(last, Text | Reasoning | Refusal) and type(last) is kind:
                parts[-1] = msgspec.structs.replace(last, content=last.content + event.text)
            else:
                parts.append(kind(content=event.text))
        elif isinstance(event, Called):
            parts.append(event.call)
        elif isinstance(event, PartDone):
            words = [n for n, part in enumerate(parts) if type(part) in _WORDS and _same_words(part, event.part)]
            if words:
                parts[words[0]] = event.part
            else:
                parts.append(event.part)
    return parts


def _same_words(part: Part, sealed: Part) -> bool:
    return type(part) is type(sealed) and getattr(part, "content", "") == getattr(sealed, "content", None)


def rest_of(reply: Reply, told: Sequence[Event]) -> Iterator[Event]:
    """What was not read yet of a reply that is known whole, after these events of it."""
    heard = [*since_restart(told)]
    length: dict[object, int] = {}
    for event in heard:
        if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
            length[type(event)] = length.get(type(event), 0) + len(event.text)
        elif isinstance(event, CallDelta):
            length[event.index] = length.get(event.index, 0) + len(event.text)
    whole = [event for event in heard if not isinstance(event, TextDelta | ReasoningDelta | RefusalDelta | CallDelta)]
    called = {event.index for event in whole if isinstance(event, Called)}
    for event in events_of(reply):
        if isinstance(event, CallDelta) and event.index in called:
            continue  # a model may write its JSON longer or shorter than we do
        if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta | CallDelta):
            kind: object = event.index if isinstance(event, CallDelta) else type(event)
            skipped = min(length.get(kind, 0), len(event.text))
            length[kind] = length.get(kind, 0) - skipped
            if skipped < len(event.text):
                yield msgspec.structs.replace(event, text=event.text[skipped:])
        elif event not in whole:
            yield event

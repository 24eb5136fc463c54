"""A generation as it comes: typed events, the same for every provider, and the reply that they add up to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from weft.core.content import Text, ToolCall
from weft.model.message import Part, Reasoning, Refusal
from weft.model.request import Reply, Usage


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event"):
    pass


class TextDelta(_Event, frozen=True, tag="text"):
    """More words of the answer."""

    text: str


class ReasoningDelta(_Event, frozen=True, tag="reasoning"):
    """More of what the model thinks."""

    text: str


class RefusalDelta(_Event, frozen=True, tag="refusal"):
    """More words of a refusal."""

    text: str


class CallStarted(_Event, frozen=True, tag="call_started"):
    """The model began to write a tool call. `index` counts the calls of this reply from 0."""

    index: int
    id: str
    name: str


class CallDelta(_Event, frozen=True, tag="call_delta"):
    """More JSON of the arguments of call number `index`."""

    index: int
    text: str


class Called(_Event, frozen=True, tag="called"):
    """Call number `index` is whole, and may be carried out."""

    index: int
    call: ToolCall


class PartDone(_Event, frozen=True, tag="part"):
    """A part that comes whole: an image, something opaque; or the end of a part with what comes at its end only (the
    seal of a thought, the citations of a text)."""

    part: Part


class Counted(_Event, frozen=True, tag="usage"):
    """Tokens so far; the last one counts."""

    usage: Usage


class Restarted(_Event, frozen=True, tag="restarted"):
    """The generation began anew (the connection or the process broke before its end): forget what came before."""

    why: str


class Finished(_Event, frozen=True, tag="finished"):
    """The end. `reply` is the same as that of a generation that is not streamed."""

    reply: Reply


Event = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | CallStarted
    | CallDelta
    | Called
    | PartDone
    | Counted
    | Restarted
    | Finished
)


def coalesce(events: Iterable[Event]) -> list[Event]:
    """What a consumer that looks once at the end sees, the same whatever the pieces were: neighbouring deltas joined,
    all of a call where it began, the last count at the end, and nothing from before a restart."""
    joined: list[Event] = []
    calls: dict[int, list[CallStarted | CallDelta | Called]] = {}
    counted: Counted | None = None
    finished: Finished | None = None
    for event in events:
        last = joined[-1] if joined else None
        match event:
            case Restarted():
                joined, calls, counted, finished = [], {}, None, None
            case TextDelta() | ReasoningDelta() | RefusalDelta() if type(last) is type(event):
                joined[-1] = type(event)(last.text + event.text)  # type: ignore[union-attr]
            case CallStarted():
                joined.append(event)
                calls[event.index] = []
            case CallDelta() | Called():
                calls.setdefault(event.index, []).append(event)
            case Counted():
                counted = event
            case Finished():
                finished = event
            case _:
                joined.append(event)
    whole: list[Event] = []
    for event in joined:
        whole.append(event)
        if isinstance(event, CallStarted):
            whole += _call(calls[event.index])
    return [*whole, *(event for event in (counted, finished) if event is not None)]


def _call(events: list[CallStarted | CallDelta | Called]) -> list[Event]:
    deltas = [event for event in events if isinstance(event, CallDelta)]
    written = "".join(event.text for event in deltas)
    rest: list[Event] = [event for event in events if not isinstance(event, CallDelta)]
    return [CallDelta(deltas[0].index, written), *rest] if written else rest


def told(reply: Reply) -> list[Event]:
    """The events of a reply that was not streamed: those that a stream of it comes to."""
    events: list[Event] = []
    index = 0
    for part in reply.message.parts:
        match part:
            case Text(content=words):
                events += [TextDelta(words)] * bool(words) + [PartDone(part)] * bool(part.citations)
            case Reasoning(content=words):
                events += [ReasoningDelta(words)] * bool(words)
                events += [PartDone(part)] * (part != Reasoning(content=words))
            case Refusal(content=words):
                events.append(RefusalDelta(words))
            case ToolCall(id=id, name=name, arguments=arguments):
                written = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
                events += [CallStarted(index, id, name), CallDelta(index, written), Called(index, part)]
                index += 1
            case _:
                events.append(PartDone(part))
    if reply.usage != Usage():
        events.append(Counted(reply.usage))
    return coalesce([*events, Finished(reply)])

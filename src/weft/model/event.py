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
    """What a consumer that looks once at the end sees, the same whatever the pieces were and whatever the dialect:
    neighbouring deltas joined, all of a call where it began, then what is known of words at their end only, then the
    last count; and nothing from before a restart."""
    joined: list[Event] = []
    calls: dict[int, list[Event]] = {}
    sealed: list[Event] = []
    counted: list[Event] = []
    finished: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        match event:
            case Restarted():
                joined, calls, sealed, counted, finished = [], {}, [], [], []
            case TextDelta() | ReasoningDelta() | RefusalDelta() if type(last) is type(event):
                joined[-1] = type(event)(last.text + event.text)
            case CallStarted():
                joined.append(event)
                calls[event.index] = []
            case CallDelta() | Called():
                calls.setdefault(event.index, []).append(event)
            case PartDone(part=Text() | Reasoning() | Refusal()):
                sealed.append(event)
            case Counted():
                counted = [event]
            case Finished():
                finished = [event]
            case _:
                joined.append(event)
    whole: list[Event] = []
    for event in joined:
        whole.append(event)
        if isinstance(event, CallStarted):
            whole += _one_delta(event.index, calls[event.index])
    return [*whole, *sealed, *counted, *finished]


def _one_delta(index: int, events: list[Event]) -> list[Event]:
    """The pieces of a call as one: of a whole call, its arguments as they are understood."""
    called = next((event for event in events if isinstance(event, Called)), None)
    if called is None:
        written = "".join(event.text for event in events if isinstance(event, CallDelta))
        return [CallDelta(index, written)] if written else []
    given = called.call.arguments
    return [CallDelta(index, given if isinstance(given, str) else msgspec.json.encode(given).decode()), called]

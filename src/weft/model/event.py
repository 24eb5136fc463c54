"""A generation as it comes: typed events, the same for every provider, and the reply that they add up to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from weft.core.content import ToolCall
from weft.model.message import Part
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
    """The same events with neighbouring deltas joined, and nothing from before a restart: what a consumer that
    looks once at the end sees."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Restarted):
            joined.clear()
        elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta) and type(last) is type(event):
            joined[-1] = type(event)(last.text + event.text)
        elif isinstance(event, CallDelta) and isinstance(last, CallDelta) and last.index == event.index:
            joined[-1] = CallDelta(event.index, last.text + event.text)
        elif isinstance(event, Counted) and isinstance(last, Counted):
            joined[-1] = event
        else:
            joined.append(event)
    return joined

"""Can it have been so? An effect before its cause, and an actor in two places at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from weft.trace.causal.events import Event


class Violation(msgspec.Struct, frozen=True):
    """`event` can't be, because of `other`: it began before that one, its cause, was over (`cause`); or an `actor` was
    still at the other one (`overlap`); or it ends before it begins (`backwards`: `other` is the event itself)."""

    kind: Literal["cause", "overlap", "backwards"]
    event: str
    other: str
    actor: str = ""


def violations(events: Iterable[Event], slack: float = 0.0) -> list[Violation]:
    """All violations, in the order of the events' beginning. `slack`: seconds that clocks may be apart. A cause that is
    not among the events is none. n log n in the number of events."""
    ordered = sorted(events, key=lambda one: (one.begin, one.end))
    known = {event.id: event for event in ordered}
    busy: dict[str, Event] = {}
    found: list[Violation] = []
    for event in ordered:
        if event.end < event.begin:
            found.append(Violation("backwards", event.id, event.id))
        for id in event.causes:
            cause = known.get(id)
            if cause is not None and cause.end > event.begin + slack:
                found.append(Violation("cause", event.id, id))
        for actor in event.actors:
            before = busy.get(actor)
            if before is not None and before.end > event.begin + slack:
                found.append(Violation("overlap", event.id, before.id, actor))
            if before is None or event.end > before.end:
                busy[actor] = event
    return found

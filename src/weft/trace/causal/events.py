"""Events and their causes: of a journal, what each effect came from.

An event is caused by

- **process**: the effect that was issued before it in its line of control, and the ends of the lines it waited for (the
  edges of `weft.trace.graph.realised`); for a child's first effects, the effect that started the child, for the wait
  for a child, the child's last ones;
- **artefact**: the commit that wrote the version of a cell of shared memory which it read (the journal tells);
  whoever published the event that it waited for.

What it can't see: files that steps write without saying so, and letters whose sender is not in the family of the run.
Times are those of the body's clock, so a cause never lies after what came of it within one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from weft.core.codec import decode_plain
from weft.core.record import Outcome
from weft.store.base import Store, bytes_of
from weft.trace.graph.realised import graph_of
from weft.trace.reading import Node, read_records, read_run

TOUCH = frozenset({"memory.read", "memory.commit", "publish", "event"})
"""Effects that read or write something which others can."""

WAITS = frozenset({"child", "event", "receive"})
"""An effect of these kinds is a wait; as an event it happens when what it waited for came."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. Times are seconds of any origin, the same for all events.

    `actors`: who took part; none of them can do something else in the meantime. `causes`: ids of the events that it
    came from. `reads`, `writes`: artefacts, such as cells, files and letters. `incident`: what it belongs to, if
    anything.
    """

    id: str
    name: str = ""
    actors: tuple[str, ...] = ()
    begin: float = 0.0
    end: float = 0.0
    causes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    incident: str = ""


async def chain_of(store: Store, run: str) -> list[Event]:
    """The effects of a run and its children as events, in the order of their beginning. Each line of control is an
    actor. Raises UnknownRun."""
    nodes = [node async for node in read_run(store, run)]
    touched = Touched()
    for node in nodes:
        if not node.effect:
            await touched.read(store, node.run)
    return events_of(nodes, touched)


class Touched:
    """What effects read and wrote, by their ids. A version of a cell is an artefact of its own: who read it, read what
    that commit had written."""

    def __init__(self) -> None:
        self.reads: dict[str, list[str]] = {}
        self.writes: dict[str, list[str]] = {}

    async def read(self, store: Store, run: str) -> None:
        """Add those of one journal."""
        async for _, record in read_records(store, run):
            if type(record) is Outcome and record.ok and record.kind in TOUCH:
                value = decode_plain(await bytes_of(store, record.value), True)
                id = f"{run}:{record.effect}"
                match record.kind:
                    case "memory.read" if value["operation"]:
                        self.reads.setdefault(id, []).append(f"operation {value['operation']}")
                    case "memory.commit" if value["at"] and value["versions"]:
                        self.writes.setdefault(id, []).append(f"operation {value['operation']}")
                    case "publish":
                        self.writes.setdefault(id, []).append(f"event {record.name}")
                    case "event":
                        self.reads.setdefault(id, []).append(f"event {record.name}")


def events_of(nodes: Sequence[Node], touched: Touched) -> list[Event]:
    """The same, of nodes and of what they touched."""
    causes: dict[str, list[str]] = {}
    for edge in graph_of(nodes).edges:
        causes.setdefault(edge.target, []).append(edge.source)
    latest = max((node.ended for node in nodes if node.ended is not None), default=0.0)
    found = []
    for node in nodes:
        if node.effect:
            line = ".".join(map(str, node.line)) or "1"
            end = max(node.issued, latest if node.ended is None else node.ended)
            found.append(
                Event(
                    id=node.id, name=node.name or node.kind, actors=(f"{node.run}/{line}",),
                    begin=end if node.kind in WAITS else node.issued, end=end,
                    causes=tuple(causes.get(node.id, ())), reads=tuple(touched.reads.get(node.id, ())),
                    writes=tuple(touched.writes.get(node.id, ())),
                )
            )  # fmt: skip
    return artefacts(found)


def artefacts(events: Iterable[Event]) -> list[Event]:
    """The events in the order of their beginning, each with one more cause for each artefact that it read: the event
    that had written it last when it began."""
    ordered = sorted(events, key=lambda one: (one.begin, one.end))
    writes: dict[str, list[Event]] = {}
    for event in sorted(ordered, key=lambda one: one.end):
        for name in event.writes:
            writes.setdefault(name, []).append(event)
    found = []
    for event in ordered:
        more = dict.fromkeys(event.causes)
        for name in event.reads:
            before = [one for one in writes.get(name, ()) if one.end <= event.begin and one.id != event.id]
            if before:
                more[before[-1].id] = None
        found.append(msgspec.structs.replace(event, causes=tuple(more)))
    return found


def ancestry(events: Iterable[Event], id: str) -> list[Event]:
    """All events that one came from, itself too, the earliest first. Causes that are not there are left out."""
    known: Mapping[str, Event] = {event.id: event for event in events}
    waiting, seen = [id], {id}
    while waiting:
        event = known.get(waiting.pop())
        for cause in event.causes if event is not None else ():
            if cause not in seen:
                seen.add(cause)
                waiting.append(cause)
    return sorted((known[one] for one in seen if one in known), key=lambda event: (event.begin, event.end))

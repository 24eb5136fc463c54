"""Histories from OpenTelemetry: whose spans they are, which of them make one operation, in what order.

What single spans say stands in `weft.trace.conventions`. Put together they are read so:

- *Agents.* A span belongs to the innermost `invoke_agent` span around it, unless it, or one in between, names another
  agent; without one, to the agent that it or the innermost span around it names; else to the root of its trace. The
  agent is called by `gen_ai.agent.id`, else its name; invocations of that name at the same time, none within the
  other, are different agents.
- *Operations.* A span with `weft.operation`, or that both reads and writes, is one, with all below it. All else of an
  agent is cut into turns: a generation, and what is done until the next; where no generation is traced, spans that
  overlap. A turn is one operation. It commits when its last write took effect. What the agent read since its last
  write belongs to the turn that writes next (of each cell what was read last), or to the last generation after it, if
  no write follows.
- *Order of tools.* Calls are issued in the order of the assistant's message, where that was recorded
  (`gen_ai.output.messages`), else in the order in which they started. They take effect when they end; one that failed
  took no effect.

Times are milliseconds since the first span.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from weft.core.errors import BadInput
from weft.core.memory import LEVELS
from weft.trace import conventions as says
from weft.trace.conventions import Access
from weft.trace.history import Call, Operation, Read, Write, flaw, read_history
from weft.trace.published import MARK, read_published
from weft.trace.spans import Span, is_spans, json_values, read_spans


def load_history(path: str | Path) -> list[Operation]:
    """The history of a file in any form that is known. Raises BadInput, also if nothing in it can be judged."""
    _, first = next(json_values(Path(path)), (0, None))
    if not is_spans(first):
        if isinstance(first, dict) and "agent" not in first and "id" not in first:
            raise BadInput(f"{path} is neither a history (JSON lines) nor spans of OpenTelemetry (OTLP's JSON)")
        history = read_published(path) if isinstance(first, dict) and MARK in first else read_history(path)
        if not history:
            raise BadInput(f"{path} holds no operation")
        return history
    spans = read_spans(path)
    try:
        history = operations(spans)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not history:
        raise BadInput(f"{path} holds no operation: none of its {len(spans):,} spans calls a tool, reads or writes")
    return history


def operations(spans: Sequence[Span]) -> list[Operation]:
    """The history that spans tell. Raises BadInput if what they say of an operation can't be."""
    tree = _Tree(spans)
    origin = min((span.start for span in spans), default=0)
    found = [one for part in tree.parts() for one in part.operations(origin)]
    for one in found:
        if (what := flaw(one)) is not None:
            raise BadInput(f"operation {one.id!r} of the spans is impossible: {what}")
    if twice := [id for id, count in Counter(one.id for one in found).items() if count > 1]:
        raise BadInput(f"more than one span is the operation {twice[0]!r}")
    return sorted(found, key=lambda one: (one.begin, one.end))


class _Turn(NamedTuple):
    """A generation, if it is traced, and what is done until the next one."""

    generation: Span | None
    spans: list[Span]

    def knows_registry(self) -> bool:
        return self.generation is not None and _tools_at_end(self.generation) is not None


class _Part(msgspec.Struct):
    """Spans that belong together: those of one operation (`whole`), or of one invocation of an agent.

    `guests`: ids of calls among them that are operations of their own; what they read and write counts there.
    """

    agent: str
    head: Span
    whole: bool
    spans: list[Span]
    guests: set[str]

    def operations(self, origin: int) -> Iterator[Operation]:
        if self.whole:
            yield self._marked(origin)
            return
        pending: list[Access] = []
        turns = list(self._turns())
        for number, turn in enumerate(turns):
            found = self._accesses(turn.spans)
            writes = [a for a in found if a.kind == "write"]
            pending += [a for a in found if a.kind == "read"]
            until = max((a.at for a in writes), default=None)
            used = [] if until is None else [a for a in pending if a.at <= until]
            pending = pending if until is None else [a for a in pending if a.at > until]
            if used or writes or any(map(says.is_call, turn.spans)) or turn.knows_registry():
                yield self._turn(f"{self.head.id}/{number}", turn, used, writes, until, origin)
        if pending:
            yield self._answer(turns, pending, origin)

    def _accesses(self, spans: Iterable[Span]) -> list[Access]:
        own = (span for span in spans if span.id not in self.guests)
        return sorted((one for span in own for one in says.accesses(span)), key=lambda one: one.at)

    def _turns(self) -> Iterator[_Turn]:
        generations = sorted((s for s in self.spans if says.is_generation(s)), key=lambda s: s.start)
        others = [span for span in self.spans if not says.is_generation(span)]
        if not generations:
            yield from (_Turn(None, group) for group in _overlapping(others))
            return
        by_call = {one.id: n for n, span in enumerate(generations) for one in says.asked(span) if one.id}
        ends = sorted(generation.end for generation in generations)
        groups: list[list[Span]] = [[] for _ in range(len(generations) + 1)]
        for span in others:
            known = by_call.get(says.call_id(span)) if says.is_call(span) else None
            before = bisect_right(ends, _moment(span))
            groups[before if known is None else known + 1].append(span)
        yield _Turn(None, groups[0])
        yield from map(_Turn, generations, groups[1:])

    def _turn(
        self, id: str, turn: _Turn, reads: list[Access], writes: list[Access], until: int | None, origin: int
    ) -> Operation:
        asked = [] if turn.generation is None else says.asked(turn.generation)
        calls = [span for span in turn.spans if says.is_call(span)]
        moments = [span.start for span in (turn.generation, *calls) if span is not None] + [a.at for a in reads]
        ends = [span.end for span in calls] or [turn.generation.end if turn.generation is not None else 0]
        end = max(ends) if until is None else until
        begin = min([*moments, *(a.at for a in writes)])
        return Operation(
            id,
            self.agent,
            _ms(begin, origin),
            _ms(max(end, begin), origin),
            _reads(reads, writes, origin),
            _writes(writes),
            tuple(_calls(calls, asked, origin)),
            tools={} if turn.generation is None else says.tools(turn.generation),
            tools_at_end=None if turn.generation is None else _tools_at_end(turn.generation),
            planned=tuple(dict.fromkeys(one.name for one in asked if one.name)),
        )

    def _answer(self, turns: Sequence[_Turn], reads: list[Access], origin: int) -> Operation:
        """What was read and never followed by a write: the last generation after it was made of it."""
        last = max(a.at for a in reads)
        end = max([last, *(t.generation.end for t in turns if t.generation is not None and t.generation.start >= last)])
        begin = min(a.at for a in reads)
        return Operation(
            f"{self.head.id}/answer", self.agent, _ms(begin, origin), _ms(end, origin), _reads(reads, [], origin)
        )

    def _marked(self, origin: int) -> Operation:
        found = self._accesses(self.spans)
        writes = [a for a in found if a.kind == "write"]
        end = max((a.at for a in writes), default=self.head.end)
        reads = [a for a in found if a.kind == "read" and a.at <= end]
        calls = [span for span in self.spans if says.is_call(span) and span is not self.head]
        asked = [one for span in self.spans if says.is_generation(span) for one in says.asked(span)]
        attributes = self.head.attributes
        return Operation(
            str(attributes.get("weft.operation") or self.head.id),
            self.agent,
            _ms(self.head.start, origin),
            _ms(end, origin),
            _reads(reads, writes, origin),
            _writes(writes),
            tuple(_calls(calls, asked, origin)),
            says.tools(self.head),
            _tools_at_end(self.head),
            tuple(dict.fromkeys([*_names(attributes.get("weft.planned")), *(one.name for one in asked if one.name)])),
            _names(attributes.get("weft.predecessors")),
            attributes.get("weft.retracted") in (True, "true"),
            _level(self.head),
        )


class _Tree:
    """Which span belongs to which part."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.by_id = {(span.trace, span.id): span for span in spans}
        self.named: dict[tuple[str, str], Span] = {}
        self.wholes = {key for key, span in self.by_id.items() if _is_whole(span)}

    def parts(self) -> list[_Part]:
        grouped: dict[tuple[str, str, bool], list[Span]] = {}
        guests: dict[tuple[str, str, bool], set[str]] = {}
        for span in self.spans:
            head, whole = self._head(span)
            grouped.setdefault((head.trace, head.id, whole), []).append(span)
            around = self._parent(span)
            if head is span and whole and says.is_call(span) and around is not None:  # a call of those around it, too
                head, whole = self._head(around)
                grouped.setdefault((head.trace, head.id, whole), []).append(span)
                guests.setdefault((head.trace, head.id, whole), set()).add(span.id)
        units = {key: self._unit(self.by_id[key[:2]]) for key in grouped}
        names = self._names(units.values())
        return [
            _Part(names[units[key].trace, units[key].id], self.by_id[key[:2]], key[2], spans, guests.get(key, set()))
            for key, spans in grouped.items()
        ]

    def _parent(self, span: Span) -> Span | None:
        return self.by_id.get((span.trace, span.parent or ""))

    def _up(self, span: Span) -> Iterator[Span]:
        """A span and those around it, from the inside out."""
        seen: set[str] = set()
        at: Span | None = span
        while at is not None and at.id not in seen:
            seen.add(at.id)
            yield at
            at = self._parent(at)

    def _head(self, span: Span) -> tuple[Span, bool]:
        for at in self._up(span):
            if (at.trace, at.id) in self.wholes:
                return at, True
            if says.is_agent(at):
                break
        unit = self._unit(span)
        name = None if says.is_agent(unit) else says.agent(unit)
        return unit if name is None else self.named.setdefault((span.trace, name), unit), False

    def _unit(self, span: Span) -> Span:
        """The invocation of an agent that a span belongs to, or what stands for it."""
        name: str | None = None
        named = at = span
        for at in self._up(span):
            said = says.agent(at)
            if says.is_agent(at):
                if name in (None, said):
                    return at
                break
            name = name or said
            named = at if name is not None and said == name else named
        return at if name is None else named

    def _names(self, units: Iterable[Span]) -> dict[tuple[str, str], str]:
        """What the agents are called; those of one name that are invoked at the same time get numbers."""
        distinct = {(unit.trace, unit.id): unit for unit in units}
        names: dict[tuple[str, str], str] = {}
        busy: dict[str, list[Span]] = {}
        for key, unit in sorted(distinct.items(), key=lambda pair: pair[1].start):
            name = says.agent(unit) or unit.name
            last = busy.setdefault(name, [])
            around = {one.id for one in self._up(unit)}
            free = next((n for n, one in enumerate(last) if one.end <= unit.start or one.id in around), len(last))
            last[free : free + 1] = [unit if free == len(last) or unit.end > last[free].end else last[free]]
            names[key] = name if free == 0 else f"{name} ({free + 1})"
        return names


def _moment(span: Span) -> int:
    """When a span counts: a call when it starts, another when it has written."""
    writes = not says.is_call(span) and any(one.kind == "write" for one in says.accesses(span))
    return span.end if writes else span.start


def _is_whole(span: Span) -> bool:
    if "weft.operation" in span.attributes:
        return True
    return {access.kind for access in says.accesses(span)} == {"read", "write"}


def _overlapping(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Spans in groups, in time: each begins when all of the group before have ended."""
    group: list[Span] = []
    until = 0
    for span in sorted((s for s in spans if says.is_call(s) or says.accesses(s)), key=lambda s: (s.start, s.end)):
        if group and span.start >= until:
            yield group
            group = []
        group.append(span)
        until = max(until, span.end)
    if group:
        yield group


def _calls(calls: Sequence[Span], asked: Sequence[says.Asked], origin: int) -> Iterator[Call]:
    """Calls in the order of issue."""
    by_id = {one.id: place for place, one in enumerate(asked) if one.id}
    named, called = Counter(one.name for one in asked), Counter(says.tool(span) for span in calls)
    by_name = {one.name: place for place, one in enumerate(asked) if named[one.name] == called[one.name] == 1}

    def place(span: Span) -> tuple[bool, int, int]:
        known = by_id.get(says.call_id(span), by_name.get(says.tool(span)))
        return known is None, -1 if known is None else known, span.start

    for number, span in enumerate(sorted(calls, key=place)):
        done = None if says.failed(span) else _ms(span.end, origin)
        signature = str(span.attributes.get("weft.tool.signature", ""))
        effect = span.attributes.get("weft.tool.effect")
        yield Call(says.tool(span), number, done, signature, effect if effect in ("commutes", "none") else "ordered")


def _reads(reads: Iterable[Access], writes: Sequence[Access], origin: int) -> tuple[Read, ...]:
    """Of each cell what was read last, but not what the operation had written itself by then."""
    last = {a.cell: a for a in reads if not any(w.cell == a.cell and w.at <= a.at for w in writes)}
    return tuple(Read(a.cell, a.value, _ms(a.at, origin)) for a in last.values())


def _writes(writes: Iterable[Access]) -> tuple[Write, ...]:
    last = {a.cell: a for a in writes}
    return tuple(Write(a.cell, a.value) for a in last.values())


def _ms(moment: int, origin: int) -> float:
    return (moment - origin) / 1_000_000


def _names(value: Any) -> tuple[str, ...]:
    found = says.parsed(value)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def _tools_at_end(span: Span) -> dict[str, str] | None:
    return says.signatures(span.attributes["weft.tools_at_end"]) if "weft.tools_at_end" in span.attributes else None


def _level(span: Span) -> Any:
    level = span.attributes.get("weft.level")
    return level if level in LEVELS else None

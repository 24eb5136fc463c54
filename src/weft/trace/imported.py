"""Traces of other frameworks as runs that can be read like Weft's own, and never be executed.

Each trace becomes a run: its root span is a process, and so is every span below that is an agent, or that has others
below it and is neither a generation nor a call of a tool; those are effects, as is every span with nothing below. What
hangs below a generation (an HTTP request, say) or a tool call stands beside it; a tool call with an agent below is a
process. The records are those of any journal: `Outcome` for effects, with spawning and waiting for children, and `End`.

That it was imported is said by the process's row: its `version` is `imported`, its `source` names the file. Its id is a
digest of trace and span, so that importing a file again changes nothing. Times are the trace's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from weft.core.chain import link
from weft.core.codec import encode, encode_args
from weft.core.errors import BadInput, RemoteError
from weft.core.ids import ALPHABET, new_id
from weft.core.record import AnyRecord, Blob, End, Outcome, Value, encode_records, hashed, to_column
from weft.store.base import COPY, DONE, FAILED, Batch, ProcessRow, Segment, Store
from weft.store.copy.journey import commit
from weft.store.links import audit_key, origin
from weft.trace import conventions as says
from weft.trace.said import Said, said
from weft.trace.spans import Span

IMPORTED = "imported"
"""The version of a process that was imported."""
OURS = frozenset({"sleep", "now", "random", "uuid", "ask", "send", "receive", "event", "publish"})
"""Kinds of effects that spans of Weft's own keep."""
MANY = 200
"""Processes that are written at once."""


class Imported(NamedTuple):
    """Ids of the runs, and how many processes and effects they have; `known`: runs that were there already."""

    runs: list[str]
    processes: int
    effects: int
    known: list[str]


async def import_spans(store: Store, spans: Sequence[Span], source: str) -> Imported:
    """Write the traces of these spans into a store, as runs that are over. `source` is what they say that they come
    from. Raises BadInput if there is no span."""
    if not spans:
        raise BadInput(f"{source} holds no span")
    tree = _Tree(spans)
    await store.register(f"{COPY}{new_id()}", {})  # it writes, and executes nothing
    report = Imported([], 0, 0, [])
    batch, key = Batch(), audit_key()
    for root in tree.roots:
        if await store.row(_id(root)) is not None:
            report.known.append(_id(root))
            continue
        report.runs.append(_id(root))
        for span, parent in tree.processes(root):
            records = _Journal(batch, tree, span).records()
            row = _row(batch, span, parent, source, records[-1])
            row.length = len(records)
            data = encode_records(records)
            chain = link(origin(row, key), row.id, 0, data, key)
            batch.rows[row.id] = row
            batch.segments.append(Segment(row.id, 0, data, chain))
            effects = sum(isinstance(record, Outcome) for record in records)
            report = report._replace(processes=report.processes + 1, effects=report.effects + effects)
            if len(batch.rows) >= MANY:
                await commit(store, batch)
                batch = Batch()
    await commit(store, batch)
    return report


class _Tree:
    """Which span is in which, and which are processes."""

    def __init__(self, spans: Sequence[Span]) -> None:
        by_id = {(span.trace, span.id): span for span in spans}
        self.below: dict[tuple[str, str], list[Span]] = {}
        self.roots: list[Span] = []
        for span in by_id.values():
            above = (span.trace, span.parent or "")
            if above in by_id and above != (span.trace, span.id):
                self.below.setdefault(above, []).append(span)
            else:
                self.roots.append(span)
        reached = {(s.trace, s.id) for root in self.roots for s in self._all(root)}
        if lost := [span for key, span in by_id.items() if key not in reached]:
            raise BadInput(f"the spans of trace {lost[0].trace} hang below one another in a circle, at {lost[0].id}")

    def inside(self, span: Span) -> list[Span]:
        return self.below.get((span.trace, span.id), [])

    def _all(self, span: Span) -> Iterator[Span]:
        waiting = [span]
        while waiting:
            one = waiting.pop()
            yield one
            waiting += self.inside(one)

    def is_process(self, span: Span) -> bool:
        if says.is_agent(span):
            return True
        if says.is_generation(span):
            return False
        if says.is_call(span):
            return any(says.is_agent(one) for one in self._all(span))
        return bool(self.inside(span))

    def effects(self, span: Span) -> list[Span]:
        """What happens in a process, by start: effects, and the processes that it starts."""
        found, waiting = [], [*self.inside(span)]
        while waiting:
            one = waiting.pop()
            found.append(one)
            if not self.is_process(one):
                waiting += self.inside(one)
        return sorted(found, key=lambda one: (one.start, one.end))

    def processes(self, root: Span) -> Iterator[tuple[Span, str | None]]:
        """Each process of a trace with its parent's id, parents first. The root is one, whatever it is."""
        waiting: list[tuple[Span, str | None]] = [(root, None)]
        while waiting:
            span, parent = waiting.pop(0)
            yield span, parent
            waiting += [(one, _id(span)) for one in self.effects(span) if self.is_process(one)]


def _id(span: Span) -> str:
    """A run's id as Weft writes it: milliseconds, and then what tells it from others."""
    number = span.start // 1_000_000 << 35
    number |= int.from_bytes(hashlib.blake2b(f"{span.trace}/{span.id}".encode(), digest_size=5).digest(), "big") >> 5
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(16)))


class _Journal:
    """The journal of one process."""

    def __init__(self, batch: Batch, tree: _Tree, span: Span) -> None:
        self.batch, self.tree, self.span = batch, tree, span
        self.process = _id(span)

    def records(self) -> list[AnyRecord]:
        effects = self.tree.effects(self.span)
        if not self.tree.is_process(self.span) and (says.is_generation(self.span) or says.is_call(self.span)):
            effects = [self.span, *effects]  # nothing is around it: its run has it as an effect
        found: list[Outcome] = []
        number = 0
        for span in effects:
            made = list(self._of(span, number))
            number += len(made)
            found += made
        found.sort(key=lambda one: (one.at, one.effect))
        end = max([_seconds(self.span.end), *(one.at for one in found)])
        state, value = (FAILED, _fault(self.span)) if says.failed(self.span) else (DONE, encode(said(self.span).value))
        return [*found, End(end, state, self._kept(value))]

    def _of(self, span: Span, number: int) -> Iterator[Outcome]:
        begun, over = _seconds(span.start), _seconds(max(span.start, span.end))
        if span is not self.span and self.tree.is_process(span):
            child = encode(_id(span))
            given = self._kept(encode_args(said(span).args, {}, span.name))
            yield self._outcome(begun, number + 1, "spawn", said(span).name, given, child, begun)
            value = _fault(span) if says.failed(span) else encode(said(span).value)
            waited = encode_args((_id(span),), {}, "child")
            yield self._outcome(over, number + 2, "child", _id(span), waited, value, begun, not says.failed(span))
            return
        told: Said = said(span)
        value = _fault(span) if says.failed(span) else encode(told.value)
        args = encode_args(told.args, told.named, told.name)
        ours = str(span.attributes.get("weft.kind") or "")
        kind = ours if ours in OURS and not told.role else "step"
        yield self._outcome(over, number + 1, kind, told.name, args, value, begun, not says.failed(span), told.role)

    def _outcome(
        self, at: float, number: int, kind: str, name: str, args: Value, value: Value, begun: float, ok: bool = True,
        role: str = "",
    ) -> Outcome:  # fmt: skip
        args = self._kept(args) if isinstance(args, bytes) else args
        value = self._kept(value) if isinstance(value, bytes) else value
        return Outcome(at, number, kind, name, "", args, value, ok, started=begun, issued=begun, role=role)

    def _kept(self, data: bytes) -> Value:
        return _kept(self.batch, self.process, data)


def _kept(batch: Batch, process: str, data: bytes) -> Value:
    value = hashed(data)
    if isinstance(value, Blob):
        batch.payloads[value.hash] = data
        batch.references.add((process, value.hash))
    return value


def _row(batch: Batch, span: Span, parent: str | None, source: str, end: AnyRecord) -> ProcessRow:
    assert isinstance(end, End)
    told = to_column(end.value)
    given = _kept(batch, _id(span), encode_args(said(span).args, {}, span.name))
    started = _seconds(span.start)
    return ProcessRow(
        id=_id(span), workflow=said(span).name,
        source=source, version=IMPORTED, state=end.state, parent=parent, created=started, started=started,
        updated=end.at, input=to_column(given), result=told if end.state == DONE else None,
        error=told if end.state == FAILED else None,
    )  # fmt: skip


def _fault(span: Span) -> bytes:
    kind = str(span.attributes.get("error.type") or "")
    why = span.why
    for event in span.events:
        if event.name == "exception":
            kind = str(event.attributes.get("exception.type") or kind)
            why = str(event.attributes.get("exception.message") or why)
    kind = kind or "Error"
    return encode(RemoteError(kind, why.removeprefix(f"{kind}: ") or "the trace does not say why"))


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / 1e9

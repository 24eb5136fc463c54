"""A run as nodes: each process and each of its effects, with times, costs and who is around it, read from journals.

    async for node in read_run(store, run): ...            # a run, its effects, and its children in the same way
    async for node in read_effects(store, run): ...        # the effects of one process only, from any record on
    page = await read_page(store, parent, since=t, limit=500)   # those below a node that fall into a time window
    body = await read_body(store, run, effect)             # what went in and came out, large values too

The journal is read piece by piece, so a run of any length takes no more memory than one piece, and what goes on at the
same time. A `Node` holds no values; they are asked for one by one. Everything that shows or measures a run (graphs,
timelines, pages, exports) starts from here. (`weft.trace.spans` is another thing: spans in OpenTelemetry's files.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import msgspec

from weft.core.codec import decode_plain
from weft.core.errors import StoreError, UnknownRun
from weft.core.record import (
    AnyRecord,
    Attempt,
    Blob,
    Decision,
    End,
    Outcome,
    Started,
    decode_records,
    from_column,
)
from weft.core.resources import Usage
from weft.core.turns import counted_in
from weft.store.base import DONE, FINISHED, ProcessRow, Segment, Store, bytes_of

Kind = Literal[
    "process", "step", "tool", "generation", "sleep", "timer", "spawn", "child", "ask", "send", "receive", "event",
    "publish", "memory", "clock", "random", "checkpoint", "control",
]  # fmt: skip
Status = Literal["ok", "failed", "running", "waiting", "cancelled"]
"""`waiting`: a process that is parked or in line. An effect in flight is running, or cancelled if its process is
over."""

STRETCH = 200
"""Segments that are read at once."""
_KINDS: dict[str, Kind] = {
    "now": "clock", "uuid": "random", "detach": "spawn", "cancel": "control", "exec": "control", "spend": "control",
    "open": "control",
}  # fmt: skip
_SAME = frozenset(Kind.__args__)  # type: ignore[attr-defined]
_GENERATIONS = frozenset({"generate", "threads", "complete", "generate.passage", "generate.batch"})
"""Steps that are generations in journals which do not tell roles."""


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process (`effect` 0) or one of its effects. Times are seconds since the epoch."""

    run: str
    effect: int = 0
    seq: int = 0
    """Number of the record in the journal that says how it ended; of one in flight, that it began."""
    parent: str | None = None
    """Id of the node that it is in: of an effect, the process; of a child process, the effect that started it (where
    that can't be told, the parent's process). None: a run that nobody started."""
    kind: Kind = "process"
    exact: str = ""
    """The journal's own word for the kind, such as `memory.read`."""
    name: str = ""
    place: str = ""
    """`file:line` of the body that issued it."""
    issued: float = 0.0
    """When the body asked for it; where the journal does not tell, when it began."""
    started: float = 0.0
    """When the (last) attempt began; of a process, its body."""
    ended: float | None = None
    """When its outcome reached the program; None: it did not."""
    status: Status = "ok"
    error: str = ""
    """Type and message, in one line."""
    attempts: int = 1
    spent: dict[str, float] = {}
    """What it took of money, tokens and the like, by kind."""
    input_tokens: int = 0
    output_tokens: int = 0
    model: str = ""
    """These three of a generation: as the provider counted them, and which model answered."""
    usage: Usage | None = None
    """What its commands took of the machine."""
    child: str = ""
    """Of a spawn and of the wait for a child: the process."""
    line: tuple[int, ...] = ()
    after: int = 0
    begun: float | None = None
    """As in `weft.core.record.Outcome`."""

    @property
    def id(self) -> str:
        """`RUN:EFFECT`, or the run's own for a process."""
        return f"{self.run}:{self.effect}" if self.effect else self.run

    @property
    def seconds(self) -> float:
        """From its beginning to its outcome; 0 for one that has none."""
        return 0.0 if self.ended is None else max(0.0, self.ended - self.started)

    @property
    def waited(self) -> float:
        """Seconds from when it was asked for to when it began: in a queue, for its turn, for earlier attempts."""
        return max(0.0, self.started - self.issued)

    @property
    def money(self) -> float:
        """US dollars."""
        return self.spent.get("money", 0.0)

    @property
    def tokens(self) -> float:
        return self.spent.get("tokens", 0.0)


class Body(msgspec.Struct, frozen=True):
    """What went into an effect and came out, as JSON types (`weft.core.codec.decode_plain`): sealed values stay sealed.
    `value` is None while there is no outcome."""

    arguments: Any
    value: Any
    ok: bool
    attempts: tuple[tuple[int, float, Any], ...] = ()
    """Of each attempt that failed: its number, when, and the error."""
    decisions: tuple[Decision, ...] = ()
    by: tuple[int, ...] = ()
    """Numbers of the process's capabilities that allowed it."""


class Page(msgspec.Struct, frozen=True):
    """Some of the nodes below one. `next`: give it as `first` to go on; None: these were the last."""

    nodes: list[Node]
    next: int | None


# --- records ------------------------------------------------------------------------------------------------------


async def read_records(store: Store, run: str, first: int = 0) -> AsyncIterator[tuple[int, AnyRecord]]:
    """The records of a journal with their numbers, from number `first` on, read piece by piece."""
    while stretch := await store.stretch(run, first, STRETCH):
        for segment in stretch:
            for number, record in _numbered(segment, first):
                yield number, record
                first = number + 1


def _numbered(segment: Segment, first: int) -> list[tuple[int, AnyRecord]]:
    each = enumerate(decode_records(segment.records), segment.first)
    return [(number, record) for number, record in each if number >= first]


# --- nodes --------------------------------------------------------------------------------------------------------


async def read_effects(
    store: Store, run: str, first: int = 0, *, timers: bool = False, over: float | None = None
) -> AsyncIterator[Node]:
    """The effects of one process in the order in which their outcomes reached the program, from record `first` on; then
    those in flight. `timers`: asyncio's own, too. `over`: when the process ended, if it did: what is in flight
    then was cancelled."""
    async for node, _ in read_with_records(store, run, first, timers=timers, over=over):
        yield node


async def read_with_records(
    store: Store, run: str, first: int = 0, *, timers: bool = False, over: float | None = None
) -> AsyncIterator[tuple[Node, Outcome | Started]]:
    """The same, each with the record that tells of it, for who wants what went in and came out of all of them."""
    open: dict[int, tuple[int, Started]] = {}
    async for number, record in read_records(store, run, first):
        if type(record) is Started:
            open.setdefault(record.effect, (number, record))
        elif type(record) is Outcome:
            open.pop(record.effect, None)
            if timers or record.kind != "timer":
                yield await node_of(store, run, number, record), record
    for number, begun in open.values():
        yield flying_node(run, number, begun, over), begun


async def node_of(store: Store, run: str, number: int, record: Outcome) -> Node:
    """The effect whose outcome is record `number`."""
    kind = kind_of(record.kind, record.role, record.name)
    spent = record.spent or {}
    model, usage = "", (0, 0)
    if kind == "generation" and record.ok:
        model, usage, told = _generated(await bytes_of(store, record.value))
        spent = spent or told
    started = record.started or record.issued or record.at
    return Node(
        run=run, effect=record.effect, seq=number, parent=run, kind=kind, exact=record.kind, name=record.name,
        place=record.place, issued=min(record.issued or started, started), started=started, ended=record.at,
        status="ok" if record.ok else "failed",
        error="" if record.ok else error_text(await bytes_of(store, record.value)),
        attempts=record.attempts, spent=spent, input_tokens=usage[0], output_tokens=usage[1], model=model,
        usage=record.usage, child=_child(record), line=record.line, after=record.after, begun=record.begun,
    )  # fmt: skip


def flying_node(run: str, number: int, record: Started, over: float | None = None) -> Node:
    """The effect that is known to be in flight since record `number`; `over`: its process ended then."""
    kind = kind_of(record.kind, record.role, record.name)
    return Node(
        run=run, effect=record.effect, seq=number, parent=run, kind=kind, exact=record.kind, name=record.name,
        place=record.place, issued=record.issued or record.at, started=record.at, ended=over,
        status="running" if over is None else "cancelled", line=record.line, after=record.after, begun=record.begun,
    )  # fmt: skip


def kind_of(exact: str, role: str = "", name: str = "") -> Kind:
    """The kind of a node, of the journal's words for its kind, role and name."""
    if exact == "step":
        if role in ("tool", "generation"):
            return role  # type: ignore[return-value]
        return "generation" if name in _GENERATIONS else "step"
    if exact.startswith("memory."):
        return "memory"
    if exact in _KINDS:
        return _KINDS[exact]
    return exact if exact in _SAME else "control"  # type: ignore[return-value]


def _child(record: Outcome) -> str:
    if record.kind == "child":
        return record.name
    if record.kind in ("spawn", "detach") and record.ok and isinstance(record.value, bytes):
        found = decode_plain(record.value)
        return found if isinstance(found, str) else ""
    return ""


def _generated(data: bytes) -> tuple[str, tuple[int, int], dict[str, float]]:
    """Model, tokens in and out, and what was spent, as far as a generation's outcome tells."""
    reply = decode_plain(data)
    if not isinstance(reply, dict):
        return "", (0, 0), {}
    counted = counted_in(reply)
    spent = {"tokens": float(sum(counted))} if any(counted) and not reply.get("cached") else {}
    if reply.get("money"):
        spent["money"] = reply["money"]
    return str(reply.get("model") or ""), counted, spent


def error_text(data: bytes) -> str:
    """An encoded exception in one line."""
    found = decode_plain(data)
    if isinstance(found, dict) and "type" in found:
        return f"{str(found['type']).rpartition('.')[2]}: {found.get('message', '')}".splitlines()[0]
    return str(found)


def process_node(row: ProcessRow, parent: str | None = None) -> Node:
    """A process as a node; `parent`: id of the effect that started it, where that is known."""
    over = row.state in FINISHED
    status: Status = "ok" if row.state == DONE else "failed" if row.state == "failed" else "cancelled"
    if not over:
        status = "running" if row.state == "running" else "waiting"
    return Node(
        run=row.id, parent=parent or row.parent, name=row.workflow, place=row.source, issued=row.created,
        started=row.started or row.created, ended=row.updated if over else None, status=status,
        error=_row_error(row),
    )  # fmt: skip


def _row_error(row: ProcessRow) -> str:
    if row.error is None:
        return ""
    value = from_column(row.error)
    return "(a large error)" if isinstance(value, Blob) else error_text(value)


# --- runs ---------------------------------------------------------------------------------------------------------


async def read_run(store: Store, run: str, *, timers: bool = False) -> AsyncIterator[Node]:
    """A process, its effects, and then each of its children in the same way. Raises UnknownRun."""
    row = await store.row(run)
    if row is None:
        raise UnknownRun(f"there is no run {run!r} in {store.url}; `weft ps` lists those there are")
    waiting: list[tuple[ProcessRow, str | None]] = [(row, None)]
    while waiting:
        row, around = waiting.pop(0)
        yield process_node(row, around)
        begun: dict[str, str] = {}
        over = row.updated if row.state in FINISHED else None
        async for node in read_effects(store, row.id, timers=timers, over=over):
            if node.kind == "spawn" and node.child:
                begun[node.child] = node.id
            yield node
        children = await store.rows(parent=row.id, limit=1_000_000)
        waiting.extend((child, begun.get(child.id)) for child in reversed(children))


async def read_page(
    store: Store, run: str, *, first: int = 0, since: float | None = None, until: float | None = None,
    kinds: Sequence[Kind] | None = None, limit: int = 500,
) -> Page:  # fmt: skip
    """At most `limit` effects of one process, from record `first` on, of those that are under way at some time from
    `since` to `until` (seconds since the epoch), and of these kinds. In the order of the journal."""
    found: list[Node] = []
    row = await store.row(run)
    over = row.updated if row is not None and row.state in FINISHED else None
    async for node in read_effects(store, run, first, over=over):
        if until is not None and node.issued > until:
            continue
        if since is not None and node.ended is not None and node.ended < since:
            continue
        if kinds is not None and node.kind not in kinds:
            continue
        if len(found) == limit:
            return Page(found, node.seq)
        found.append(node)
    return Page(found, None)


async def read_body(store: Store, run: str, effect: int, first: int = 0) -> Body:
    """What went into an effect and came out; it is looked for from record `first` on. Raises StoreError if the run has
    no such effect there."""
    attempts: list[tuple[int, float, Any]] = []
    decisions: list[Decision] = []
    begun: Started | None = None
    async for _, record in read_records(store, run, first):
        match record:
            case Attempt(effect=number) if number == effect:
                error = decode_plain(await bytes_of(store, record.error))
                attempts.append((record.attempt, record.at, error))
            case Decision(effect=number) if number == effect:
                decisions.append(record)
            case Started(effect=number) if number == effect:
                begun = record
            case Outcome(effect=number) if number == effect:
                arguments = decode_plain(await bytes_of(store, record.args))
                value = decode_plain(await bytes_of(store, record.value))
                return Body(arguments, value, record.ok, tuple(attempts), tuple(decisions), record.by)
            case End():
                break
    if begun is None:
        raise StoreError(f"run {run} has no effect {effect}; `weft show {run}` numbers them")
    return Body(decode_plain(await bytes_of(store, begun.args)), None, True, tuple(attempts), tuple(decisions))

"""A run in brief: what of it is compared with other runs, and small enough to keep of a thousand."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from weft.core.codec import decode_plain
from weft.core.lines import Templates
from weft.core.lines.fold import says
from weft.core.record import Decision, Outcome, from_column
from weft.core.resources import Usage
from weft.store.base import FINISHED, ProcessRow, Store, bytes_of
from weft.trace.causal.recurrence import Failure
from weft.trace.reading import Node, read_records, read_with_records
from weft.trace.templates.outputs import texts_in

QUIET = frozenset({"clock", "random", "timer", "checkpoint", "control"})
"""What says nothing of how a program behaves."""
OUTSIDE = ("ask", "receive", "event", "sleep", "timer", "child", "spawn")
"""How long these take is not theirs to say: people, letters, children."""
MOST = 2000
"""Effects of a process that are looked at, and processes of a run."""
LARGEST = 256 * 1024
"""Bytes of an outcome that is looked into."""
DEEP = 4
LINES, WIDE = 200, 300
"""Lines from each end of an output that are looked at, and characters of one."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """One effect. `form`: the types and names in its outcome, of a generation the model, empty where there is none;
    `lines`: those of its text that say what no earlier effect of the name said in the process. `amount`: a number
    itself, of anything else its length. `paused`, `cpu`: seconds; `memory`: bytes at most; `money`: US dollars."""

    effect: int
    symbol: str
    status: str
    at: float
    seconds: float
    waited: float
    attempts: int
    form: str = ""
    lines: tuple[str, ...] = ()
    amount: float | None = None
    paused: float = 0.0
    memory: int = 0
    cpu: float = 0.0
    tokens: float = 0.0
    money: float = 0.0
    model: str = ""
    error: str = ""
    place: str = ""
    child: str = ""

    @property
    def told(self) -> str:
        """Name and, unless it went well, how it went: a symbol of an automaton. How a child went is told there."""
        return self.symbol if self.status == "ok" or self.child else f"{self.symbol}:{self.status}"


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    effect: int
    action: str
    resource: str
    at: float
    label: str = ""


class Part(msgspec.Struct, array_like=True):
    """One process of a run, from when it `began` until it `ended`, or was last heard of. Its effects stand in the order
    in which the program asked for them, which unlike that of their outcomes is the same however the machine took its
    turns."""

    id: str
    workflow: str
    state: str
    began: float = 0.0
    ended: float = 0.0
    seen: list[Seen] = []
    refused: list[Refusal] = []


class Profile(msgspec.Struct, array_like=True):
    """A run with its children; `parts[0]` is its own process. `length`: records of its own journal."""

    run: str
    workflow: str
    version: str
    state: str
    length: int
    created: float
    parts: list[Part]
    failure: Failure | None = None

    def id(self, part: Part, seen: Seen | Refusal) -> str:
        return f"{part.id}:{seen.effect}"


async def profile_of(store: Store, row: ProcessRow) -> Profile:
    """Read a run and its children."""
    waiting: list[ProcessRow] = [row]
    parts: list[Part] = []
    while waiting and len(parts) < MOST:
        one = waiting.pop(0)
        part = await _part(store, one)
        parts.append(part)
        if any(seen.symbol.startswith("spawn") for seen in part.seen):
            waiting.extend(reversed(await store.rows(parent=one.id, limit=MOST)))
    profile = Profile(row.id, row.workflow, row.version, row.state, row.length, row.created, parts)
    profile.failure = await _failure(store, row, profile)
    return profile


async def _part(store: Store, row: ProcessRow) -> Part:
    over = row.updated if row.state in FINISHED else None
    part = Part(row.id, row.workflow, row.state, row.started or row.created, row.updated)
    seen: list[Seen] = []
    heard = Heard()
    async for node, record in read_with_records(store, row.id, over=over):
        if node.kind not in QUIET:
            seen.append(await _seen(store, node, record if type(record) is Outcome else None, heard))
            if len(seen) == MOST:
                break
            if len(seen) % 50 == 0:
                await asyncio.sleep(0)  # whoever serves a page here goes on serving
    part.seen = sorted(seen, key=lambda one: one.effect)
    async for _, each in read_records(store, row.id):
        if type(each) is Decision and each.verdict == "deny":
            part.refused.append(Refusal(each.effect, each.action, each.resource, each.at, each.label))
    return part


async def _seen(store: Store, node: Node, record: Outcome | None, heard: Heard) -> Seen:
    symbol = f"{node.kind}:{_short(node)}" if node.kind not in ("child", "generation") else node.kind
    form, amount = node.model if node.kind == "generation" else "", None
    lines: tuple[str, ...] = ()
    if record is not None and node.kind in ("step", "tool"):
        data = await bytes_of(store, record.value)
        value = decode_plain(data, True) if len(data) <= LARGEST else None
        if not record.ok:
            lines = heard.news(symbol, value.get("message") if isinstance(value, dict) else None)
        elif len(data) <= LARGEST:
            form, amount, lines = form_of(value), amount_of(value), heard.news(symbol, value)
    usage = node.usage or Usage()
    return Seen(
        effect=node.effect, symbol=symbol, status=node.status, at=node.started, seconds=node.seconds,
        waited=node.waited, attempts=node.attempts, form=form, lines=lines, amount=amount, paused=usage.paused_seconds,
        memory=usage.memory_peak, cpu=usage.cpu_seconds, tokens=node.tokens, money=node.money, model=node.model,
        error=node.error, place=node.place, child=node.child,
    )  # fmt: skip


class Heard:
    """What the effects of a process have said so far, by the effect's name."""

    def __init__(self) -> None:
        self._templates = Templates()
        self._said: set[tuple[str, ...]] = set()
        self._lines: set[tuple[str, str]] = set()

    def news(self, symbol: str, value: Any) -> tuple[str, ...]:
        """The lines of a value's texts that say what was not said: another template, or another status code."""
        lines = [line[:WIDE].rstrip() for text in texts_in(value) for line in text.splitlines() if line.strip()]
        found = []
        for line in lines if len(lines) <= 2 * LINES else [*lines[:LINES], *lines[-LINES:]]:
            if (symbol, line) in self._lines:
                continue
            self._lines.add((symbol, line))
            said = (symbol, *says(self._templates.parse(line), line))
            if said not in self._said:
                self._said.add(said)
                found.append(line)
        return tuple(found)


def _short(node: Node) -> str:
    """The name, of a spawned workflow and a step without their module."""
    return node.exact.removeprefix("memory.") if node.kind == "memory" else node.name.rpartition(".")[2]


def form_of(value: Any, deep: int = DEEP) -> str:
    """Types and names of a value of JSON types: `{items:[{id:int}],next:null}`. Empty lists and texts are forms of
    their own."""
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return "bool" if isinstance(value, bool) else "number"
        case str():
            return "text" if value.strip() else '""'
        case _ if deep == 0:
            return "…"
        case dict():
            inner = ",".join(f"{key}:{form_of(one, deep - 1)}" for key, one in sorted(value.items())[:30])
            return f"{{{inner}}}"
        case list():
            return f"[{'|'.join(sorted({form_of(one, deep - 1) for one in value[:100]}))}]"
    return type(value).__name__


def amount_of(value: Any) -> float | None:
    """A number itself; of texts, lists and mappings how many parts they have."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return float(len(value)) if isinstance(value, (str, list, dict, bytes)) else None


async def _failure(store: Store, row: ProcessRow, run: Profile) -> Failure | None:
    """How a run failed that did. The effect is the deepest whose error is the run's."""
    if row.state != "failed" or row.error is None:
        return None
    kind, _, message = (await _error(store, row)).partition(": ")
    failed = [seen for part in run.parts for seen in part.seen if seen.status == "failed" and not seen.child]
    own = [seen for seen in failed if seen.error.partition(": ")[2] == message] or failed
    tool = own[-1].symbol.partition(":")[2] if own else ""
    return Failure(run=row.id, error=kind, message=message, tool=tool, at=row.updated)


async def _error(store: Store, row: ProcessRow) -> str:
    value = from_column(row.error or b"")
    found = decode_plain(await bytes_of(store, value), True)
    if isinstance(found, dict) and "type" in found:
        return f"{str(found['type']).rpartition('.')[2]}: {found.get('message', '')}"[:2000]
    return json.dumps(found, default=str)[:2000]

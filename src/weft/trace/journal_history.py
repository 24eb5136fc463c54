"""The history of operations on shared memory, read from the journals of the processes that did them.

Times are those of the namespace's clock, which counts its commits: exact, whatever the machines' clocks say. Each
namespace has its own, and no operation spans two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from weft.core.codec import decode_plain
from weft.core.memory import TOOLS
from weft.core.record import AnyRecord, Blob, Outcome, Value, content_hash, decode_records
from weft.core.sealed import SEAL
from weft.store.base import Store
from weft.trace.history import Call, Operation, Read, Write

PAGE = 200
"""Journals read at once."""
MOST = 100_000
"""Operations of a namespace that are looked at."""
LONGEST = 80
"""Characters of a value that stand in a history; a longer one is named by its digest."""
ABSENT = "(nothing)"


class _Draft(msgspec.Struct):
    """An operation, as far as it was read."""

    id: str
    agent: str
    level: str
    reads: dict[str, Read] = {}
    registries: list[dict[str, str]] = []
    planned: dict[str, None] = {}
    predecessors: dict[str, None] = {}
    calls: list[Call] = []


async def history_of_runs(store: Store, ids: Sequence[str]) -> list[Operation]:
    """The committed operations of these processes, in the order of their commits in each namespace."""
    found: dict[str, Operation] = {}  # a fork's journal tells of its origin's, too
    retracted: set[str] = set()
    for at in range(0, len(ids), PAGE):
        journals: dict[str, list[AnyRecord]] = {id: [] for id in ids[at : at + PAGE]}
        for segment in await store.segments(list(journals)):
            journals[segment.process] += decode_records(segment.records)
        for id, records in journals.items():
            reader = _Reader(id, {hash: await store.payload(hash) for hash in _large(records)})
            for one in reader.read(records):
                found.setdefault(one.id, one)
            retracted |= reader.retracted
    return [
        msgspec.structs.replace(one, retracted=one.id in retracted)
        for one in sorted(found.values(), key=lambda o: o.end)
    ]


async def with_neighbours(store: Store, ids: Sequence[str], own: Sequence[Operation]) -> list[Operation]:
    """The operations of these processes (`own`), and those that others did in the same namespaces, as far as their
    journals are still there."""
    spaces = {
        cell.partition("/")[0] for one in own for cell in (*(r.cell for r in one.reads), *(w.cell for w in one.writes))
    }
    others = {one.process for space in sorted(spaces) for one in await store.recent(space, MOST)}
    return await history_of_runs(store, [*ids, *sorted(others - {*ids})])


def _large(records: Iterable[AnyRecord]) -> set[bytes]:
    values = (value for one in records if _of_memory(one) for value in (one.args, one.value))  # type: ignore[union-attr]
    return {value.hash for value in values if isinstance(value, Blob)}


def _of_memory(record: AnyRecord) -> bool:
    return type(record) is Outcome and record.ok and (record.kind.startswith("memory.") or record.operation > 0)


class _Reader:
    """Of one journal."""

    def __init__(self, process: str, payloads: Mapping[bytes, bytes]) -> None:
        self.process = process
        self.payloads = payloads
        self.open: dict[int, _Draft] = {}
        """By the number of the effect that began it."""
        self.retracted: set[str] = set()

    def read(self, records: Iterable[AnyRecord]) -> Iterable[Operation]:
        for record in records:
            if not _of_memory(record):
                continue
            assert type(record) is Outcome
            if record.kind == "step":
                self._call(record)
            elif record.kind == "memory.begin":
                level, _, agent = self._args(record)
                named = agent if isinstance(agent, str) else f"{self.process}/{agent}"
                self.open[record.effect] = _Draft(self._value(record), named, level)
            elif record.kind == "memory.retract":
                self.retracted.update(self._value(record)["operations"])
            elif record.kind in ("memory.read", "memory.tools", "memory.commit"):
                args = self._args(record)
                draft = self.open.get(args[0])
                if draft is not None and record.kind == "memory.read":
                    self._read(draft, record)
                elif draft is not None and record.kind == "memory.tools":
                    self._tools(draft, args[1], record)
                elif draft is not None and self._value(record)["at"]:
                    yield self._committed(draft, record)

    def _read(self, draft: _Draft, record: Outcome) -> None:
        data, found = self._bytes(record.value), self._value(record)
        value = _text(found["value"], data, found["version"]) if found["there"] else ABSENT
        cell = self._owned(record.name)
        draft.reads[cell] = Read(cell, value, found["at"])
        if found["operation"]:
            draft.predecessors[found["operation"]] = None

    def _tools(self, draft: _Draft, called: str, record: Outcome) -> None:
        tools = self._value(record)["tools"]
        draft.registries.append({name: one["signature"] for name, one in tools.items()})
        if called:
            draft.planned[called] = None

    def _call(self, record: Outcome) -> None:
        draft = self.open.get(record.operation)
        if draft is not None:
            effect = "ordered" if record.turn else "commutes"
            draft.calls.append(Call(record.name, record.effect, record.turn or None, effect=effect))  # type: ignore[arg-type]

    def _committed(self, draft: _Draft, record: Outcome) -> Operation:
        data, done = self._bytes(record.args), self._value(record)
        told: dict[str, Any] = self._args(record)[3]
        at, versions = done["at"], done["versions"]
        space = self._owned(record.name)
        reads = [one for one in draft.reads.values() if not one.cell.startswith(f"{space}/{TOOLS}")]
        return Operation(
            id=done["operation"],
            agent=draft.agent,
            begin=min([at, *(one.at for one in reads)]),
            end=at,
            reads=tuple(reads),
            writes=tuple(
                Write(f"{space}/{name}", _text(one[1], data, versions[name]) if one[0] else ABSENT)
                for name, one in told.items()
            ),
            calls=tuple(draft.calls),
            tools=draft.registries[0] if draft.registries else {},
            tools_at_end=draft.registries[-1] if draft.registries else None,
            planned=tuple(draft.planned),
            predecessors=tuple(draft.predecessors),
            level=draft.level,  # type: ignore[arg-type]
        )

    def _owned(self, name: str) -> str:
        """A cell or namespace by a name that no other process uses for another one."""
        space, slash, rest = name.partition("/")
        return f"{space}{self.process}{slash}{rest}" if space.endswith("@") else name

    def _args(self, record: Outcome) -> list[Any]:
        """Without the classes that are in it, which need not be there."""
        plain = decode_plain(self._bytes(record.args), True)
        found: list[Any] = plain["*"] if isinstance(plain, dict) else plain
        return found

    def _value(self, record: Outcome) -> Any:
        return decode_plain(self._bytes(record.value), True)

    def _bytes(self, value: Value) -> bytes:
        return self.payloads[value.hash] if isinstance(value, Blob) else value


def _text(plain: Any, data: bytes, version: int) -> str:
    """A value in a history. `data`: what it stands in; where something sealed is, only its version is said."""
    if SEAL in data:
        return f"(version {version})"
    text = repr(plain)
    return text if len(text) <= LONGEST else "#" + content_hash(text.encode()).hex()

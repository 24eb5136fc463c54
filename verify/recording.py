"""Journals of real runs as histories that the model can be asked about (`verify.conformance`).

One namespace, one process: the order of its journal is the order in which the store did things, for what goes there in
one request is done and delivered in that order. The namespace's clock says so once more, and is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from verify.recorded import (
    Begin,
    Commit,
    Conflict,
    Happened,
    History,
    Issue,
    Read,
    Registry,
    Release,
    Restored,
    Retract,
)
from weft.core.codec import decode, decode_args
from weft.core.memory import TOOLS, Level
from weft.core.record import AnyRecord, Outcome, decode_records
from weft.core.step import steps
from weft.store.base import Store

CODE = "as in the program"


async def recorded(store: Store, name: str, run: str) -> History:
    """What a process did to shared memory. Its values must be small, and its namespace its own."""
    records = [record for segment in await store.segments([run]) for record in decode_records(segment.records)]
    recording = _Recording(run, records)
    for cell in recording.restored():
        recording.writers[cell] = {one.version: one.operation for one in await store.versions(cell)}
    return History(name, list(recording.events()))


class _Recording:
    def __init__(self, run: str, records: Sequence[AnyRecord]) -> None:
        self.run = run
        self.outcomes = [one for one in records if type(one) is Outcome and one.ok]
        self.levels: dict[str, Level] = {}
        self.agents: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        """Operation -> how many calls it has made in this attempt."""
        self.pinned: dict[str, dict[str, Any]] = {}
        self.writers: dict[str, dict[int, str]] = {}
        """Cell -> version -> whose value that is."""
        self.clock = 0
        self.names: dict[str, str] = {}
        """Id of an operation -> its name here."""

    def restored(self) -> set[str]:
        """Cells that were restored."""
        done = (decode(_bytes(one.value)) for one in self.outcomes if one.kind == "memory.retract")
        return {f"{one['namespace']}/{name}" for one in done for name in one["restored"]}

    def events(self) -> Iterator[Happened]:
        for name in sorted({one.name for one in self.outcomes if one.operation and one.turn}):
            yield Registry(name, CODE)  # a step that is called by its name is there from the beginning
        for one in self.outcomes:
            args, _ = decode_args(_bytes(one.args))
            value = decode(_bytes(one.value))
            if one.kind == "memory.begin":
                id = self._name(one.effect)
                self.names[value] = id
                self.levels[id], _, agent = args
                self.agents[id] = str(agent)
                self.calls[id] = 0
                if self.levels[id] < "L4":  # at L4 it begins when it has the registry
                    yield Begin(id, self.agents[id], self.levels[id])
                yield from self._issued(id, one.effect)
            elif one.kind == "memory.tools":
                yield from self._tools(self._name(args[0]), args[1], value)
            elif one.kind == "memory.read" and f"/{TOOLS}" not in one.name:
                self._at(value["at"], same=True)
                yield Read(self._name(args[0]), one.name, value["version"])
            elif one.kind == "memory.commit":
                yield from self._commit(one.name, self._name(args[0]), args[3], value)
            elif one.kind == "memory.retract":
                yield self._retracted(self.names[one.name], value)
            elif one.kind == "step" and one.operation:
                yield from self._landed(one)

    def _name(self, number: int) -> str:
        return f"{self.run}:{number}"

    def _at(self, at: int, *, same: bool) -> None:
        if at != self.clock + (not same):
            raise ValueError(f"the journal of {self.run} is not in the order of the store: {at} after {self.clock}")
        self.clock = at

    def _issued(self, id: str, number: int) -> Iterator[Happened]:
        """Effects of steps that are no tools of the memory: all are issued before the first lands."""
        mine = sorted((one for one in self.outcomes if one.operation == number and one.turn), key=lambda o: o.effect)
        if self._by_tools(id):
            return
        for one in mine:
            self.calls[id] += 1
            yield Issue(id, self.calls[id], one.name, CODE)

    def _by_tools(self, id: str) -> bool:
        mine = (decode_args(_bytes(one.args))[0] for one in self.outcomes if one.kind == "memory.tools")
        return any(self._name(number) == id for number, _ in mine)

    def _tools(self, id: str, called: str, value: Any) -> Iterator[Happened]:
        self._at(value["at"], same=True)
        signatures = {name: entry["signature"] for name, entry in value["tools"].items()}
        if self.levels[id] == "L4":
            self.pinned[id] = signatures
            yield Begin(id, self.agents[id], "L4")
        elif called:
            self.calls[id] += 1
            yield Issue(id, self.calls[id], called, signatures.get(called))

    def _landed(self, one: Outcome) -> Iterator[Happened]:
        id = self._name(one.operation)
        if self._by_tools(id):
            if id in self.pinned:  # it was resolved in the snapshot, without an effect of its own
                self.calls[id] += 1
                tool = next(name for name, found in self.pinned[id].items() if found == steps[one.name].signature)
                yield Issue(id, self.calls[id], tool, self.pinned[id][tool])
            yield Release(id, self.calls[id])
        elif one.turn:
            mine = sorted(o.effect for o in self.outcomes if o.operation == one.operation and o.turn)
            yield Release(id, mine.index(one.effect) + 1)

    def _commit(self, namespace: str, id: str, told: Any, verdict: Any) -> Iterator[Happened]:
        if not verdict["at"]:
            yield Conflict(id)
            return
        self._at(verdict["at"], same=False)
        tools = {name: entry for name, entry in told.items() if name.startswith(TOOLS)}
        for name, (there, value, *_) in tools.items():
            yield Registry(name.removeprefix(TOOLS), value["signature"] if there else None)
        versions = {name: version for name, version in verdict["versions"].items() if name not in tools}
        yield Commit(id, {f"{namespace}/{name}": version for name, version in versions.items()})

    def _retracted(self, id: str, done: Any) -> Happened:
        if done["at"] > self.clock:
            self._at(done["at"], same=False)
        cells = {f"{done['namespace']}/{name}": version for name, version in done["restored"].items()}
        restored = {cell: Restored(version, self._source(cell, version)) for cell, version in cells.items()}
        return Retract(id, [self.names[one] for one in done["operations"]], restored)

    def _source(self, cell: str, version: int) -> int:
        """The first version with the value that this one brings back; 0: nothing."""
        writers = self.writers[cell]
        writer = writers[version]
        return min(old for old, by in writers.items() if by == writer) if writer else 0


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes), "a large value; keep them small"
    return value

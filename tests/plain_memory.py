"""Shared memory as it is defined, in lists and sets, without speed or disk: what the real stores are held against.

Written from the definitions of arXiv 2606.17182, section by section, not from the rule that the stores use: an
operation's state follows from the whole graph of who read what of whom, each time it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from weft.core.memory import Level


@dataclass
class Version:
    number: int
    value: bytes | None
    writer: str
    """An operation; "": a retraction left nothing there."""
    at: int


@dataclass
class Done:
    """An operation of the history."""

    id: str
    agent: str
    level: Level
    at: int
    read: dict[str, tuple[int, str, int, bytes | None]]
    """Cell -> version, writer, clock of the read, value."""
    wrote: dict[str, bytes | None]
    retracted_at: int = 0


@dataclass
class Answer:
    at: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    held: bool = False


class PlainMemory:
    """One namespace."""

    def __init__(self) -> None:
        self.clock = 0
        self.cells: dict[str, list[Version]] = {}
        self.done: dict[str, Done] = {}
        self.line: list[tuple[str, set[str]]] = []
        """Who holds what, first come first."""

    # --- what is there ------------------------------------------------------------------------------------------

    def newest(self, cell: str) -> Version:
        return self.cells[cell][-1] if cell in self.cells else Version(0, None, "", 0)

    def before(self, id: str) -> set[str]:
        """All that it builds on, directly or not."""
        found: set[str] = set()
        todo = [id]
        while todo:
            new = {writer for _, writer, _, _ in self.done[todo.pop()].read.values() if writer} - found
            found |= new
            todo += new
        return found

    def after(self, id: str) -> set[str]:
        """All that build on it."""
        return {other for other in self.done if id in self.before(other)}

    def state(self, id: str) -> str:
        if self.done[id].retracted_at:
            return "retracted"
        return "tainted" if any(self.done[one].retracted_at for one in self.before(id)) else "live"

    # --- what is done -------------------------------------------------------------------------------------------

    def commit(self, new: Done, expect: dict[str, int]) -> Answer:
        if new.id in self.done:
            at = self.done[new.id].at
            there = {c: v.number for c, vs in self.cells.items() for v in vs if v.writer == new.id and v.at == at}
            return Answer(at, there)
        stale = {cell for cell, number in expect.items() if self.newest(cell).number != number}
        if new.level != "L0":
            stale |= {cell for cell, seen in new.read.items() if self.newest(cell).number != seen[0]}
        producers = {writer for _, writer, _, _ in new.read.values() if writer}
        dead = {one for one in producers if self.state(one) != "live"} if new.level not in ("L0", "L1") else set()
        if stale or dead:
            return Answer(stale=sorted(stale), dead=sorted(dead))
        if self._must_wait(new):
            return Answer(held=True)
        self.clock += 1
        new.at = self.clock
        self.done[new.id] = new
        for cell, value in new.wrote.items():
            self._put(cell, value, new.id)
        return Answer(self.clock, {cell: self.newest(cell).number for cell in new.wrote})

    def _must_wait(self, new: Done) -> bool:
        place = [who for who, _ in self.line].index(new.id) if new.id in dict(self.line) else len(self.line)
        return any(cells & new.wrote.keys() for _, cells in self.line[:place])

    def hold(self, id: str, cells: set[str]) -> bool:
        if id not in dict(self.line):
            self.line.append((id, cells))
        place = [who for who, _ in self.line].index(id)
        return not any(other & self.line[place][1] for _, other in self.line[:place])

    def let_go(self, *ids: str) -> None:
        self.line = [one for one in self.line if one[0] not in ids]

    def retract(self, id: str, level: Level) -> tuple[int, list[str], dict[str, int]]:
        """(clock, what is retracted, what is restored)"""
        if not self.done[id].retracted_at:
            going = self._go_with(id, level)
            self.clock += 1
            for one in going:
                self.done[one].retracted_at = self.clock
            for cell, versions in list(self.cells.items()):
                if versions[-1].writer in going:
                    alive = [v for v in versions if not v.writer or not self.done[v.writer].retracted_at]
                    self._put(cell, alive[-1].value if alive else None, alive[-1].writer if alive else "")
        at = self.done[id].retracted_at
        others = sorted((o for o in self.done.values() if o.retracted_at == at and o.id != id), key=lambda one: one.at)
        restored = {cell: v.number for cell, versions in self.cells.items() for v in versions if v.at == at}
        return at, [id, *(one.id for one in others)], restored

    def _go_with(self, id: str, level: Level) -> set[str]:
        there = {one for one in self.after(id) if not self.done[one].retracted_at}
        if level in ("L0", "L1"):  # those with a promise, and what they build on
            promised = {one for one in there if self.done[one].level not in ("L0", "L1")}
            there &= promised.union(*(self.before(one) for one in promised))
        return {id} | there

    def _put(self, cell: str, value: bytes | None, writer: str) -> None:
        number = self.newest(cell).number + 1
        self.cells.setdefault(cell, []).append(Version(number, value, writer, self.clock))

    def prune(self, keep: int) -> int:
        gone = sum(max(0, len(versions) - keep) for versions in self.cells.values())
        self.cells = {cell: versions[-keep:] for cell, versions in self.cells.items()}
        return gone

    # --- the anomalies, by definition ---------------------------------------------------------------------------

    def stale_generations(self) -> set[str]:
        """A1: a cell that it read was written by another agent after the read and before its commit, otherwise."""
        return {
            one.id
            for one in self.done.values()
            for other in self.done.values()
            if one.agent != other.agent
            for cell, (_, _, at, value) in one.read.items()
            if cell in other.wrote and at < other.at < one.at and other.wrote[cell] != value
        }

    def cascades(self) -> set[str]:
        """A3: not retracted, and builds on what is."""
        return {
            id
            for id, one in self.done.items()
            if not one.retracted_at and any(self.done[other].retracted_at for other in self.before(id))
        }

"""Wizard's monitors for WebAssembly: each puts its probes into a module and reads its figures from them afterwards.

Everything here is counted by code inside the module. Those that ask the host, since what they tell depends on operands
without bound, are in `asking`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weft.runtime.probes.binary import I32, Function, Instruction, Module, unsigned
from weft.runtime.probes.opcodes import (
    BLOCK,
    BR,
    BR_IF,
    BR_ON_CAST,
    BR_ON_CAST_FAIL,
    BR_ON_NON_NULL,
    BR_ON_NULL,
    BR_TABLE,
    CATCH,
    CATCH_ALL,
    ELSE,
    END,
    GLOBAL_GET,
    GLOBAL_SET,
    IF,
    LOOP,
    NAMES,
    OPENING,
    RETHROW,
    THROW,
    TRY,
    completes,
)
from weft.runtime.probes.rewrite import Rewriter

CASTS = (BR_ON_CAST, BR_ON_CAST_FAIL)
CONDITIONAL = (BR_IF, BR_ON_NULL, BR_ON_NON_NULL, *CASTS)


class Monitor:
    """Puts probes in with `attach`; `counts` (by counter) and `called` then tell what they saw."""

    def __init__(self) -> None:
        self.module: Module
        self.counts: Sequence[int] = ()

    def attach(self, rewriter: Rewriter) -> None:
        """Put the probes in. A monitor is attached once."""
        raise NotImplementedError

    def called(self, site: int, operand: int) -> None:
        """A probe of this monitor called the host."""

    def begun(self, arm: Callable[[int, int], None]) -> None:
        """An instance begins to run; `arm(counter, value)` sets a counter of it."""

    def of(self, counter: int) -> int:
        return self.counts[counter] if self.counts else 0


@dataclass(slots=True)
class Place:
    """An instruction of a function and how often it was executed."""

    function: Function
    instruction: Instruction
    count: int


class Hotness(Monitor):
    """How often each instruction was executed. One counter serves a run of instructions none of which can stop it."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self._counters: list[list[int]] = []
        for function in self.module.functions:
            mine: list[int] = []
            fresh = True
            for place, instruction in enumerate(function.instructions):
                if fresh or instruction.code in (LOOP, END):
                    counter = rewriter.counter()
                    rewriter.executed(function, place, rewriter.bump(counter))
                mine.append(counter)
                fresh = not completes(instruction.code)
            self._counters.append(mine)

    def places(self) -> list[Place]:
        """Every instruction in the order of the text."""
        return [
            Place(function, instruction, self.of(counter))
            for function, mine in zip(self.module.functions, self._counters, strict=True)
            for instruction, counter in zip(function.instructions, mine, strict=True)
        ]


class Opcodes(Hotness):
    """How often each kind of instruction stands in the module and was executed."""

    def opcodes(self) -> dict[str, tuple[int, int]]:
        """Name to (in the text, executed), the most executed first."""
        there: Counter[str] = Counter()
        executed: Counter[str] = Counter()
        for place in self.places():
            there[NAMES[place.instruction.code]] += 1
            executed[NAMES[place.instruction.code]] += place.count
        return {name: (there[name], executed[name]) for name in sorted(there, key=lambda name: -executed[name])}


class Globals(Hotness):
    """How often each global was read and written."""

    def globals(self) -> list[tuple[int, int]]:
        """(reads, writes) of each global of the module."""
        found = [[0, 0] for _ in range(self.module.counts["globals"])]
        for place in self.places():
            if place.instruction.code in (GLOBAL_GET, GLOBAL_SET):
                found[place.instruction.values[0]][place.instruction.code == GLOBAL_SET] += place.count
        return [(reads, writes) for reads, writes in found]


class Coverage(Hotness):
    """Which instructions were executed."""


class Blocks(Monitor):
    """How often each basic block was begun: blocks begin where control may come in or go on after leaving."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self._counters: dict[tuple[int, int], int] = {}
        for function in self.module.functions:
            for place in block_starts(function):
                counter = self._counters[function.index, place] = rewriter.counter()
                rewriter.executed(function, place, rewriter.bump(counter))

    def starts(self, function: Function) -> dict[int, int]:
        """Place of each block's first instruction to how often it was executed."""
        return {
            place: self.of(counter) for (index, place), counter in self._counters.items() if index == function.index
        }


def block_starts(function: Function) -> list[int]:
    """The places (indices of instructions) at which Wizard's coverage monitor begins a block."""
    starts, fresh = [], True
    for place, instruction in enumerate(function.instructions):
        if fresh or instruction.code in (BLOCK, LOOP, TRY, CATCH, CATCH_ALL):
            starts.append(place)
        fresh = instruction.code in (BR, BR_IF, BR_TABLE, IF, ELSE, THROW, RETHROW, END)
    return starts


@dataclass(slots=True)
class Branch:
    """A branch that may go several ways: `taken` is by label of a `br_table`; else [not taken, taken]."""

    function: Function
    instruction: Instruction
    taken: list[int]


class Branches(Monitor):
    """Which way each conditional branch went. Of an `if`, taken is its first arm; of a cast, as Wizard tells, the two
    are the other way round.

    A branch is counted before it and where it goes on in the text; the latter serves as the former of the next branch
    if nothing between them can trap or leave."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self._sites: list[tuple[Function, Instruction, list[int]]] = []
        for function in self.module.functions:
            arities = [len(function.results)]  # of the labels around: how many values go along with a branch to them
            here: int | None = None  # a counter of this very place in the text, put there for the branch before
            for place, instruction in enumerate(function.instructions):
                if instruction.code in OPENING:
                    arities.append(self.module.arities(instruction.values[0])[instruction.code != LOOP])
                if instruction.code in CONDITIONAL or instruction.code == IF:
                    counters = [rewriter.counter() if here is None else here, rewriter.counter()]
                    if here is None:
                        rewriter.before(function, place, rewriter.bump(counters[0]))
                    rewriter.after(function, place, rewriter.bump(counters[1]))
                    here = counters[1]
                    self._sites.append((function, instruction, counters))
                    continue
                if instruction.code in (LOOP, END) or not completes(instruction.code):
                    here = None
                if instruction.code == END:
                    arities.pop()
                elif instruction.code == BR_TABLE:
                    labels = instruction.values[0]
                    alone = not any(arities[-1 - label] for label in labels)
                    counters = _table(rewriter, function, place, labels, alone)
                    self._sites.append((function, instruction, counters))

    def branches(self) -> list[Branch]:
        """Every branch, in the order of the text."""
        return [Branch(function, found, self._taken(found, counters)) for function, found, counters in self._sites]

    def _taken(self, instruction: Instruction, counters: list[int]) -> list[int]:
        seen = [self.of(counter) for counter in counters]
        if instruction.code == BR_TABLE:
            return seen
        fell = [seen[0] - seen[1], seen[1]]  # (branched away, went on in the text)
        return fell if instruction.code in (IF, *CASTS) else fell[::-1]


def _table(rewriter: Rewriter, function: Function, place: int, labels: list[int], alone: bool) -> list[int]:
    """A counter for each label of a br_table, chosen by a br_table of our own. It stands for the program's one, and
    goes on to the labels itself; where values go along with the branch (not `alone`), it stands before it."""
    counters = [rewriter.counter() for _ in labels]
    index = rewriter.scratch(function, I32)
    code = b"\x21" + index + b"\x02\x40" * (len(labels) + (not alone))
    code += b"\x20" + index + b"\x0e" + unsigned(len(labels) - 1) + b"".join(map(unsigned, range(len(labels))))
    for number, (label, counter) in enumerate(zip(labels, counters, strict=True)):
        around = len(labels) - 1 - number
        code += b"\x0b" + rewriter.bump(counter) + b"\x0c" + unsigned(around + (label if alone else 0))
    if alone:
        rewriter.instead(function, place, code)
    else:
        rewriter.before(function, place, code + b"\x0b\x20" + index)
    return counters


@dataclass(slots=True)
class LoopCount:
    """A loop from the offset of its `loop` to that of its `end`, how deep it stands in others, its iterations."""

    function: Function
    begin: int
    end: int
    depth: int
    count: int


class Loops(Monitor):
    """How many iterations each loop made."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self._loops: list[tuple[LoopCount, int]] = []
        for function in self.module.functions:
            opened: list[LoopCount | None] = []
            for place, instruction in enumerate(function.instructions):
                if instruction.code == LOOP:
                    depth = sum(loop is not None for loop in opened)
                    loop = LoopCount(function, instruction.offset, 0, depth, 0)
                    opened.append(loop)
                    self._loops.append((loop, rewriter.counter()))
                    rewriter.executed(function, place, rewriter.bump(self._loops[-1][1]))
                elif instruction.code in OPENING:
                    opened.append(None)
                elif instruction.code == END and opened and (ended := opened.pop()):
                    ended.end = instruction.offset

    def loops(self) -> list[LoopCount]:
        """Every loop, in the order of the text."""
        for loop, counter in self._loops:
            loop.count = self.of(counter)
        return [loop for loop, _ in self._loops]

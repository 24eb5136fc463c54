"""Wizard's monitors whose probes call the host with an operand: what calls reach, which memory is used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from weft.runtime.probes.binary import I32, I64, Function, Instruction, unsigned
from weft.runtime.probes.monitors import Monitor
from weft.runtime.probes.opcodes import (
    CALL,
    CALLS,
    MEMORY_COPY,
    MEMORY_FILL,
    MEMORY_GROW,
    MEMORY_INIT,
    NAMES,
    RETURN_CALL,
)
from weft.runtime.probes.rewrite import Rewriter

PAGE = 65_536


@dataclass(slots=True)
class CallSite:
    """A call in the text; `targets` are the functions that an indirect one reached, in the order of their first."""

    instruction: Instruction
    count: int
    targets: dict[int | None, int] = field(default_factory=dict)


class Calls(Monitor):
    """How often each function was entered and each call made; where indirect calls went.

    A call through a table or a reference tells the host that it is about to be made, and the function that is entered
    next tells which it is: so the table may change as it likes. A target outside the module is None."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self._entries: dict[int, int] = {}
        self._sites: dict[int, list[tuple[CallSite, int]]] = {}
        self._indirect: list[CallSite] = []
        self._pending: CallSite | None = None
        waiting = rewriter.counter()
        flag = unsigned(self.module.counts["globals"] + waiting)
        codes = {instruction.code for function in self.module.functions for instruction in function.instructions}
        indirect = bool(codes & (CALLS - {CALL, RETURN_CALL}))
        for function in self.module.functions:
            entry = self._entries[function.index] = rewriter.counter()
            told = b"\x42\x00\x24" + flag + rewriter.call(-1 - function.index, b"\x42\x00")
            asked = b"\x23" + flag + b"\xa7\x04\x40" + told + b"\x0b"
            mine = self._sites[function.index] = []
            rewriter.entry(function, rewriter.bump(entry) + (asked if indirect else b""))
            for place, instruction in enumerate(function.instructions):
                if instruction.code in CALLS:
                    site = CallSite(instruction, 0)
                    mine.append((site, rewriter.counter()))
                    rewriter.before(function, place, rewriter.bump(mine[-1][1]))
                    if instruction.code not in (CALL, RETURN_CALL):
                        number = len(self._indirect)
                        self._indirect.append(site)
                        rewriter.before(function, place, b"\x42\x01\x24" + flag + rewriter.call(number, b"\x42\x01"))
                        rewriter.after(function, place, b"\x42\x00\x24" + flag + rewriter.call(number, b"\x42\x02"))

    def called(self, site: int, operand: int) -> None:
        if site < 0:
            self._reached(-1 - site)
        elif operand == 1:
            self._reached(None)  # the one before it never came to a function of the module
            self._pending = self._indirect[site]
        else:
            self._reached(None)

    def _reached(self, function: int | None) -> None:
        if self._pending is not None:
            self._pending.targets[function] = self._pending.targets.get(function, 0) + 1
            self._pending = None

    def calls(self) -> list[tuple[Function, int, list[CallSite]]]:
        """Every function, how often it was entered, and the calls in it."""
        found = []
        for function in self.module.functions:
            sites = self._sites[function.index]
            for site, counter in sites:
                site.count = self.of(counter)
            found.append((function, self.of(self._entries[function.index]), [site for site, _ in sites]))
        return found


@dataclass(slots=True)
class MemoryUse:
    """A memory: accesses by chunk of 64 KiB, bulk operations (how many, bytes), growth, the pages at its largest."""

    chunks: int
    reads: Counter[int] = field(default_factory=Counter)
    writes: Counter[int] = field(default_factory=Counter)
    init: tuple[int, int] = (0, 0)
    copy: tuple[int, int] = (0, 0)
    fill: tuple[int, int] = (0, 0)
    grows: int = 0
    largest: int = 0


class Memory(Monitor):
    """Reads and writes of each memory. Every access calls the host (microseconds each)."""

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        self.memories = [MemoryUse(least) for _, least in self.module.memories]
        self._sites: list[tuple[int, int, int, int]] = []
        self._operands: list[int] = []
        for function in self.module.functions:
            for place, instruction in enumerate(function.instructions):
                self._place(rewriter, function, place, instruction)

    def _place(self, rewriter: Rewriter, function: Function, place: int, instruction: Instruction) -> None:
        code, name = instruction.code, NAMES[instruction.code]
        if 0x28 <= code <= 0x3E:
            _, memory, offset = instruction.values[0]
            value = {"i32": I32, "i64": I64, "f32": 0x7D, "f64": 0x7C}[name[:3]]
            kinds = [self._address(memory)] + ([value] if code >= 0x36 else [])
            self._sites.append((code, memory, 0, offset))
        elif code == MEMORY_GROW:
            memory = instruction.values[0]
            kinds = [self._address(memory)]
            self._sites.append((code, memory, 0, 0))
        elif code in (MEMORY_INIT, MEMORY_COPY, MEMORY_FILL):
            memory, other = instruction.values[-1 if code != MEMORY_COPY else 0], instruction.values[-1]
            to, source = self._address(memory), self._address(other)
            size = I32 if code == MEMORY_INIT else min(to, source, key=lambda kind: kind != I32)
            kinds = [to, source if code == MEMORY_COPY else I32, size]
            self._sites.append((code, memory, other, 0))
        else:
            return
        locals_ = [rewriter.scratch(function, kind) for kind in kinds]
        told = b"".join(b"\x21" + local for local in reversed(locals_))
        for local, kind in zip(locals_, kinds, strict=True):
            if kind in (I32, I64) and not (len(kinds) == 2 and local == locals_[1]):
                wide = b"\x20" + local + (b"\xad" if kind == I32 else b"")
                told += rewriter.call(len(self._sites) - 1, wide)
        if code == MEMORY_GROW:
            told += rewriter.call(
                len(self._sites) - 1, b"\x3f" + unsigned(memory) + (b"\xad" if kinds[0] == I32 else b"")
            )
        rewriter.before(function, place, told + b"".join(b"\x20" + local for local in locals_))

    def _address(self, memory: int) -> int:
        return I64 if self.module.memories[memory][0] & 4 else I32

    def called(self, site: int, operand: int) -> None:
        code, memory, other, offset = self._sites[site]
        use = self.memories[memory]
        if 0x28 <= code <= 0x3E:
            (use.writes if code >= 0x36 else use.reads)[(operand + offset) // PAGE] += 1
            return
        self._operands.append(operand)
        if len(self._operands) < (2 if code == MEMORY_GROW else 3):
            return
        operands, self._operands = self._operands, []
        if code == MEMORY_GROW:
            use.grows, use.largest = use.grows + 1, max(use.largest, sum(operands))
            return
        to, source, size = operands
        use.writes[to // PAGE] += 1
        if code == MEMORY_COPY:
            self.memories[other].reads[source // PAGE] += 1
        name = {MEMORY_INIT: "init", MEMORY_COPY: "copy", MEMORY_FILL: "fill"}[code]
        count, moved = getattr(use, name)
        setattr(use, name, (count + 1, moved + size))

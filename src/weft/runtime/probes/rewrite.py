"""Puts probes into a WebAssembly module by rewriting its code, so that the program itself can't tell.

Counters are extra mutable globals at the end, calls of the host go through an extra exported table at the end, scratch
space is extra locals at the end of a function: no index that the program uses changes, and its memory is untouched.

Where a probe of an instruction must stand for it to fire exactly as often as the instruction is executed (as Wizard
counts): before it, except for a `loop`, whose header runs once an iteration (just inside); for an `end`, which a branch
to it executes too (just after it); and for the last `end` of a function, which a branch to the function's level
executes but a `return` doesn't (the body is put in a block, and the probe stands after that block).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from weft.core.errors import BadInput
from weft.runtime.probes.binary import (
    EXPORTS,
    GLOBALS,
    I64,
    START,
    TABLES,
    TYPES,
    Function,
    Module,
    Reader,
    signed,
    unsigned,
)
from weft.runtime.probes.opcodes import END, LOOP

COUNTER = "weft.counter."
TABLE = "weft.probes"
BEGIN = "weft.begin"
"""Exports of a rewritten module: counter number N, the table whose place 0 is called by probes, the start function."""

Call = Callable[[int, int], None]
"""What the host gives for probes that call: (site, operand)."""


class Rewriter:
    """Collects probes for `module`; `encode()` gives the instrumented module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.counters = 0
        self.calls = False
        self.share = 0, 1
        """Of the sites that call the host: whose they are, of how many that share the module."""
        self._code: dict[tuple[int, int, bool], bytearray] = defaultdict(bytearray)
        self._instead: dict[tuple[int, int], bytes] = {}
        self._entry: dict[int, bytearray] = defaultdict(bytearray)
        self._scratch: dict[int, list[bytes]] = defaultdict(list)
        self._callback: int | None = None
        self._types: list[bytes] = []
        self._functions = {function.index: function for function in module.functions}

    def counter(self) -> int:
        """A new counter, 0 at first; its number."""
        self.counters += 1
        return self.counters - 1

    def bump(self, counter: int) -> bytes:
        """Code that adds one to it. It leaves the stack as it was."""
        place = unsigned(self.module.counts["globals"] + counter)
        return b"\x23" + place + b"\x42\x01\x7c\x24" + place

    def scratch(self, function: Function, kind: int) -> bytes:
        """A new local of this type; its index, encoded."""
        added = self._scratch[function.index]
        added.append(bytes((kind,)))
        return unsigned(len(function.params) + len(function.locals) + len(added) - 1)

    def call(self, site: int, operand: bytes) -> bytes:
        """Code that calls the host with `site` and what `operand` (code that leaves one i64) gives."""
        self.calls = True
        if self._callback is None:
            self._callback = self._type(b"\x60\x02\x7f\x7e\x00")
        table = self.module.counts["tables"]
        place, many = self.share
        told = b"\x41" + signed(site * many + place) + operand
        return told + b"\x41\x00\x11" + unsigned(self._callback) + unsigned(table)

    def entry(self, function: Function, code: bytes) -> None:
        """`code` runs when the function is entered, before its first instruction."""
        self._entry[function.index] += code

    def executed(self, function: Function, place: int, code: bytes) -> None:
        """`code` runs exactly as often as the instruction at `place` is executed."""
        opcode = function.instructions[place].code
        self._code[function.index, place, opcode in (LOOP, END)] += code

    def before(self, function: Function, place: int, code: bytes) -> None:
        """`code` runs before the instruction, with its operands on the stack: it must leave them there."""
        self._code[function.index, place, False] += code

    def instead(self, function: Function, place: int, code: bytes) -> None:
        """`code` stands in place of the instruction: it must do the same besides what it counts."""
        self._instead[function.index, place] = code

    def after(self, function: Function, place: int, code: bytes) -> None:
        """`code` runs when the instruction has handed on to the next in the text (not when it branched away)."""
        self._code[function.index, place, True] += code

    def encode(self) -> bytes:
        """The instrumented module. Raises BadInput for one that exports names which are those of probes."""
        if taken := [name for name in self.module.exports if name.startswith((COUNTER, TABLE, BEGIN))]:
            raise BadInput(f"the module exports {taken[0]!r}, a name that probes use")
        bodies = [self._body(function) for function in self.module.functions]
        added: dict[int, list[bytes]] = {TYPES: self._types, EXPORTS: []}
        added[GLOBALS] = [bytes((I64, 1)) + b"\x42\x00\x0b"] * self.counters
        for number in range(self.counters):
            added[EXPORTS].append(_export(f"{COUNTER}{number}", 3, self.module.counts["globals"] + number))
        drop = []
        if self.calls:
            added[TABLES] = [b"\x70\x00\x01"]
            added[EXPORTS].append(_export(TABLE, 1, self.module.counts["tables"]))
            if start := self.module.section(START):  # it may run only when the table is filled
                drop.append(START)
                added[EXPORTS].append(_export(BEGIN, 0, Reader(start).number()))
        return self.module.encode(added, bodies, drop)

    def _type(self, entry: bytes) -> int:
        if entry not in self._types:
            self._types.append(entry)
        return len(self.module.types) + self._types.index(entry)

    def _body(self, function: Function) -> bytes:
        last = len(function.instructions) - 1
        wrapped = (function.index, last, True) in self._code
        out = bytearray(self._declared(function)) + self._entry.get(function.index, b"")
        if wrapped:
            out += b"\x02" + self._block(function.results)
        for place, instruction in enumerate(function.instructions):
            out += self._code.get((function.index, place, False), b"")
            out += self._instead.get((function.index, place), instruction.raw)
            out += self._code.get((function.index, place, True), b"")
        return bytes(out + b"\x0b" if wrapped else out)

    def _block(self, results: list[bytes]) -> bytes:
        if not results:
            return b"\x40"
        if len(results) == 1:
            return results[0]
        return signed(self._type(b"\x60\x00" + unsigned(len(results)) + b"".join(results)))

    def _declared(self, function: Function) -> bytes:
        added = self._scratch.get(function.index)
        if not added:
            return function.declared
        reader = Reader(function.declared)
        count = reader.number()
        rest = function.declared[reader.at :]
        return unsigned(count + len(added)) + rest + b"".join(b"\x01" + kind for kind in added)


def _export(name: str, kind: int, index: int) -> bytes:
    encoded = name.encode()
    return unsigned(len(encoded)) + encoded + bytes((kind,)) + unsigned(index)

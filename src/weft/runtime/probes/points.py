"""Wizard's hierarchy of probes in WebAssembly: your own functions, at places that you name, put in and out as it runs.

A `Points` monitor is given the places at which probes may wait. At each, the code asks one global whether any does (and
then, where the place has a condition, the condition) before it calls the host: so a place that nobody watches costs a
read and a jump, and probes can be put in and taken out in the middle of a call of the program.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from weft.core.errors import BadInput
from weft.runtime.probes.binary import Function, unsigned
from weft.runtime.probes.condition import Condition, compiled
from weft.runtime.probes.firing import Firing
from weft.runtime.probes.monitors import Monitor
from weft.runtime.probes.opcodes import RETURN, RETURN_CALL, RETURN_CALL_INDIRECT, RETURN_CALL_REF
from weft.runtime.probes.rewrite import Rewriter

Kind = Literal["global", "local", "entry", "exit", "before", "after"]
_LEAVING = (RETURN, RETURN_CALL, RETURN_CALL_INDIRECT, RETURN_CALL_REF)


@dataclass(frozen=True, slots=True)
class Point:
    """Places of a program.

    global: every instruction, of `function` or of all; local: the instruction of `function` at `offset`, as often as it
    is executed; before, after: that instruction, before it and once it has handed on to the next in the text; entry,
    exit: of `function` (an exit by a trap isn't seen). `when`: only if this condition over the locals holds."""

    kind: Kind
    function: str = ""
    offset: int | None = None
    when: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A place was reached: in which function, at which offset, with these values of the names in the condition."""

    function: str
    offset: int
    values: dict[str, int | float] = field(default_factory=dict)


class Points(Monitor):
    """Probes of yours at these points. They may be put in before, and while, the program runs."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.firing: dict[Point, Firing[Event]] = {point: Firing(self._switch(point)) for point in points}
        self._sites: list[tuple[Point, Function, int, Condition]] = []
        self._flags: dict[Point, int] = {}
        self._operands: list[int] = []
        self.arm: Callable[[int, int], None] | None = None
        """Sets a counter of the running instance; there while there is one."""

    def insert(self, point: Point, probe: Callable[[Event], None]) -> None:
        """Put `probe` in at a point that the monitor was made with. Raises BadInput for another."""
        self._of(point).insert(probe)

    def remove(self, point: Point, probe: Callable[[Event], None]) -> None:
        """Take it out again."""
        self._of(point).remove(probe)

    def _of(self, point: Point) -> Firing[Event]:
        if point not in self.firing:
            raise BadInput(f"{point} isn't one of the points that this monitor was made with")
        return self.firing[point]

    def attach(self, rewriter: Rewriter) -> None:
        self.module = rewriter.module
        for point in self.firing:
            self._flags[point] = rewriter.counter()
            functions = [self.module.find(point.function)] if point.function else self.module.functions
            if not point.function and point.kind != "global":
                raise BadInput(f"a point of kind {point.kind!r} needs a function")
            for function in functions:
                self._place(rewriter, point, function)

    def _place(self, rewriter: Rewriter, point: Point, function: Function) -> None:
        last = len(function.instructions) - 1
        if point.kind == "entry":
            rewriter.entry(function, self._code(rewriter, point, function, 0))
        elif point.kind == "exit":
            rewriter.after(function, last, self._code(rewriter, point, function, last))
            for place, instruction in enumerate(function.instructions):
                if instruction.code in _LEAVING:
                    rewriter.before(function, place, self._code(rewriter, point, function, place))
        elif point.kind == "global":
            for place in range(last + 1):
                rewriter.executed(function, place, self._code(rewriter, point, function, place))
        else:
            offsets = {instruction.offset: place for place, instruction in enumerate(function.instructions)}
            if point.offset not in offsets:
                raise BadInput(f"no instruction of function {point.function!r} is at offset {point.offset}")
            place = offsets[point.offset]
            put = {"local": rewriter.executed, "before": rewriter.before, "after": rewriter.after}[point.kind]
            put(function, place, self._code(rewriter, point, function, place))

    def _code(self, rewriter: Rewriter, point: Point, function: Function, place: int) -> bytes:
        condition = compiled(self.module, function, point.when) if point.when else Condition(b"", {})
        site = len(self._sites)
        self._sites.append((point, function, place, condition))
        operands = [code for _, code in condition.operands.values()] or [b"\x42\x00"]
        told = b"".join(rewriter.call(site, operand) for operand in operands)
        if condition.code:
            told = condition.code + b"\x04\x40" + told + b"\x0b"
        flag = unsigned(self.module.counts["globals"] + self._flags[point])
        return b"\x23" + flag + b"\xa7\x04\x40" + told + b"\x0b"

    def called(self, site: int, operand: int) -> None:
        point, function, place, condition = self._sites[site]
        self._operands.append(operand)
        if len(self._operands) < len(condition.operands):
            return
        operands, self._operands = self._operands, []
        values: dict[str, int | float] = {}
        for (name, (is_float, _)), bits in zip(condition.operands.items(), operands, strict=False):
            values[name] = struct.unpack("<d", struct.pack("<q", bits))[0] if is_float else bits
        name = self.module.name(function.index).strip('"')
        self.firing[point].fire(Event(name, function.instructions[place].offset, values))

    def begun(self, arm: Callable[[int, int], None]) -> None:
        self.arm = arm
        for point, firing in self.firing.items():
            arm(self._flags[point], int(firing.waiting))

    def _switch(self, point: Point) -> Callable[[bool], None]:
        def switch(waiting: bool) -> None:
            if self.arm is not None:
                self.arm(self._flags[point], int(waiting))

        return switch

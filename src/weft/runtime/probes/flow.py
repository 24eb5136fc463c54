"""How often each branch of a function went which way, from few counters: what flows into a place flows out of it.

After Knuth and Stevenson (*Optimal measurement points for program frequency counts*, 1973) and Ball and Larus
(*Optimally profiling and tracing programs*, 1994): counts that follow from others need no counter. The function is gone
through once with the flow at each place as a sum of unknowns: of its entry, of what comes back from each call, of each
loop, of each branch the way on in the text. A loop's follows from those that jump back to it unless it would from
itself. Only those get a counter that something is told of.

This stays exact when a program doesn't end by itself. What a call doesn't return from is no loss, since the flow after
it is an unknown of its own, in each frame of the stack. And an instruction at which the innermost frame trapped took in
one more than it let out, at a place that the trap tells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from weft.runtime.probes.binary import Function, Instruction
from weft.runtime.probes.opcodes import (
    BR,
    BR_TABLE,
    CALLS,
    CATCH,
    CATCH_ALL,
    CONDITIONAL,
    DELEGATE,
    ELSE,
    END,
    IF,
    LEAVING,
    LOOP,
    OPENING,
    TRY,
    TRY_TABLE,
    completes,
)
from weft.runtime.probes.rewrite import Rewriter

_EVENTS = frozenset({*OPENING, ELSE, CATCH, CATCH_ALL, END, DELEGATE, BR, BR_TABLE, *CONDITIONAL, *CALLS, *LEAVING})
Put = Callable[[bytes], None]
LONGEST = 32
"""Terms of a sum; instead of a longer one there is a counter."""


class Unknown:
    """A flow. It has a counter that `put` sets in place, or is `known` as a sum of others, or is 1 if the innermost
    frame trapped at one of the places in `traps`."""

    __slots__ = ("counter", "known", "put", "traps")

    def __init__(self, put: Put | None = None, traps: range = range(0)) -> None:
        self.put = put
        self.traps = traps
        self.counter: int | None = None
        self.known: Sum | None = None


Sum = dict[Unknown, int]


class _Label:
    """A block, which is left at its end; of a loop, `header` is the flow through its begin."""

    def __init__(self, entry: Sum | None = None, header: Unknown | None = None, odd: bool = False) -> None:
        self.entry = entry or {}
        self.header = header
        self.odd = odd
        """Exceptions come to it, too."""
        self.came: Sum = {}
        """From branches to it."""
        self.otherwise: Sum = {}
        """Of an `if`: past its first arm."""


class Flow:
    """The flow of a function. `sites`: each branch, and the flow on each of its ways ([not in the text, on in it])."""

    def __init__(
        self, rewriter: Rewriter, function: Function, table: Callable[[int, list[int], bool], list[int]]
    ) -> None:
        """`table` puts counters of a `br_table`'s labels in (place, labels, whether no values go along)."""
        self.sites: list[tuple[Instruction, list[Sum]]] = []
        self._rewriter = rewriter
        self._function = function
        self._table = table
        self._unknowns: list[Unknown] = []
        self._labels: list[_Label] = []
        self._arities: list[int] = []
        self._trapping: int | None = None
        """The first place that may trap since the flow last came to be known."""
        self._go()
        self._count()

    # --- going through the text -------------------------------------------------------------------------------

    def _new(self, put: Put | None = None, traps: range = range(0)) -> Sum:
        self._unknowns.append(Unknown(put, traps))
        return {self._unknowns[-1]: 1}

    def _after(self, place: int) -> Sum:
        return self._new(partial(self._rewriter.after, self._function, place))

    def _go(self) -> None:
        module = self._rewriter.module
        here = self._new(partial(self._rewriter.entry, self._function))
        self._labels, self._arities = [_Label()], [len(self._function.results)]
        for place, instruction in enumerate(self._function.instructions):
            code = instruction.code
            if code not in _EVENTS:
                if self._trapping is None and not completes(code):
                    self._trapping = place
                continue
            if self._trapping is not None:
                here = _sum(here, self._new(traps=range(self._trapping, place)), by=-1)
                self._trapping = None
            if len(here) > LONGEST:
                here = self._new(partial(self._rewriter.before, self._function, place))
            if code in OPENING:
                self._arities.append(module.arities(instruction.values[0])[code != LOOP])
                here = self._open(place, instruction, here)
            elif code in (ELSE, CATCH, CATCH_ALL):
                label = self._labels[-1]
                _add(label.came, here)
                here, label.otherwise = (label.otherwise, {}) if code == ELSE else (self._after(place), {})
            elif code in (END, DELEGATE):
                self._arities.pop()
                here = self._close(place, self._labels.pop(), here)
            else:
                here = self._leave(place, instruction, here)

    def _open(self, place: int, instruction: Instruction, here: Sum) -> Sum:
        code = instruction.code
        if code == IF:
            taken = self._branch(place, instruction, here)
            self._labels.append(_Label())
            self._labels[-1].otherwise = _sum(here, taken, by=-1)
            return taken
        if code == LOOP:
            header = self._new(partial(self._rewriter.executed, self._function, place))
            self._labels.append(_Label(here, next(iter(header))))
            return header
        if code == TRY_TABLE:
            for _, _, label in instruction.values[1]:
                self._labels[-1 - label].odd = True
        self._labels.append(_Label(odd=code in (TRY, TRY_TABLE)))
        return here

    def _close(self, place: int, label: _Label, here: Sum) -> Sum:
        if label.header is not None:
            around = self._flat(_sum(label.entry, label.came))
            if label.header not in around and not label.odd:
                label.header.known = around
            return here
        if label.odd and self._labels:
            return self._after(place)
        return _sum(_sum(here, label.came), label.otherwise)

    def _leave(self, place: int, instruction: Instruction, here: Sum) -> Sum:
        """A branch, a call, or an end of the flow."""
        code = instruction.code
        if code in CONDITIONAL:
            on = self._branch(place, instruction, here)
            target = instruction.values[0] if isinstance(instruction.values[0], int) else instruction.values[0][1]
            self._to(target, here)
            self._to(target, on, by=-1)
            return on
        if code == BR:
            self._to(instruction.values[0], here)
        elif code == BR_TABLE:
            labels = instruction.values[0]
            alone = not any(self._arities[-1 - label] for label in labels)
            ways = []
            for label, counter in zip(labels, self._table(place, labels, alone), strict=True):
                ways.append(self._new())
                self._unknowns[-1].counter = counter
                self._to(label, ways[-1])
            self.sites.append((instruction, ways))
        elif code in CALLS and code not in LEAVING:
            return self._after(place)
        return {}

    def _branch(self, place: int, instruction: Instruction, here: Sum) -> Sum:
        """The flow on in the text."""
        on = self._after(place)
        self.sites.append((instruction, [_sum(here, on, by=-1), on]))
        return on

    def _to(self, label: int, flow: Sum, by: int = 1) -> None:
        _add(self._labels[-1 - label].came, flow, by)

    # --- counters -----------------------------------------------------------------------------------------------

    def _flat(self, flow: Sum) -> Sum:
        out: Sum = {}
        for one, times in flow.items():
            _add(out, {one: 1} if one.known is None else one.known, times)
        return out

    def _count(self) -> None:
        """Put counters in where something is told of them."""
        used: set[Unknown] = set()
        left = [one for _, ways in self.sites for way in ways for one in way]
        while left:
            one = left.pop()
            if one not in used:
                used.add(one)
                left += one.known or ()
        for one in self._unknowns:
            if one in used and one.known is None and one.put is not None:
                one.counter = self._rewriter.counter()
                one.put(self._rewriter.bump(one.counter))

    def counts(self, of: Callable[[int], int], trapped: int | None) -> list[list[int]]:
        """Of each site, the counts of its ways. `of` reads a counter; `trapped`: where the innermost frame trapped, if
        it was one of this function."""
        values: dict[Unknown, int] = {}
        for one in self._unknowns:
            if one.known is None:
                values[one] = of(one.counter) if one.counter is not None else int(trapped in one.traps)
        for one in self._unknowns:  # those around come before those within, which may be sums of them
            if one.known is not None:
                values[one] = sum(times * values[other] for other, times in one.known.items())
        return [[sum(times * values[one] for one, times in way.items()) for way in ways] for _, ways in self.sites]


def _add(into: Sum, flow: Sum, by: int = 1) -> None:
    for one, times in flow.items():
        total = into.get(one, 0) + by * times
        if total:
            into[one] = total
        else:
            del into[one]


def _sum(one: Sum, other: Sum, by: int = 1) -> Sum:
    out = dict(one)
    _add(out, other, by)
    return out

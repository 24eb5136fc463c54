"""All histories up to a bound as one table of z3 variables, and what z3 says about formulas over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import z3

from verify.logic import Truth
from verify.table import ABSENT, UNTOLD, CallSlot, ReadSlot, Row, Shape, Table, ToolCell, WriteCell


class Symbolic:
    """Logic on z3's terms."""

    def all(self, parts: Iterable[Truth]) -> Truth:
        return z3.And(list(parts))

    def any(self, parts: Iterable[Truth]) -> Truth:
        return z3.Or(list(parts))

    def no(self, part: Truth) -> Truth:
        return z3.Not(part)

    def choose(self, test: Truth, yes: Any, other: Any) -> Any:
        return z3.If(test, yes, other)


SYMBOLIC = Symbolic()


def variables(shape: Shape) -> Table:
    """A table whose every entry is a variable of its own."""
    return [_row(shape, f"op{i}") for i in range(shape.operations)]


def _row(shape: Shape, name: str) -> Row:
    flag, number = z3.Bool, z3.Int
    return Row(
        number(f"{name}.agent"),
        number(f"{name}.begin"),
        number(f"{name}.end"),
        [_slot(ReadSlot, f"{name}.read{n}", ("used",)) for n in range(shape.reads)],
        [_slot(WriteCell, f"{name}.write{n}", ("used",)) for n in range(shape.cells)],
        [_slot(CallSlot, f"{name}.call{n}", ("used", "took", "ordered")) for n in range(shape.calls)],
        [_slot(ToolCell, f"{name}.tool{n}", ("planned", "had", "kept")) for n in range(shape.tools)],
        flag(f"{name}.end_known"),
        [flag(f"{name}.after{n}") for n in range(shape.operations)],
        flag(f"{name}.retracted"),
    )


def _slot(kind: Any, name: str, flags: Sequence[str]) -> Any:
    return kind(*((z3.Bool if field in flags else z3.Int)(f"{name}.{field}") for field in kind._fields))


def well_formed(table: Table, shape: Shape) -> Truth:
    """What `read_history` demands, and that the operations stand in the order of their commits.

    The order is no restriction: neither the definitions nor the detectors look at names.
    """
    rules: list[Truth] = [before.end <= after.end for before, after in pairwise(table)]
    for row in table:
        rules.append(row.begin <= row.end)
        for read in row.reads:
            rules += [row.begin <= read.at, read.at <= row.end, read.value >= UNTOLD]
            rules += [read.cell >= 0, read.cell < shape.cells]
        rules += [write.value >= UNTOLD for write in row.writes]
        for call in row.calls:
            rules += [call.tool >= 0, call.tool < shape.tools, call.signature >= ABSENT]
        rules += [z3.Distinct(*(call.issue for call in row.calls))] if len(row.calls) > 1 else []
        rules += [rule for tool in row.tools for rule in (tool.signature >= 0, tool.signature_at_end >= 0)]
        rules += [row.agent >= 0, row.agent < shape.operations]
    return z3.And(rules)


def one_at_a_time(table: Table) -> Truth:
    """No two operations of an agent overlap."""
    pairs = [(a, b) for number, a in enumerate(table) for b in table[number + 1 :]]
    return z3.And([z3.Or(a.agent != b.agent, a.end <= b.begin, b.end <= a.begin) for a, b in pairs])


def solve(*parts: Truth, seconds: float = 600) -> z3.ModelRef | None:
    """A history on which all parts hold; None if there is none. Raises TimeoutError if z3 can't tell in time."""
    solver = z3.Solver()
    solver.set("timeout", int(seconds * 1000))
    solver.add(*parts)
    answer = solver.check()
    if answer == z3.unknown:
        raise TimeoutError(f"z3 does not know: {solver.reason_unknown()}")
    return solver.model() if answer == z3.sat else None


def valued(model: z3.ModelRef, table: Table) -> Table:
    """The table that a model describes, in plain bools and ints."""

    def plain(term: Any) -> Any:
        value = model.eval(term, model_completion=True)
        return z3.is_true(value) if z3.is_bool(value) else value.as_long()

    def slots(found: Sequence[Any]) -> list[Any]:
        return [type(slot)(*map(plain, slot)) for slot in found]

    return [
        Row(
            plain(row.agent),
            plain(row.begin),
            plain(row.end),
            slots(row.reads),
            slots(row.writes),
            slots(row.calls),
            slots(row.tools),
            plain(row.end_known),
            [plain(one) for one in row.predecessors],
            plain(row.retracted),
        )
        for row in table
    ]

"""A history as tables of a fixed shape: what the definitions quantify over, with numbers for names.

Operations, cells, tools are 0, 1, 2, …; an operation has slots for reads and calls, of which some are in use. Values
and signatures are numbers from 0; -1 is one that the trace does not tell, and -2, as the signature at dispatch, a
tool that was not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from weft.trace.history import Call, Operation, Read, Write

UNTOLD, ABSENT = -1, -2


class Shape(NamedTuple):
    """How many there are of each: operations, cells, tools, and slots for reads and calls of each operation."""

    operations: int
    cells: int
    tools: int
    reads: int
    calls: int


class ReadSlot(NamedTuple):
    used: Any
    cell: Any
    value: Any
    at: Any


class CallSlot(NamedTuple):
    """`took`: it took effect, at `done`. `ordered`: the tool's effects are."""

    used: Any
    tool: Any
    issue: Any
    took: Any
    done: Any
    ordered: Any
    signature: Any


class ToolCell(NamedTuple):
    """One tool as one operation saw it: planned by word; there when it began, and at commit, with which signature."""

    planned: Any
    had: Any
    signature: Any
    kept: Any
    signature_at_end: Any


class WriteCell(NamedTuple):
    used: Any
    value: Any


@dataclass(frozen=True)
class Row:
    """One operation. `end_known`: the registry at commit was recorded. `predecessors[j]`: operation j is one."""

    agent: Any
    begin: Any
    end: Any
    reads: Sequence[ReadSlot]
    writes: Sequence[WriteCell]
    calls: Sequence[CallSlot]
    tools: Sequence[ToolCell]
    end_known: Any
    predecessors: Sequence[Any]
    retracted: Any


Table = Sequence[Row]


def tabulated(history: Sequence[Operation], cells: Sequence[str], tools: Sequence[str]) -> Table:
    """A history whose values and signatures are decimal numbers, as a table."""
    agents = {agent: number for number, agent in enumerate(dict.fromkeys(one.agent for one in history))}
    return [
        Row(
            agents[one.agent],
            one.begin,
            one.end,
            [ReadSlot(True, cells.index(read.cell), _number(read.value), read.at) for read in one.reads],
            [_written(one, cell) for cell in cells],
            [_called(call, tools) for call in one.calls],
            [_tool(one, tool) for tool in tools],
            one.tools_at_end is not None,
            [other.id in one.predecessors for other in history],
            one.retracted,
        )
        for one in history
    ]


def _number(value: str | None) -> int:
    return UNTOLD if value is None else int(value)


def _written(one: Operation, cell: str) -> WriteCell:
    for write in one.writes:
        if write.cell == cell:
            return WriteCell(True, _number(write.value))
    return WriteCell(False, 0)


def _called(call: Call, tools: Sequence[str]) -> CallSlot:
    signature = ABSENT if call.signature is None else UNTOLD if call.signature == "" else int(call.signature)
    ordered, took = call.effect == "ordered", call.done is not None
    return CallSlot(True, tools.index(call.tool), call.issue, took, call.done or 0, ordered, signature)


def _tool(one: Operation, tool: str) -> ToolCell:
    at_end = one.tools_at_end or {}
    return ToolCell(
        tool in one.planned,
        tool in one.tools,
        int(one.tools.get(tool, 0)),
        tool in at_end,
        int(at_end.get(tool, 0)),
    )


def untabulated(table: Table) -> list[Operation]:
    """A table of plain numbers as a history; `tabulated` gives an equal table, but for what is not in use."""
    return [
        Operation(
            id=f"op{number}",
            agent=f"agent{row.agent}",
            begin=row.begin,
            end=row.end,
            reads=tuple(Read(f"cell{r.cell}", _text(r.value), r.at) for r in row.reads if r.used),
            writes=tuple(Write(f"cell{c}", _text(w.value)) for c, w in enumerate(row.writes) if w.used),
            calls=tuple(_call(call) for call in row.calls if call.used),
            tools={f"tool{t}": str(one.signature) for t, one in enumerate(row.tools) if one.had},
            tools_at_end={f"tool{t}": str(one.signature_at_end) for t, one in enumerate(row.tools) if one.kept}
            if row.end_known
            else None,
            planned=tuple(f"tool{t}" for t, one in enumerate(row.tools) if one.planned),
            predecessors=tuple(f"op{other}" for other, is_one in enumerate(row.predecessors) if is_one),
            retracted=row.retracted,
        )
        for number, row in enumerate(table)
    ]


def _text(value: int) -> str | None:
    return None if value < 0 else str(value)


def _call(call: CallSlot) -> Call:
    signature = None if call.signature == ABSENT else "" if call.signature == UNTOLD else str(call.signature)
    done = call.done if call.took else None
    return Call(f"tool{call.tool}", call.issue, done, signature, "ordered" if call.ordered else "commutes")

"""Histories: which operations of which agents read, wrote and did what, and when.

This is the one form that the detectors (`weft.trace.anomalies`), the model in `verify/` and every reader of traces
share. A history is the list of *committed* operations (arXiv 2606.17182): each began, read, generated for a long
time, and committed what it wrote. Operations that gave up before they committed are not in it; those that were undone
after they had committed are, with `retracted`.

As a file it is JSON lines, one operation a line, in any order:

    {"id": "op1", "agent": "writer", "begin": 1, "end": 9,
     "reads": [{"cell": "plan", "value": "v1", "at": 2}], "writes": [{"cell": "plan", "value": "v2"}],
     "calls": [{"tool": "mail", "issue": 0, "done": 1}, {"tool": "file", "issue": 1, "done": 0}],
     "tools": {"mail": "s1"}, "tools_at_end": {"mail": "s1"}, "planned": ["mail"],
     "predecessors": ["op0"], "retracted": false, "level": "L1"}

`id`, `agent`, `begin` and `end` are required. What every field means stands at its struct below. Times are numbers of
any unit and origin, the same for all operations of a history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from weft.core.errors import BadInput
from weft.core.memory import Level

Time = int | float
"""A moment, or a place in an order. Only comparisons count."""

Effect = Literal["ordered", "commutes", "none"]


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that came from shared memory. What an operation reads back of its own uncommitted writes is none.

    `value`: the value, or a digest of a large one; null where the trace does not tell it. `at`: when it was read.
    """

    cell: str
    value: str | None
    at: Time


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell holds after the commit. At most one per cell and operation; `value` as in `Read`."""

    cell: str
    value: str | None


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An effect of a tool.

    `issue`: its place in the order of issue (in the assistant's message), no two alike in an operation. `done`: its
    place in the order of taking effect, a time or a rank; null if it never took effect. `signature`: that of the tool
    at dispatch; null if the tool was not there any more, "" if unknown. `effect`: what the tool declares; only the
    order of `ordered` ones counts.
    """

    tool: str
    issue: Time
    done: Time | None
    signature: str | None = ""
    effect: Effect = "ordered"


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One committed operation of an agent.

    `begin`, `end`: when it began, and when its writes took effect (its commit, also if it wrote nothing).
    `tools`: the registry that it saw when it began, name -> signature; `tools_at_end`: that in which its tools were
    resolved at commit (the pinned snapshot, if it was pinned), null if not recorded. `planned`: tools that it meant to
    use, whether or not it did; those it called count too. `predecessors`: operations whose outcome went into it; the
    transitive ones need not be listed, and one that is not in the history counts as live. `retracted`: it was undone.
    `level`: the consistency level that it ran at.
    """

    id: str
    agent: str
    begin: Time
    end: Time
    reads: tuple[Read, ...] = ()
    writes: tuple[Write, ...] = ()
    calls: tuple[Call, ...] = ()
    tools: dict[str, str] = {}
    tools_at_end: dict[str, str] | None = None
    planned: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    retracted: bool = False
    level: Level | None = None


T = TypeVar("T")

_decoder = msgspec.json.Decoder(Operation)
_encoder = msgspec.json.Encoder()


def flaw(operation: Operation) -> str | None:
    """What makes an operation impossible, in words; None if nothing does."""
    if operation.begin > operation.end:
        return f"it ends at {operation.end}, before it begins at {operation.begin}"
    for read in operation.reads:
        if not operation.begin <= read.at <= operation.end:
            return f"it reads {read.cell!r} at {read.at}, outside of {operation.begin} to {operation.end}"
    if (cell := _twice(write.cell for write in operation.writes)) is not None:
        return f"it writes {cell!r} twice; a cell has one value after a commit"
    if (place := _twice(call.issue for call in operation.calls)) is not None:
        return f"two of its calls have the place {place} in the order of issue"
    return None


def _twice(values: Iterable[T]) -> T | None:
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def read_history(path: str | Path) -> list[Operation]:
    """The operations of a file of JSON lines. Raises BadInput that names file and line."""
    operations: list[Operation] = []
    lines: dict[str, int] = {}
    for number, line in _lines(Path(path)):
        where = f"{path}:{number}"
        try:
            operation = _decoder.decode(line)
        except msgspec.DecodeError as error:
            raise BadInput(f"{where}: not an operation: {error}") from None
        if (what := flaw(operation)) is not None:
            raise BadInput(f"{where}: operation {operation.id!r} is impossible: {what}")
        if operation.id in lines:
            raise BadInput(f"{where}: operation {operation.id!r} is also in line {lines[operation.id]}")
        lines[operation.id] = number
        operations.append(operation)
    return operations


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from None


def write_history(path: str | Path, operations: Iterable[Operation]) -> None:
    """Write operations as JSON lines; `read_history` gives equal ones."""
    with Path(path).open("wb") as file:
        for operation in operations:
            file.write(_encoder.encode(operation) + b"\n")

"""What a probe counted, as a table: the form in which it is in a run's journal."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.runtime.probes.asking import Calls, Memory
from weft.runtime.probes.monitors import Blocks, Branches, Coverage, Globals, Hotness, Loops, Monitor, Opcodes
from weft.runtime.probes.opcodes import NAMES
from weft.runtime.probes.python import Seen, Watch

MOST = 1000
"""Rows that are kept; of hotness, the most executed."""

_short = reprlib.Repr()
_short.maxother = _short.maxstring = 200


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """`of`: the file or the module. `left_out`: rows that there were besides. `note`: what is to be known of it."""

    columns: tuple[str, ...] = ()
    rows: list[list[Any]] = []
    of: str = ""
    left_out: int = 0
    note: str = ""


def table(columns: str, rows: Iterable[Sequence[Any]], of: str = "", note: str = "") -> Figures:
    """At most `MOST` rows."""
    found = [list(row) for row in rows]
    return Figures(
        columns=tuple(columns.split()), rows=found[:MOST], of=of, left_out=max(0, len(found) - MOST), note=note
    )


def said(value: Any) -> Any:
    """What is kept of a value that a watch caught: itself if it can't change, else how it writes itself, cut."""
    plain = type(value) in (type(None), bool, int, float) or (type(value) is str and len(value) <= _short.maxstring)
    return value if plain else _short.repr(value)


# --- Python -----------------------------------------------------------------------------------------------------


def of_function(monitor: str, seen: Seen, file: str, watch: Watch | None = None) -> Figures:
    """What this monitor is to tell of a function. Lines are those of `file`."""
    match monitor:
        case "hotness":
            return table("line count", sorted(seen.lines.items(), key=lambda one: -one[1]), file)
        case "coverage":
            return table("line executed", ((line, count > 0) for line, count in seen.lines.items()), file)
        case "branches":
            return table("line not_taken taken", ((line, *arms) for line, arms in seen.branches.items()), file)
        case "loops":
            return table("line iterations", seen.loops.items(), file)
        case "calls":
            return table("function entered", seen.entered.items(), file)
    assert watch is not None
    kept = seen.watched[watch]
    names = sorted(kept[0]) if kept else []
    notes = [f"the first {watch.limit}"] if len(kept) == watch.limit else []
    if failed := seen.failed.get(watch):
        notes.append(f"the condition raised {failed} times")
    note = "; ".join(notes)
    return Figures(columns=tuple(names), rows=[[one[name] for name in names] for one in kept], of=file, note=note)


# --- WebAssembly ------------------------------------------------------------------------------------------------


def of_module(monitor: Monitor, module: str) -> Figures:
    """What a monitor saw of a program: what was never executed is left out, but for coverage."""
    columns, rows = _ROWS[type(monitor)](monitor)
    return table(columns, rows, module)


def _name(monitor: Monitor, function: int) -> str:
    return monitor.module.name(function).strip('"')


def _hotness(monitor: Hotness) -> tuple[str, Iterable[Sequence[Any]]]:
    places = sorted((place for place in monitor.places() if place.count), key=lambda place: -place.count)
    return "function offset instruction count", (
        (_name(monitor, one.function.index), one.instruction.offset, NAMES[one.instruction.code], one.count)
        for one in places
    )


def _coverage(monitor: Coverage) -> tuple[str, Iterable[Sequence[Any]]]:
    found: dict[int, list[int]] = {}
    for place in monitor.places():
        sums = found.setdefault(place.function.index, [0, 0])
        sums[0] += place.count > 0
        sums[1] += 1
    return "function executed instructions", ((_name(monitor, index), *sums) for index, sums in found.items())


def _blocks(monitor: Blocks) -> tuple[str, Iterable[Sequence[Any]]]:
    return "function offset count", (
        (_name(monitor, function.index), function.instructions[place].offset, count)
        for function in monitor.module.functions
        for place, count in monitor.starts(function).items()
        if count
    )


def _branches(monitor: Branches) -> tuple[str, Iterable[Sequence[Any]]]:
    return "function offset instruction ways", (
        (_name(monitor, one.function.index), one.instruction.offset, NAMES[one.instruction.code], one.taken)
        for one in monitor.branches()
        if any(one.taken)
    )


def _loops(monitor: Loops) -> tuple[str, Iterable[Sequence[Any]]]:
    return "function begin end iterations", (
        (_name(monitor, one.function.index), one.begin, one.end, one.count) for one in monitor.loops() if one.count
    )


def _calls(monitor: Calls) -> tuple[str, Iterable[Sequence[Any]]]:
    rows: list[Sequence[Any]] = []
    for function, entered, sites in monitor.calls():
        name = _name(monitor, function.index)
        if entered:
            rows.append((name, None, "entered", entered))
        for site in sites:
            if NAMES[site.instruction.code] in ("call", "return_call"):
                reached = {site.instruction.values[0]: site.count}
            else:
                reached = site.targets
            for target, count in reached.items():
                if count:
                    to = "outside" if target is None else _name(monitor, target)
                    rows.append((name, site.instruction.offset, f"calls {to}", count))
    return "function offset what count", rows


def _opcodes(monitor: Opcodes) -> tuple[str, Iterable[Sequence[Any]]]:
    return "instruction static dynamic", ((name, *counts) for name, counts in monitor.opcodes().items())


def _memory(monitor: Memory) -> tuple[str, Iterable[Sequence[Any]]]:
    rows: list[Sequence[Any]] = []
    for number, use in enumerate(monitor.memories):
        rows += [(number, chunk, use.reads[chunk], use.writes[chunk]) for chunk in sorted({*use.reads, *use.writes})]
    return "memory chunk reads writes", rows


def _globals(monitor: Globals) -> tuple[str, Iterable[Sequence[Any]]]:
    return "global reads writes", ((number, *counts) for number, counts in enumerate(monitor.globals()))


_ROWS: dict[type[Monitor], Any] = {
    Hotness: _hotness, Coverage: _coverage, Blocks: _blocks, Branches: _branches, Loops: _loops, Calls: _calls,
    Opcodes: _opcodes, Memory: _memory, Globals: _globals,
}  # fmt: skip


def read(data: bytes) -> list[Figures]:
    """Figures that came from another process. Raises BadInput where they are none."""
    try:
        return msgspec.json.decode(data, type=list[Figures])
    except msgspec.MsgspecError as error:
        raise BadInput(f"what came of the probes can't be read: {error}") from error

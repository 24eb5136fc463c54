"""python -m verify.conformance FILE: is every step of recorded real histories one that the model allows?

Trace validation: the histories become a constant of `conformance.tla`, and TLC follows each with the model's own
next-state relation (memory.tla). Where a history cannot go on, the runtime did what the model does not allow, and the
first such event is reported. Exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from verify import recorded
from verify.recorded import Begin, Commit, Happened, History, Issue, Read, Registry, Release, Retract
from verify.tlc import MODELS, Unavailable, check

REACHED = re.compile(r"^<<(\d+), (\d+), (TRUE|FALSE)>>$", re.M)
TOGETHER = 20_000
"""Events per run of TLC: more make its parser slow."""

ALLOWED = {
    "begin": "an operation begins once, and anew after a conflict or abort",
    "read": "an operation reads a cell once, and gets its newest version",
    "issue": "calls count 1, 2, ..; from L4 on a tool is what it was when the operation began",
    "release": "an effect lands once; from L3 on ordered ones land as they were issued",
    "commit": "all effects have landed; from L1 on what was read is still newest, from L2 on all that it stems from is "
    "live; a written cell gets its next version",
    "conflict": "a commit is refused only if what was read is not newest any more, or stems from what was retracted",
    "abort": "an operation is under way",
    "retract": "a committed operation falls, with all that depend on it at L2 or above; every cell whose newest value "
    "fell gets the newest one that stays, as its next version",
    "registry": "always",
}
"""What the model asks of each event, in words."""


@dataclass(frozen=True)
class Deviation:
    """The first event of a history that the model doesn't allow (`at` counts from 1), or, with `broken_promise`, after
    which an operation has an anomaly that its level excludes or a retracted value can still be read."""

    history: str
    at: int
    event: Happened
    broken_promise: bool = False

    def __str__(self) -> str:
        kind = self.event.__struct_config__.tag
        why = "a promise is broken" if self.broken_promise else f"not allowed: {ALLOWED[str(kind)]}"
        return f"{self.history}: event {self.at} {msgspec.json.encode(self.event).decode()}: {why}"


def deviations(histories: Sequence[History]) -> list[Deviation]:
    """One for each history that the model doesn't allow, in their order; none if all conform.

    Raises `ValueError` for histories that say nothing the model could judge (a tool that is ordered here and not
    there), `Unavailable` without TLC.
    """
    return [deviation for batch in _batches(histories) for deviation in _follow(batch)]


def _batches(histories: Sequence[History]) -> Iterator[list[History]]:
    batch: list[History] = []
    events = 0
    for history in histories:
        if batch and events + len(history.events) > TOGETHER:
            yield batch
            batch, events = [], 0
        batch.append(history)
        events += len(history.events)
    if batch:
        yield batch


def _follow(histories: list[History]) -> Iterator[Deviation]:
    texts = [_Text(history) for history in histories]
    module = "---- MODULE recorded ----\nEXTENDS Naturals, Sequences, TLC\nHistories == <<\n"
    module += ",\n".join(f"<<{', '.join(text.steps)}>>" for text in texts) + "\n>>\n====\n"
    beside = {"recorded": module, "memory": (MODELS / "memory.tla").read_text()}
    output = check((MODELS / "conformance.tla").read_text(), _configuration(texts), beside=beside).output
    reached: dict[int, int] = defaultdict(int)
    broken: dict[int, int] = {}
    for history, place, kept in REACHED.findall(output):
        reached[int(history)] = max(reached[int(history)], int(place))
        if kept == "FALSE":
            broken[int(history)] = min(broken.get(int(history), int(place)), int(place))
    for number, text in enumerate(texts, 1):
        if number in broken:
            yield text.deviation(broken[number] - 1, broken_promise=True)
        elif reached[number] < len(text.steps):
            yield text.deviation(reached[number])


def _configuration(texts: list[_Text]) -> str:
    """Names for as many agents, cells, .. as the history with the most of them has."""

    def names(kind: str, form: str) -> list[str]:
        return [form.format(n + 1) for n in range(max(len(text.numbers[kind]) for text in texts))]

    ordered, free = names("ordered", '"t{}"'), names("free", '"f{}"')
    sets = {
        "Agents": names("agent", '"a{}"'),
        "Cells": names("cell", '"c{}"'),
        "Ops": names("op", "{}"),
        "Tools": ordered + free,
        "Ordered": ordered,
        "Signatures": [],
        "Levels": [],
    }
    lines = [f"{name} = {{{', '.join(members)}}}" for name, members in sets.items()]
    lines += ["Initial = 0", f"MaxEffects = {max(text.calls for text in texts)}"]
    return "CONSTANTS\n  " + "\n  ".join(lines) + "\nSPECIFICATION Conforms\nCONSTRAINT Tell\n"


@dataclass
class _Text:
    """A history as steps in TLA+. Names become numbers of their kind, as they come."""

    history: History
    steps: list[str] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    """Step -> the event that it stands for."""
    numbers: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    free: dict[str, bool] = field(default_factory=dict)
    """Tool -> its effects need no order."""
    calls: int = 0

    def __post_init__(self) -> None:
        for event in self.history.events:
            if isinstance(event, Issue) and self.free.setdefault(event.tool, event.effect != "ordered") != (
                event.effect != "ordered"
            ):
                raise ValueError(f"{self.history.name}: tool {event.tool!r} is ordered in one call and not in another")
        for place, event in enumerate(self.history.events):
            for step in self._steps(event):
                fields = {"event": f'"{event.__struct_config__.tag}"'} | step
                self.steps.append(f"[{', '.join(f'{name} |-> {value}' for name, value in fields.items())}]")
                self.origins.append(place)

    def deviation(self, step: int, broken_promise: bool = False) -> Deviation:
        place = self.origins[step]
        return Deviation(self.history.name, place + 1, self.history.events[place], broken_promise)

    def _number(self, kind: str, name: str) -> int:
        return self.numbers[kind].setdefault(name, len(self.numbers[kind]) + 1)

    def _cell(self, name: str) -> str:
        return f'"c{self._number("cell", name)}"'

    def _tool(self, name: str) -> str:
        kind = "free" if self.free.get(name) else "ordered"
        return f'"{"f" if kind == "free" else "t"}{self._number(kind, name)}"'

    def _signature(self, signature: str | None) -> str:
        return "0" if signature is None else str(self._number("signature", signature))

    def _steps(self, event: Happened) -> Iterator[dict[str, str]]:
        """Fields of the model's steps for it."""
        op = {} if isinstance(event, Registry) else {"op": str(self._number("op", event.op))}
        match event:
            case Begin():
                yield op | {"agent": f'"a{self._number("agent", event.agent)}"', "level": event.level[1:]}
            case Read():
                yield op | {"cell": self._cell(event.cell), "version": str(event.version)}
            case Issue():
                self.calls = max(self.calls, event.call)
                tool = {"tool": self._tool(event.tool), "signature": self._signature(event.signature)}
                yield op | {"call": str(event.call)} | tool
            case Release():
                # When a call was computed is not recorded, so say: just before it landed.
                yield {"event": '"compute"'} | op | {"call": str(event.call)}
                yield op | {"call": str(event.call)}
            case Commit():
                yield op | {"writes": _function({self._cell(c): str(v) for c, v in event.writes.items()})}
            case Retract():
                restored = {
                    self._cell(cell): f"[version |-> {new.version}, copy_of |-> {new.copy_of}]"
                    for cell, new in event.restored.items()
                }
                fell = ", ".join(str(self._number("op", name)) for name in event.fell)
                yield op | {"fell": f"{{{fell}}}", "restored": _function(restored)}
            case Registry():
                yield {"tool": self._tool(event.tool), "signature": self._signature(event.signature)}
            case _:
                yield op


def _function(values: dict[str, str]) -> str:
    return f"({' @@ '.join(f'{key} :> {value}' for key, value in values.items())})" if values else "<<>>"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.conformance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, help="histories as JSON lines (verify/recorded.py says how)")
    histories = recorded.read(parser.parse_args(arguments).file.read_bytes())
    try:
        found = deviations(histories)
    except Unavailable as missing:
        print(missing, file=sys.stderr)
        return 2
    for deviation in found:
        print(deviation)
    events = sum(len(history.events) for history in histories)
    print(f"{len(histories)} histories, {events} events: {len(histories) - len(found)} allowed, {len(found)} not")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

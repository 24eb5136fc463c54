"""Cases: runs as a generator learns and makes them, from journals, XES and JSON lines.

A line of JSON is a case: {"id": "…", "start": 0.0, "attributes": {"outcome": "failed"}, "events": [{"activity": "read",
"after": 0.3, "resource": "tool", "amounts": {"seconds": 1.2}}]}. Other fields are left out.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from weft.core.errors import BadInput
from weft.trace.export.xes import activity
from weft.trace.reading import Kind, Node, process_node, read_effects

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from weft.store.base import ProcessRow, Store

QUIET: frozenset[Kind] = frozenset({"clock", "random", "timer", "checkpoint", "control"})
"""Effects that say nothing of how a program behaves."""
EVENT_KEYS = frozenset({"concept:name", "lifecycle:transition", "time:timestamp", "start_timestamp", "org:resource"})
BEGUN = frozenset({"start", "schedule", "assign"})
"""Transitions of XES that only begin what another event completes."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """`after`: seconds from when the event before it in its case began; 0 for the first. `resource`: who did it: a
    person, a model. `amounts`: what it took, by kind: seconds, tokens, money (US dollars), memory (bytes)."""

    activity: str
    after: float = 0.0
    resource: str = ""
    amounts: dict[str, float] = {}


class Case(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run. `start`: seconds since the first case of its log began. `attributes`: what is told of the whole, such
    as outcome and model."""

    id: str
    events: list[Event]
    attributes: dict[str, str | float] = {}
    start: float = 0.0

    @property
    def activities(self) -> list[str]:
        return [event.activity for event in self.events]

    @property
    def seconds(self) -> float:
        """From the beginning of its first event to the end of the one that ends last."""
        at, over = 0.0, 0.0
        for event in self.events:
            at += event.after
            over = max(over, at + event.amounts.get("seconds", 0.0))
        return over


def read_cases(path: Path) -> list[Case]:
    """The cases of a log: XES (`.xes`, `.xes.gz`) or JSON lines. Raises BadInput with the place if it is neither."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        name = path.name.removesuffix(".gz")
        return _of_xes(file, path) if name.endswith(".xes") else cases_of_lines(file, str(path))


def write_cases(cases: Iterable[Case], out: IO[bytes]) -> int:
    """As JSON lines; returns how many."""
    count = 0
    for case in cases:
        out.write(msgspec.json.encode(case) + b"\n")
        count += 1
    return count


def cases_of_lines(file: Iterable[bytes], path: str) -> list[Case]:
    """Of lines of JSON; `path` is how errors call the file. Raises BadInput."""
    found = []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            case = msgspec.json.decode(line, type=Case)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}:{number} is no case in JSON: {error}") from None
        if any(not math.isfinite(n) or n < 0 for event in case.events for n in (event.after, *event.amounts.values())):
            raise BadInput(f"{path}:{number}: times and amounts are numbers from 0 on")
        found.append(case)
    return found


# --- XES ----------------------------------------------------------------------------------------------------------


def _of_xes(file: Any, path: Path) -> list[Case]:
    from xml.etree.ElementTree import ParseError, iterparse

    found: list[tuple[float, Case]] = []
    try:
        for _, element in iterparse(file):
            if _tag(element) == "trace":
                if (one := _case(element, f"{path}, trace {len(found) + 1}")) is not None:
                    found.append(one)
                element.clear()
    except (ParseError, OSError, EOFError) as error:
        raise BadInput(f"{path} is no XES: {error}") from None
    first = min((at for at, _ in found), default=0.0)
    return [msgspec.structs.replace(case, start=at - first) for at, case in found]


def _case(trace: Element, where: str) -> tuple[float, Case] | None:
    told = _attributes(trace, where)
    events = [_attributes(element, where) for element in trace if _tag(element) == "event"]
    done = [one for one in events if str(one.get("lifecycle:transition", "complete")).lower() not in BEGUN] or events
    timed: list[tuple[float, dict[str, str | float]]] = []
    for one in done:
        if "concept:name" not in one or not isinstance(one.get("time:timestamp"), float):
            raise BadInput(f"{where}: an event without concept:name or time:timestamp")
        timed.append((float(one.get("start_timestamp", one["time:timestamp"])), one))
    if not timed:
        return None
    timed.sort(key=lambda pair: pair[0])
    began = [at for at, _ in timed]
    made = [_event(one, at, at - before) for (at, one), before in zip(timed, [began[0], *began], strict=False)]
    name = str(told.pop("concept:name", where))
    told.pop("weft:parent", None), told.pop("weft:started", None)
    if "weft:state" in told:
        told["outcome"] = told.pop("weft:state")
    return began[0], Case(name, made, told)


def _event(told: dict[str, str | float], at: float, after: float) -> Event:
    amounts = {
        key.removeprefix("cost:"): n for key, n in told.items() if isinstance(n, float) and key not in EVENT_KEYS
    }
    amounts.pop("weft:effect", None)
    if "start_timestamp" in told:
        amounts["seconds"] = float(told["time:timestamp"]) - at
    amounts = {key: n for key, n in amounts.items() if math.isfinite(n) and n >= 0}
    return Event(_named(str(told["concept:name"]), str(told.get("weft:status", "ok"))), after,
                 str(told.get("org:resource", "")), amounts)  # fmt: skip


def _attributes(element: Element, where: str) -> dict[str, str | float]:
    """Those of a trace or an event itself; dates as seconds since the epoch."""
    found: dict[str, str | float] = {}
    for child in element:
        kind, key, value = _tag(child), child.get("key", ""), child.get("value", "")
        try:
            if kind == "date":
                at = datetime.fromisoformat(value)
                found[key] = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
            elif kind in ("int", "float"):
                found[key] = float(value)
            elif kind in ("string", "boolean"):
                found[key] = value
        except ValueError:
            raise BadInput(f"{where}: {key} is no {kind}: {value!r}") from None
    return found


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


# --- journals -----------------------------------------------------------------------------------------------------


async def cases_of_runs(store: Store, runs: Iterable[ProcessRow]) -> list[Case]:
    """Each process that is over and had an effect as a case, with outcome, workflow and the model it used most."""
    made = [(row, case) async for row, case in _cases(store, runs)]
    first = min((process_node(row).started for row, _ in made), default=0.0)
    return [msgspec.structs.replace(case, start=process_node(row).started - first) for row, case in made]


async def _cases(store: Store, runs: Iterable[ProcessRow]) -> AsyncIterator[tuple[ProcessRow, Case]]:
    for row in runs:
        whole = process_node(row)
        nodes = [
            node async for node in read_effects(store, row.id) if node.kind not in QUIET and node.ended is not None
        ]
        if whole.ended is None or not nodes:
            continue
        nodes.sort(key=lambda node: node.started)
        before = [nodes[0], *nodes]
        models = Counter(node.model for node in nodes if node.model)
        told: dict[str, str | float] = {"outcome": whole.status, "workflow": row.workflow}
        if models:
            told["model"] = models.most_common(1)[0][0]
        events = [_of_node(node, node.started - last.started) for node, last in zip(nodes, before, strict=False)]
        yield row, Case(row.id, events, told)


def _of_node(node: Node, after: float) -> Event:
    usage = node.usage
    amounts = {
        "seconds": node.seconds, "tokens": node.tokens, "money": node.money,
        "cpu": usage.cpu_seconds if usage else 0.0, "memory": float(usage.memory_peak) if usage else 0.0,
    }  # fmt: skip
    kept = {key: n for key, n in amounts.items() if n > 0}
    return Event(_named(activity(node), node.status), after, node.model or node.kind, kept)


def _named(name: str, status: str) -> str:
    return name if status == "ok" else f"{name}:{status}"

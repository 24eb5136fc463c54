"""Runs as an event log for process mining: XES (IEEE 1849-2023), one trace for each process, one event for each effect.

An effect is one event `complete`, when its outcome reached the program; `start_timestamp` says when it began, as tools
for interval logs want it. The name of an activity is the effect's name, `generate MODEL` for generations, and the kind
for effects of Weft's own (`sleep`, `spawn`). Of the standard extensions there are concept, lifecycle, time,
organizational (`org:resource` is the model, or what kind of effect it is) and cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from weft.store.base import ProcessRow, Store
from weft.trace.export.files import written
from weft.trace.export.genai import family
from weft.trace.reading import Node, process_node, read_effects

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="2.0" xes.features="" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
<extension name="Organizational" prefix="org" uri="http://www.xes-standard.org/org.xesext"/>
<extension name="Cost" prefix="cost" uri="http://www.xes-standard.org/cost.xesext"/>
<global scope="trace"><string key="concept:name" value=""/></global>
<global scope="event"><string key="concept:name" value=""/><string key="lifecycle:transition" value="complete"/>
<date key="time:timestamp" value="1970-01-01T00:00:00.000+00:00"/></global>
<classifier name="Activity" keys="concept:name"/>
"""
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML has no way to write."""


async def write(store: Store, runs: Iterable[str], path: Path | None) -> int:
    """Write these runs and their children; returns how many events. Raises BadInput."""
    count = 0
    with written(path) as out:
        out.write(HEAD.encode())
        for run in runs:
            async for row in family(store, run):
                out.write(_opening(row).encode())
                async for node in read_effects(store, row.id):
                    if node.ended is not None:
                        out.write(_event(node).encode())
                        count += 1
                out.write(b"</trace>\n")
        out.write(b"</log>\n")
    return count


def activity(node: Node) -> str:
    """What an effect is called as an activity: the same for all of its like, whatever they were given."""
    if node.kind == "generation":
        return f"{node.name} {node.model}".strip()
    return node.name if node.kind in ("step", "tool") else node.exact


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def _opening(row: ProcessRow) -> str:
    told = {"concept:name": row.id, "weft:workflow": row.workflow, "weft:state": row.state, "weft:parent": row.parent}
    parts = [_attribute(key, value) for key, value in told.items() if value]
    whole = process_node(row)
    parts.append(_attribute("weft:started", whole.started, date=True))
    return "<trace>" + "".join(parts) + "\n"


def _event(node: Node) -> str:
    parts = [
        _attribute("concept:name", activity(node)),
        _attribute("lifecycle:transition", "complete"),
        _attribute("time:timestamp", node.ended, date=True),
        _attribute("start_timestamp", node.started, date=True),
        _attribute("org:resource", node.model or node.kind),
        _attribute("weft:effect", node.effect),
        _attribute("weft:status", node.status),
    ]
    if node.money:
        parts += [_attribute("cost:total", node.money), _attribute("cost:currency", "USD")]
    for key, value in (("input_tokens", node.input_tokens), ("output_tokens", node.output_tokens)):
        if value:
            parts.append(_attribute(f"weft:{key}", value))
    if node.error:
        parts.append(_attribute("weft:error", node.error))
    return "<event>" + "".join(parts) + "</event>\n"


def _attribute(key: str, value: Any, *, date: bool = False) -> str:
    if date:
        return f'<date key="{key}" value="{moment(value)}"/>'
    kind = {int: "int", float: "float"}.get(type(value), "string")
    text = quoteattr(_UNWRITABLE.sub("\ufffd", value)) if kind == "string" else f'"{value}"'
    return f'<{kind} key="{key}" value={text}/>'

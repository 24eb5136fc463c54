"""Runs as an object-centric event log: OCEL 2.0 (JSON), for mining in which a case is not one process.

Objects are processes (one type for each workflow), models, tools and cells of shared memory. An event is an effect
whose outcome reached the program; it is of its process, and spawns or awaits another, uses a model or a tool, reads or
writes a cell. A process is a part of the one that started it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from weft.store.base import ProcessRow, Store
from weft.trace.export.files import written
from weft.trace.export.genai import family
from weft.trace.export.xes import activity, moment
from weft.trace.reading import Node, read_effects

_encode = msgspec.json.Encoder().encode
EVENT = {"status": "string", "started": "time", "seconds": "float", "money": "float", "input_tokens": "integer",
         "output_tokens": "integer", "error": "string"}  # fmt: skip
PROCESS = {"state": "string", "created": "time"}
CELL = {"memory.read": "reads", "memory.commit": "writes", "memory.retract": "takes back"}


async def write(store: Store, runs: Iterable[str], path: Path | None) -> int:
    """Write these runs and their children; returns how many events. Raises BadInput."""
    log = _Log()
    with written(path) as out:
        out.write(b'{"events":[')
        for run in runs:
            async for row in family(store, run):
                log.process(row)
                async for node in read_effects(store, row.id):
                    if node.ended is not None:
                        log.event(node, out)
        log.strangers()
        out.write(b'],"objects":' + _encode(list(log.objects.values())))
        out.write(b',"objectTypes":' + _encode(_types(log.kinds)))
        out.write(b',"eventTypes":' + _encode(_types(dict.fromkeys(log.activities, EVENT))) + b"}\n")
    return log.count


class _Log:
    """What was met so far; events are written as they come."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.kinds: dict[str, dict[str, str]] = {}
        self.activities: dict[str, None] = {}
        self.met: dict[str, None] = {}
        """Processes that an event names."""
        self.count = 0

    def process(self, row: ProcessRow) -> None:
        kind, at = f"workflow {row.workflow}", moment(row.created)
        self.kinds[kind] = PROCESS
        values = {"state": row.state, "created": at}
        above = [{"objectId": row.parent, "qualifier": "part of"}] if row.parent in self.objects else []
        attributes = [{"name": name, "time": at, "value": value} for name, value in values.items()]
        self.objects[row.id] = {"id": row.id, "type": kind, "attributes": attributes, "relationships": above}

    def event(self, node: Node, out: IO[bytes]) -> None:
        name = activity(node)
        self.activities[name] = None
        related = [{"objectId": node.run, "qualifier": "of"}]
        related += [{"objectId": self._object(kind, what), "qualifier": how} for kind, what, how in _used(node)]
        if node.child:
            self.met[node.child] = None
            related.append({"objectId": node.child, "qualifier": "spawns" if node.kind == "spawn" else "awaits"})
        assert node.ended is not None
        event = {
            "id": node.id, "type": name, "time": moment(node.ended),
            "attributes": [{"name": key, "value": value} for key, value in _told(node)], "relationships": related,
        }  # fmt: skip
        out.write((b",\n" if self.count else b"\n") + _encode(event))
        self.count += 1

    def strangers(self) -> None:
        """Processes that were named, and are not in the log: deleted, or not asked for."""
        for id in self.met:
            if id not in self.objects:
                self.kinds.setdefault("process", {})
                self.objects[id] = {"id": id, "type": "process", "attributes": [], "relationships": []}

    def _object(self, kind: str, what: str) -> str:
        id = f"{kind} {what}"
        if id not in self.objects:
            self.kinds.setdefault(kind, {})
            self.objects[id] = {"id": id, "type": kind, "attributes": [], "relationships": []}
        return id


def _used(node: Node) -> Iterator[tuple[str, str, str]]:
    """Kind and name of what an effect uses, and how."""
    if node.kind == "generation" and node.model:
        yield "model", node.model, "uses"
    elif node.kind == "tool":
        yield "tool", node.name, "uses"
    elif node.exact in CELL:
        yield "cell", node.name, CELL[node.exact]


def _told(node: Node) -> Iterator[tuple[str, Any]]:
    yield "status", node.status
    yield "started", moment(node.started)
    yield "seconds", round(node.seconds, 6)
    for key in ("money", "input_tokens", "output_tokens", "error"):
        if value := getattr(node, key):
            yield key, value


def _types(found: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "attributes": [{"name": key, "type": kind} for key, kind in attributes.items()]}
        for name, attributes in found.items()
    ]

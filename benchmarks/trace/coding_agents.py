"""The recorded runs of coding agents as cases: their tool calls, with model and outcome."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from weft.trace.generation import Case, Event


def cases(directory: Path) -> list[Case]:
    """Of `agent_traces.tar.gz`, in the order of their names; none if it is not there."""
    files = dict(_files(directory / "agent_traces.tar.gz"))
    found = []
    for name, content in sorted(files.items()):
        batch, task, *_ = name.split("/")[1:]
        if name.endswith("tool_calls.json") and content:
            result = files[f"agent_traces/{batch}/progress.json"]["results"].get(task, {})
            told: dict[str, str | float] = {
                "model": "haiku" if "haiku" in batch else "other",
                "outcome": "done" if result.get("success") else "failed",
            }
            found.append(Case(name.removesuffix("/tool_calls.json"), _events(content), told))
    return found


def _files(packed: Path) -> Iterator[tuple[str, Any]]:
    if packed.exists():
        with tarfile.open(packed) as tar:
            for member in tar.getmembers():
                name = member.name.removeprefix("./").removesuffix(".gz")
                if (
                    name.endswith(("tool_calls.json", "progress.json"))
                    and (file := tar.extractfile(member)) is not None
                ):
                    data = file.read()
                    yield name, json.loads(gzip.decompress(data) if member.name.endswith(".gz") else data)


def _events(calls: list[dict[str, Any]]) -> list[Event]:
    began = [_at(call["timestamp"]) for call in calls]
    order = sorted(range(len(calls)), key=lambda one: began[one])
    made = []
    for before, here in zip([order[0], *order], order, strict=False):
        ended = calls[here].get("end_timestamp")
        amounts = {"seconds": max(0.0, _at(ended) - began[here])} if ended else {}
        made.append(Event(calls[here]["tool"], began[here] - began[before], amounts=amounts))
    return made


def _at(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

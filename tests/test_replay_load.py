"""Runs replayed as load: they take as long as told, overlap as told, spend as told, and are in the store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import weft
from tests.programs import drive
from tests.terminal import WEFT
from weft.core.errors import BadInput
from weft.runtime.load import LoadReport, Planned, PlannedRun, replay
from weft.trace.reading import Node, read_run

RUNS = [
    PlannedRun(0.0, [Planned("read", 0.0, 0.8), Planned("write", 0.2, 0.6, cpu=0.1, memory=1 << 20)]),
    PlannedRun(1.0, [Planned("read", 0.0, 0.4, spent={"tokens": 12.0})]),
]


def test_runs_are_replayed_with_their_times(store: str) -> None:
    async def use(runtime: weft.Runtime) -> tuple[LoadReport, list[list[Node]]]:
        report = await replay(runtime, RUNS, speed=2)
        await runtime.journal.barrier()
        return report, [[node async for node in read_run(runtime.store, run)] for run in report.ids]

    report, (first, second) = drive(store, use)
    assert (report.runs, report.failed, report.effects, report.planned) == (2, 0, 3, 0.7)
    assert report.seconds >= 0.7
    assert report.late_95 >= report.late_50 >= 0
    steps = {node.place: node for node in first if node.kind == "step"}
    assert len([node for node in first if node.kind == "step"]) == 2, steps
    read, write = sorted((node for node in first if node.kind == "step"), key=lambda node: node.started)
    assert read.seconds >= 0.4
    assert write.seconds >= 0.3
    assert write.started < (read.ended or 0)  # they overlap
    assert second[0].started - first[0].started >= 0.45


@pytest.mark.parametrize(
    ("runs", "speed", "why"), [([], 1, "no run to replay"), (RUNS, 0, "speed=0")], ids=["none", "still"]
)
def test_what_can_not_be_replayed_is_told(tmp_path: Path, runs: list[PlannedRun], speed: float, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        drive(str(tmp_path / "journal.db"), lambda runtime: replay(runtime, runs, speed))


def test_the_command_takes_what_generate_writes(tmp_path: Path) -> None:
    events = [
        {"activity": "read", "after": 0.0, "amounts": {"seconds": 1.0, "tokens": 3}},
        {"activity": "end", "after": 2},
    ]
    lines = "".join(json.dumps({"id": str(n), "start": n, "events": events}) + "\n" for n in range(5))
    command = [WEFT, "replay-load", "-", "--speed", "20", "--store", str(tmp_path / "journal.db"), "--json"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["runs"], report["failed"], report["effects"], len(report["ids"])) == (5, 0, 10, 5)
    assert report["planned"] == pytest.approx(0.3)
    bad = subprocess.run(command, input="{}", capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (bad.returncode, "stdin:1 is no case" in bad.stderr) == (2, True), bad.stderr

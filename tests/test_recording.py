"""Histories of the real runtime are ones that the model allows, step by step; those of a runtime with a bug are not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

import weft
from benchmarks.memory.schedules import ANOMALIES, LEVELS, Schedule, make
from verify.bugs import BUGS, planted
from verify.conformance import deviations
from verify.recorded import History
from verify.recording import recorded
from verify.scheduled import land, scene

COUNT = 15
"""Schedules for each anomaly."""


pytestmark = pytest.mark.usefixtures("model_checker")


async def played(store: str, schedules: Sequence[tuple[Schedule, str]]) -> list[History]:
    found: list[History] = []
    async with weft.Runtime(store, durability="process") as runtime:
        for number, (schedule, level) in enumerate(schedules):
            if schedule.anomaly == "A6":
                id, _ = await land(runtime, f"h{number}", level, schedule.computed)  # type: ignore[arg-type]
            else:
                run = await runtime.start(
                    scene, f"h{number}", level, schedule.agents, schedule.order, schedule.tools  # type: ignore[arg-type]
                )  # fmt: skip
                await run
                id = run.id
            found.append(await recorded(runtime.store, f"{schedule.anomaly} at {level}, {number}", id))
    return found


def test_what_the_runtime_did_the_model_allows(tmp_path: Path) -> None:
    schedules = [(one, level) for anomaly in ANOMALIES for one in make(anomaly, COUNT, 3) for level in LEVELS[anomaly]]
    histories = asyncio.run(played(str(tmp_path / "journal.db"), schedules))
    assert len(histories) == 8 * COUNT
    assert sum(len(history.events) for history in histories) > 50 * COUNT
    assert deviations(histories) == []


@pytest.mark.parametrize("bug", [bug for bug in BUGS if "first cell" not in bug and "one step" not in bug])
def test_what_a_runtime_with_a_bug_did_it_does_not(tmp_path: Path, bug: str) -> None:
    level = BUGS[bug].level
    anomaly = next(anomaly for anomaly in ANOMALIES if LEVELS[anomaly][1] == level)
    with planted(bug):
        histories = asyncio.run(played(str(tmp_path / "journal.db"), [(one, level) for one in make(anomaly, COUNT, 3)]))
    assert deviations(histories) != []

"""A real process is killed with SIGKILL at random points of programs with gather, races, timeouts, children, timers,
letters and retries. `python -m tests.crash --points 200` does more of it."""

from __future__ import annotations

import os

import pytest

from tests.crash.driver import run


@pytest.mark.timeout(300)
def test_killed_runs_end_as_if_they_had_not_been() -> None:
    points = int(os.environ.get("WEFT_CRASH_POINTS", "30"))
    totals = run(points, seed=int(os.environ.get("WEFT_CRASH_SEED", "7")))
    assert totals["kills"] >= points

"""A real process is killed with SIGKILL at random points of programs with gather, races, timeouts, children, timers,
letters and retries. `python -m tests.crash --points 200` does more of it."""

from __future__ import annotations

import os

from tests.crash.driver import run
from tests.servers.postgres import Postgres

POINTS = int(os.environ.get("WEFT_CRASH_POINTS", "8"))
SEED = int(os.environ.get("WEFT_CRASH_SEED", "7"))


def test_killed_runs_end_as_if_they_had_not_been() -> None:
    assert run(POINTS, SEED)["kills"] >= POINTS


def test_killed_runs_on_a_server_do_too(postgres: Postgres) -> None:
    points = POINTS // 2  # after each, its lease has to run out
    assert run(points, SEED, postgres)["kills"] >= points > 0

"""Every scene of `python -m tests.chaos`, small: workers and their server are broken, and nothing is lost or doubled.

Each has a server of its own, for it is stopped and filled. What must be true at the end is in `tests.chaos.checks`;
here is that each scene was one: that something broke, and that much went on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.chaos import driver, programs
from tests.servers.postgres import Postgres, Unavailable

ALL = len(programs.PROGRAMS)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    try:
        with Postgres() as found:
            yield found
    except Unavailable as error:
        pytest.skip(str(error))


def check(figures: driver.Figures, submitted: int) -> None:
    """So many runs, of every program, did their steps."""
    assert figures["processes"] >= 2 * submitted - ALL  # with children, which every program that has any has
    assert figures["executions"] >= 7 * submitted
    assert figures["narrow"] == programs.NARROW.concurrency, "the limit was never reached, so nothing was shown"


def test_workers_are_killed(server: Postgres) -> None:
    figures = asyncio.run(driver.killed(server, processes=6 * ALL, kills=7, pace=0.3))
    assert figures["kills"] == 7 and figures["repeated"] > 0
    check(figures, 6 * ALL)


def test_the_server_is_restarted(server: Postgres) -> None:
    figures = asyncio.run(driver.restarted(server, processes=6 * ALL, restarts=2))
    check(figures, 6 * ALL)


def test_the_wire_is_cut(server: Postgres) -> None:
    figures = asyncio.run(driver.cut(server, processes=6 * ALL, faults=7))
    check(figures, 6 * ALL)


def test_the_disk_is_full(server: Postgres) -> None:
    try:
        figures = asyncio.run(driver.filled(server, processes=6 * ALL))
    except Unavailable as error:
        pytest.skip(str(error))
    check(figures, 6 * ALL)


def test_a_worker_is_frozen_and_writes_nothing_when_it_wakes_up(server: Postgres) -> None:
    figures = asyncio.run(driver.frozen(server, processes=6 * ALL))
    assert figures["held"] > 0
    check(figures, 6 * ALL)


def test_clocks_are_an_hour_apart(server: Postgres) -> None:
    figures = asyncio.run(driver.skewed(server, processes=4))
    assert set(figures["seconds"]) == {3600, -3600}
    assert figures["processes"] >= 16

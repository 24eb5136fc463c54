"""kill -9 in the middle of a commit, and between two effects; and two workers on one memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft
from tests.crew import Crew, hired
from verify.judge import contents
from weft.trace.anomalies import check
from weft.trace.journal_history import history_of_runs

PROGRAM = """
    import sys
    from weft.store.postgres import PostgresStore
    from weft.store.sqlite import SQLiteStore

    memory = weft.Memory("shared", int)

    def die(where):
        if os.path.exists(where):
            os.unlink(where)
            os.kill(os.getpid(), signal.SIGKILL)

    for kind in (PostgresStore, SQLiteStore) if "worker" in sys.argv else ():
        def patched(real):
            async def operate(self, commits):
                die("before")
                verdicts = await real(self, commits)
                die("after")
                return verdicts
            return operate
        kind.operate = patched(kind.operate)

    @weft.step(effect="pure")
    async def think():
        await asyncio.sleep(0.005)

    @memory.operation(retries=20)
    async def add(op):
        had = await op.read("count", 0)
        await think()
        op.write("count", had + 1)

    @weft.workflow
    async def adds(times: int) -> None:
        for _ in range(times):
            await add()

    @weft.step(order="staged")
    async def effect(name, seconds):
        await asyncio.sleep(seconds)
        await weft.turn()
        mark(name)
        die(f"after {name}")

    @weft.workflow
    async def effects() -> None:
        async with memory.operation(level="L3"), asyncio.TaskGroup() as group:
            for name, seconds in (("first", 0.05), ("second", 0.02), ("third", 0.0)):
                group.create_task(effect(name, seconds))
"""


@pytest.fixture(params=["sqlite", "postgres"])
def crew(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crew]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else str(tmp_path / "journal.db")
    with hired(url, tmp_path) as found:
        yield found


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_commit_that_a_worker_died_in_is_made_once(crew: Crew, where: str) -> None:
    flows = crew.program(PROGRAM)
    (crew.folder / where).touch()
    crew.hire(flows)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.submit(flows.adds, 3)
        while (crew.folder / where).exists():
            await asyncio.sleep(0.02)
        assert crew.workers[0].wait(60) < 0
        crew.hire(flows)
        await run
        assert await contents(runtime.store, "shared") == {"count": 3}
        assert (await runtime.store.look("shared", ["shared/count"])).objects[0].version == 3
        assert len(await history_of_runs(runtime.store, [run.id])) == 3

    crew.run(use)


def test_two_workers_lose_no_update(crew: Crew) -> None:
    flows = crew.program(PROGRAM)
    for _ in range(2):
        crew.hire(flows, slots=3)

    async def use(runtime: weft.Runtime) -> None:
        runs = [await runtime.submit(flows.adds, 4) for _ in range(6)]
        for run in runs:
            await run
        assert await contents(runtime.store, "shared") == {"count": 24}
        history = await history_of_runs(runtime.store, [run.id for run in runs])
        assert len(history) == 24
        assert check(history, "L2") == []

    crew.run(use)


def test_no_crash_brings_effects_out_of_order(crew: Crew) -> None:
    flows = crew.program(PROGRAM)
    (crew.folder / "after first").touch()
    crew.hire(flows)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.submit(flows.effects)
        assert await asyncio.to_thread(crew.workers[0].wait, 20) < 0
        assert crew.lines() == ["first"]  # the second waits until it is known that the first took place
        crew.hire(flows)
        await run
        assert crew.lines() == ["first", "first", "second", "third"]  # a step that died runs again, in its turn

    crew.run(use)

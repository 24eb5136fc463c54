"""Commands of tools run in groups: limited, counted, paused, and ended with Weft."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.groups import HOLD, alive, left, start, wait_until
from weft.cli.render import journal_table
from weft.core.codec import decode, encode
from weft.core.errors import OverMemory, OverPids, OverTime, StepTimeout
from weft.core.record import Outcome
from weft.core.resources import Paused, Resources, Usage
from weft.runtime.governor import Governor, advised, governor
from weft.runtime.governor.learn import LEAST, Peaks
from weft.runtime.sandbox import report
from weft.tool import git, python, shell

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="groups are Linux's"),
    pytest.mark.usefixtures("nothing_left", "workspace"),
]
MB = 2**20
PY = sys.executable


def usages(workspace: Path, body: Any, *, priority: int = 0) -> dict[str, Usage]:
    """What the steps of a workflow took, by their names, as the journal tells it."""

    async def use() -> dict[str, Usage]:
        policy = weft.Policy(allow=("all",))
        async with weft.Runtime(workspace.parent / "journal.db", policy=policy) as runtime:
            handle = await runtime.start(body.options(priority=priority))
            await handle.result()
            records = await runtime.recovery.records(handle.id)
            return {one.name: one.usage for one in records if isinstance(one, Outcome) and one.usage is not None}

    return asyncio.run(use())


def test_what_commands_took_is_in_the_journal(workspace: Path) -> None:
    subprocess.run(["git", "init", "-q"], check=True)

    @weft.workflow(name="groups.takes")
    async def takes() -> None:
        await shell.run([PY, "-c", "kept = b'x' * 50_000_000; sum(range(10**6))"])
        await git.status(".")
        if report()["process"].ok:
            await python.run("kept = b'x' * 50_000_000")

    found = usages(workspace, takes)
    assert 48 * MB < found["shell.run"].memory_peak < 100 * MB
    assert found["shell.run"].cpu_seconds > 0 and found["shell.run"].pids_peak >= 1
    assert found["git.status"].memory_peak > 0
    if "python.run" in found:
        assert 48 * MB < found["python.run"].memory_peak < 100 * MB
        assert found["python.run"].seconds < 10, "counted once"


def test_a_command_has_its_processs_priority(workspace: Path) -> None:
    seen: list[int] = []

    @weft.step(name="groups.look")
    async def look() -> None:
        seen.extend(group.priority for group in governor().groups.values() if "shell" in group.name)

    @weft.workflow(name="groups.priority")
    async def prior() -> None:
        task = asyncio.create_task(shell.run(["sleep", "0.5"]))
        await weft.sleep(0.2)
        await look()
        await task

    usages(workspace, prior, priority=2)
    assert seen == [2]


def test_limits_of_the_step_bound_what_its_caller_asks_for(workspace: Path) -> None:
    bounded = shell.run.options(limits={"memory": "60M", "pids": 8, "seconds": 30})

    @weft.workflow(name="groups.bounded")
    async def bound() -> list[str]:
        said = []
        many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait"
        for argv in ([PY, "-c", "kept = b'x' * 10**9"], ["sh", "-c", many]):
            try:
                await bounded(argv, resources={"memory": "2G"})
            except (OverMemory, OverPids) as error:
                said.append(f"{type(error).__name__} {error.limit}")
        return said

    async def use() -> list[str]:
        async with weft.Runtime(workspace.parent / "j.db", policy=weft.Policy(allow=("all",))) as runtime:
            return await runtime.run(bound)

    assert asyncio.run(use()) == [f"OverMemory {60 * MB}", "OverPids 8"]


@pytest.mark.parametrize("wrong", [{"memory": "much"}, {"memroy": "1G"}, {"pids": 0}, "1G"])
def test_resources_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(weft.errors.BadInput, match="resource"):
        asyncio.run(shell.run(["true"], resources=wrong))


def test_what_is_learned_of_a_command_is_no_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three small ones, and then one of the same kind that takes far more, at once."""
    peaks = Peaks()
    monkeypatch.setattr("weft.runtime.governor.peaks", peaks)
    script = Path("grow.py")
    script.write_text("import sys; kept = b'x' * int(sys.argv[1]); print(len(kept))")
    for _ in range(3):
        asyncio.run(shell.run([PY, "grow.py", "1000"]))
    learned = peaks.memory("shell", [PY, "grow.py"])
    assert learned is not None and LEAST <= learned < 60 * MB
    done = asyncio.run(shell.run([PY, "grow.py", "300000000"]))
    assert (done.code, done.stdout, done.paused) == (0, "300000000\n", None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Governor]:
    """A governor of this process that has 150 MB for all."""
    small = Governor(pool=150 * MB)
    monkeypatch.setattr(sys.modules[Governor.__module__], "_default", small)
    yield small
    small.close()


def test_a_long_pause_is_told_and_does_not_count_as_its_time(small: Governor, workspace: Path) -> None:
    promised = small.open(Resources(memory="130M"), "promised", 5)
    holder = start(promised, PY, "-c", HOLD, "5", "0")

    @weft.workflow(name="groups.paused")
    async def paused() -> shell.Completed:
        return await shell.run([PY, "-c", "kept = b'x' * 80_000_000; print('done')"], timeout=2)

    async def use() -> tuple[shell.Completed, str]:
        async with weft.Runtime(workspace.parent / "j.db", policy=weft.Policy(allow=("all",))) as runtime:
            handle = await runtime.start(paused)
            await asyncio.sleep(3.5)
            holder.communicate("")
            promised.close()
            done = await handle.result()
            table = journal_table(await runtime.recovery.records(handle.id), 10)
            return done, " ".join(str(cell) for column in table.columns for cell in column.cells)

    done, shown = asyncio.run(use())
    assert done.stdout == "done\n", done
    assert done.paused is not None and 1 < done.paused.seconds < done.paused.of
    assert "memory was short" in str(done.paused)
    assert "paused" in shown, "`weft show` tells it"


def test_errors_tell_of_a_long_pause_and_keep_it_in_the_journal() -> None:
    usage = Usage(seconds=10, paused_seconds=4)
    for plain in (OverMemory(100, 50), OverTime(3, 2), OverPids(3)):
        error = decode(encode(advised(plain, usage)))
        assert type(error) is type(plain) and "paused for 4 s of 10 s" in str(error) and str(plain) in str(error)
    assert str(advised(OverPids(3), Usage(seconds=10, paused_seconds=0.5))) == str(OverPids(3))
    assert usage.paused == Paused(4, 10)


OWNER = """
import asyncio, sys
import weft
from weft.tool import shell

@weft.workflow(name="owner")
async def owner():
    script = "setsid sleep 1001 & echo $$ $! >pids.new; mv pids.new pids; trap '' TERM; sleep 1002"
    await shell.run(["sh", "-c", script], timeout=1000)

async def main():
    async with weft.Runtime(sys.argv[1], policy=weft.Policy(allow=("all",))) as runtime:
        await runtime.run(owner)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["", "polling"])
def test_a_command_does_not_outlive_a_weft_that_was_killed(workspace: Path, kind: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "WEFT_GROUPS": kind}
    owner = subprocess.Popen([PY, "-c", OWNER, str(workspace.parent / "j.db")], env=environment)
    wait_until((workspace / "pids").exists, "the command runs")
    pids = [int(word) for word in (workspace / "pids").read_text().split()]
    assert all(map(alive, pids))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_until(lambda: not any(map(alive, pids)), "the command and what it started have ended", seconds=10)


def test_a_command_that_is_given_up_leaves_nothing(workspace: Path) -> None:
    async def give_up(after: float) -> None:
        task = asyncio.create_task(shell.run(["sh", "-c", "setsid sleep 1003 & sleep 1004"], timeout=1000))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for after in (0, 0.001, 0.003, 0.01, 0.3):
        asyncio.run(give_up(after))
    assert not left()


def test_where_there_are_no_groups_commands_run_and_end_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "another")
    assert asyncio.run(shell.run(["echo", "hi"])).stdout == "hi\n"
    began = time.monotonic()
    with pytest.raises(StepTimeout):
        asyncio.run(shell.run(["sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"], timeout=0.3))
    assert time.monotonic() - began < 50
    assert not left()


def test_a_timeout_ends_what_left_its_session_and_ignores_requests() -> None:
    began = time.monotonic()
    script = "trap '' TERM; setsid sh -c \"trap '' TERM HUP; while :; do sleep 1; done\" & wait"
    with pytest.raises(StepTimeout, match=r"did not finish within 0\.5 s"):
        asyncio.run(shell.run(["sh", "-c", script], timeout=0.5))
    assert time.monotonic() - began < 50

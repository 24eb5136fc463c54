"""The governor: who waits when memory runs short, who is killed last, and what is left when it is killed itself."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from tests.groups import CGROUPS, HOLD, KINDS, alive, left, run, start, wait_until
from weft.cli.render import plain_record
from weft.core.errors import BadInput, OverMemory
from weft.core.record import Outcome
from weft.core.resources import Resources, Usage
from weft.runtime.governor import Governor, Group, Kind, limit_error, open_group
from weft.runtime.governor.group import Counted
from weft.runtime.governor.learn import LEAST, Peaks, past, settled
from weft.runtime.governor.lend import UNSAID, Claim, order, share
from weft.runtime.governor.place import places
from weft.runtime.governor.watchdog import owner, reap, started

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="groups are Linux's"),
    pytest.mark.usefixtures("nothing_left"),
]
MB = 2**20


# --- who may use how much -----------------------------------------------------------------------------------

claims = st.lists(
    st.builds(
        Claim,
        key=st.uuids().map(str),
        used=st.integers(0, 2000),
        promised=st.none() | st.integers(0, 2000),
        priority=st.integers(-2, 2),
        began=st.floats(0, 100),
        lend=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.began,
)


@given(st.integers(-500, 5000), claims)
def test_no_more_is_lent_than_there_is(room: int, claims: list[Claim]) -> None:
    given = share(room, claims)
    known = [(given[one.key], one) for one in claims]
    grown = sum(max(0, ceiling - one.used) for ceiling, one in known if ceiling is not None)
    assert grown <= max(0, room)


@given(st.integers(0, 5000), claims)
def test_what_one_is_kept_from_nobody_after_it_gets(room: int, claims: list[Claim]) -> None:
    given = share(room, claims)
    short = False
    for one in order(claims):
        ceiling = given[one.key]
        if short:
            assert ceiling is not None or one.promised is None
            assert ceiling is None or one.used >= (one.promised or 0) or ceiling < (one.promised or 0) or room == 0
        short = short or (ceiling is not None and one.promised is not None and ceiling < one.promised)


@given(claims)
def test_with_room_enough_everyone_has_what_was_promised(claims: list[Claim]) -> None:
    given = share(100 * UNSAID, claims)
    for one in claims:
        ceiling = given[one.key]
        assert ceiling is None if one.promised is None else ceiling is not None and ceiling >= one.promised
        assert one.lend or ceiling == one.promised


def test_the_important_comes_before_the_old_and_the_old_before_the_young() -> None:
    high = Claim("high", 10, 100, 1, began=3)
    old = Claim("old", 10, 100, 0, began=1)
    young = Claim("young", 10, 100, 0, began=2)
    assert share(120, [young, old, high]) == {"high": 100, "old": 40, "young": 10}
    assert share(120, [young, old]) == {"old": 100, "young": 40}


# --- calls over a pool that is too small ----------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def governor(kind: Kind) -> Iterator[Governor]:
    """Calls of 240 MB in all will be wanted."""
    governor = Governor(pool=200 * MB, kind=kind, patience=0.5)
    yield governor
    governor.close()
    assert not left(), "groups or processes are left"


def hold(group: Group, megabytes: int, pause: float = 0.002) -> subprocess.Popen[str]:
    return start(group, sys.executable, "-c", HOLD, str(megabytes), str(pause))


def has_it(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "has it\n"


def test_the_important_one_gets_on_and_the_others_wait_for_it(governor: Governor) -> None:
    low = [governor.open(Resources(memory="90M"), f"low{n}", priority=-1) for n in range(2)]
    processes = [hold(group, 75) for group in low]
    high = governor.open(Resources(memory="100M"), "high", priority=1)
    important = hold(high, 85)
    assert has_it(important)
    assert high.usage().paused_seconds == 0
    wait_until(lambda: low[1].usage().paused_seconds > 0, "there is no room for the youngest of the others")
    assert processes[1].poll() is None and low[1].usage().memory_peak < 80 * MB, "the youngest of the others waits"
    assert important.communicate("")[0] == "" and important.returncode == 0
    high.close()
    for process, group in zip(processes, low, strict=True):
        assert has_it(process)
        process.communicate("")
        assert process.returncode == 0
        group.close()
        assert group.why_ended() is None


def test_when_all_wait_the_last_is_killed_and_told_why(governor: Governor) -> None:
    groups = [governor.open(Resources(on_limit="pause"), f"call{n}") for n in range(2)]
    processes = [hold(group, 140) for group in groups]
    assert processes[1].wait() == -signal.SIGKILL
    groups[1].close()
    error = limit_error(groups[1])
    assert isinstance(error, OverMemory) and "again later" in error.advice
    assert has_it(processes[0])
    processes[0].communicate("")
    groups[0].close()
    assert processes[0].returncode == 0 and groups[0].why_ended() is None


def test_a_call_that_may_wait_is_lent_more_than_it_was_promised_while_there_is_some(governor: Governor) -> None:
    group = governor.open(Resources(memory="40M", on_limit="pause"))
    process = hold(group, 100)
    assert has_it(process)
    process.communicate("")
    group.close()
    assert process.returncode == 0 and group.usage().memory_peak > 60 * MB and group.why_ended() is None


def test_nobody_is_lent_what_another_was_promised(governor: Governor) -> None:
    promised = governor.open(Resources(memory="150M"), "promised")
    other = hold(promised, 1)
    assert has_it(other)
    greedy = governor.open(Resources(memory="20M", on_limit="pause"), "greedy")
    process = hold(greedy, 120)
    wait_until(lambda: greedy.usage().paused_seconds > 1.0, "it waits, and is not killed while another gets on")
    assert greedy.usage().memory_peak < 90 * MB, "of the 120 that it wants"
    other.communicate("")
    promised.close()
    assert has_it(process)
    process.communicate("")
    greedy.close()


def test_frozen_by_its_owner_it_stays_so_whatever_memory_there_is(governor: Governor, tmp_path: Path) -> None:
    group = governor.open(Resources(memory="50M"))
    lines = tmp_path / "lines"
    process = start(group, "sh", "-c", f"while :; do echo x >>{lines}; sleep 0.01; done")
    wait_until(lines.exists, "it runs")
    group.freeze()
    time.sleep(0.1)
    size = lines.stat().st_size
    another = governor.open(Resources(memory="30M"))
    assert run(another, "echo", "hello")[1] == "hello\n"
    time.sleep(0.2)
    assert lines.stat().st_size == size
    group.close()
    process.wait()


def test_a_pool_must_be_one() -> None:
    with pytest.raises(BadInput, match="megabyte"):
        Governor(pool=1000)


# --- deaths ---------------------------------------------------------------------------------------------------

# A Weft with a frozen call, a call that waits for memory, and one that runs; says their processes.
OWNER = """
import subprocess, sys, time
from tests.groups import HOLD, start
from weft.core.resources import Resources
from weft.runtime.governor import Governor

governor = Governor(pool=100 * 2**20, kind=sys.argv[1])
groups = [governor.open(Resources(memory="90M"), f"call{n}") for n in range(3)]
processes = [start(groups[0], sys.executable, "-c", HOLD, "60", "0"), start(groups[1], "sleep", "1000")]
processes[0].stdout.readline()
processes.append(start(groups[2], sys.executable, "-c", HOLD, "60", "0.001"))
while groups[2].usage().paused_seconds < 0.1:
    time.sleep(0.01)
groups[1].freeze()
print(governor.watchdog, *(process.pid for process in processes), flush=True)
sys.stdin.read()
"""


class Owner:
    def __init__(self, kind: Kind) -> None:
        root = Path(__file__).parent.parent
        path = f"{root / 'src'}{os.pathsep}{root}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.watchdog, *self.calls = map(int, self.process.stdout.readline().split())
        assert all(map(alive, self.calls)), "they wait, frozen or for memory, or run"
        self.began = {pid: started(pid) for pid in self.calls}  # numbers come again soon on a busy machine

    def gone(self) -> bool:
        return not any(started(pid) == began for pid, began in self.began.items()) and not left(self.process.pid)


def test_killed_it_leaves_nothing_frozen_and_nothing_at_all(kind: Kind) -> None:
    weft = Owner(kind)
    weft.process.kill()
    weft.process.wait()
    wait_until(weft.gone, "the watchdog has cleared up")
    wait_until(lambda: not alive(weft.watchdog), "and gone")


def test_killed_with_its_watchdog_it_is_cleared_up_after_at_the_next_start(kind: Kind) -> None:
    weft = Owner(kind)
    os.kill(weft.watchdog, signal.SIGKILL)
    weft.process.kill()
    weft.process.wait()
    assert left(weft.process.pid), "there is something to clear up"
    Governor(kind=kind).close()
    wait_until(weft.gone, "the next has cleared up", seconds=5)


def test_stopped_it_ends_its_calls_when_it_goes(kind: Kind) -> None:
    weft = Owner(kind)
    weft.process.send_signal(signal.SIGSTOP)
    weft.process.kill()
    weft.process.wait()
    wait_until(weft.gone, "the watchdog has cleared up")


def test_at_its_ordinary_end_nothing_is_left(kind: Kind) -> None:
    weft = Owner(kind)
    weft.process.communicate("")
    wait_until(weft.gone, "all has ended with it")


def test_a_watchdog_that_died_is_replaced(kind: Kind) -> None:
    governor = Governor(kind=kind)
    group = governor.open(Resources())
    first = governor.watchdog
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: governor.watchdog not in (None, first), "another one stands there")
    group.close()
    governor.close()
    assert not left()


@pytest.mark.skipif(not CGROUPS, reason="needs control groups")
def test_the_reaper_touches_what_is_not_its_own_nowhere() -> None:
    root = Path(places().roots[0])
    mine, foreign, space = (
        root / f"{owner(os.getpid())}9-x",
        root / "other-1-2-3-4",
        root / "weft-1-2-3-4-other",
    )
    for directory in (mine, foreign, space):
        directory.mkdir()
    try:
        reap(places().roots)
        assert mine.is_dir() and foreign.is_dir() and space.is_dir()
    finally:
        for directory in (mine, foreign, space):
            directory.rmdir()


def test_a_fork_of_weft_has_a_governor_of_its_own() -> None:
    script = (
        "import os, subprocess\nfrom weft.core.resources import Resources\nfrom weft.runtime.governor import *\n"
        "group = open_group(Resources())\nchild = os.fork()\n"
        "if child == 0:\n"
        "    mine = open_group(Resources())\n    done = subprocess.run([*mine.enter, 'true']).returncode\n"
        "    mine.close(); governor().close(); os._exit(done)\n"
        "print(os.waitpid(child, 0)[1], subprocess.run([*group.enter, 'true']).returncode)\n"
    )
    path = str(Path(__file__).parent.parent / "src")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.stdout == "0 0\n", done.stderr


# --- what a step's calls take, and what is learned of it ----------------------------------------------------


@weft.step(name="governor.compute", limits=Resources(memory="60M", pids=32))
async def compute(megabytes: int) -> int:
    """Asks for far more than its declaration allows."""
    group = await asyncio.to_thread(open_group, Resources(memory="2G"), "compute")
    assert isinstance(group, Counted) and group.priority == 3, "its process's"
    process = start(group, sys.executable, "-c", HOLD, str(megabytes), "0")
    await asyncio.to_thread(process.communicate, "")
    group.close()
    if error := limit_error(group):
        raise error
    return process.returncode


@weft.workflow(name="governor.twice")
async def twice(sizes: list[int]) -> list[str]:
    found = []
    for size in sizes:
        try:
            found.append(str(await compute(size)))
        except OverMemory as error:
            found.append(f"{type(error).__name__} {error.limit} {error.advice}")
    return found


def test_a_steps_calls_have_no_more_than_it_declares_and_what_they_took_is_in_the_journal(tmp_path: Path) -> None:
    async def use() -> None:
        async with weft.Runtime(tmp_path / "journal.db", durability="process") as runtime:
            handle = await runtime.start(twice.options(priority=3), [20, 500])
            fine, over = await handle.result()
            assert fine == "0" and over.startswith(f"OverMemory {60 * MB} work on less")
            records = await runtime.recovery.records(handle.id)
            outcomes = [one for one in records if isinstance(one, Outcome) and one.kind == "step"]
            small, large = (one.usage for one in outcomes)
            assert small is not None and 20 * MB <= small.memory_peak <= 45 * MB and small.cpu_seconds > 0
            assert large is not None and large.memory_peak >= 50 * MB
            shown = json.loads(json.dumps(plain_record(outcomes[0])["usage"]))
            assert shown["memory_peak"] == small.memory_peak, "`weft show --json` tells it"
            peaks = past(outcomes * 3, lambda one: ["compute"])
            assert (peaks.memory("governor.compute", ["compute"]) or 0) >= small.memory_peak

    asyncio.run(use())


def test_a_limit_is_learned_from_what_like_calls_took() -> None:
    peaks = Peaks()
    for number in range(100):
        peaks.take("shell", ["pytest", f"tests/test_{number}.py", "-q"], Usage(memory_peak=(number + 1) * MB))
    assert peaks.memory("shell", ["/usr/bin/pytest", "-x", "tests/other.py"]) == math.ceil(95 * MB * 1.2)
    assert peaks.memory("shell", ["pytest-watch"]) is None and peaks.memory("python", ["pytest"]) is None
    for _ in range(2):
        peaks.take("shell", ["git", "status"], Usage(memory_peak=MB))
    assert peaks.memory("shell", ["git", "status"]) is None, "two are too few"
    peaks.take("shell", ["git", "status", "-s"], Usage(memory_peak=MB))
    assert peaks.memory("shell", ["git", "status"]) == LEAST and peaks.memory("shell", ["git", "log"]) is None


@pytest.mark.parametrize(
    ("declared", "hinted", "learned", "expected"),
    [
        (None, None, None, Resources()),
        (None, None, 100 * MB, Resources(memory="100M", on_limit="pause")),
        (Resources(memory="1G"), None, 100 * MB, Resources(memory="1G")),
        (Resources(pids=9), None, 100 * MB, Resources(pids=9)),
        (Resources(memory="1G", pids=9), Resources(memory="2G"), 100 * MB, Resources(memory="1G", pids=9)),
        (Resources(memory="1G"), Resources(memory="50M", seconds=3), None, Resources(memory="50M", seconds=3)),
        (None, Resources(memory="50M", on_limit="pause"), None, Resources(memory="50M", on_limit="pause")),
    ],
)
def test_a_declaration_bounds_a_hint_and_what_was_learned_comes_last(
    declared: Resources | None, hinted: Resources | None, learned: int | None, expected: Resources
) -> None:
    assert settled(declared, hinted, learned) == expected

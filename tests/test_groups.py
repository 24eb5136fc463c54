"""Groups: what one call started is limited, measured, paused and ended as a whole, by every back-end of this
machine."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.groups import CGROUPS, HOLD, KINDS, alive, left, run, start, wait_until
from weft.core.errors import BadInput, OverDisk, OverMemory, OverPids, OverTime, StepTimeout
from weft.core.resources import Resources, resources_of
from weft.runtime.governor import Governor, Group, Kind, backend, limit_error, open_group
from weft.runtime.governor.place import places

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="groups are Linux's"),
    pytest.mark.usefixtures("nothing_left"),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def governor(kind: Kind) -> Iterator[Governor]:
    governor = Governor(kind=kind)
    yield governor
    groups = list(governor.groups)
    governor.close()
    assert not left(), "groups or processes are left"
    assert not groups, "a test left a group open"


def test_a_command_runs_in_it_as_it_would_outside(governor: Governor) -> None:
    group = governor.open(Resources(memory="100M"), "a call/with $odd name")
    status, out, err = run(group, "sh", "-c", 'echo "$1|$2"; echo bad >&2; exit 7', "sh", "two words", "'$HOME' \"")
    assert (status, out, err) == (7, "two words|'$HOME' \"\n", "bad\n")
    assert group.why_ended() is None and limit_error(group) is None


@pytest.mark.parametrize("size", [64, 300])
def test_its_peak_is_what_was_allocated(governor: Governor, size: int) -> None:
    group = governor.open(Resources(memory="2G"))
    process = start(group, "sh", "-c", f"dd if=/dev/zero bs={size}M count=1 2>/dev/null | (sleep 0.3; cat >/dev/null)")
    process.communicate()
    group.close()
    assert size * 2**20 * 0.95 <= group.usage().memory_peak <= size * 2**20 * 1.05 + 4 * 2**20


def test_ten_gigabytes_end_the_call_and_nobody_else(governor: Governor) -> None:
    neighbour = governor.open(Resources(memory="100M"), "neighbour")
    beside = start(neighbour, sys.executable, "-c", HOLD, "20", "0")
    greedy = governor.open(Resources(memory="80M"), "greedy")
    status, _, _ = run(greedy, sys.executable, "-c", HOLD, "10000", "0.001")
    assert status == -signal.SIGKILL
    error = limit_error(greedy)
    assert isinstance(error, OverMemory) and error.limit == 80 * 2**20 and error.peak >= 70 * 2**20
    assert "memory=" in error.advice and "80 MB" in str(error)
    assert beside.communicate("")[0] == "has it\n" and beside.returncode == 0
    neighbour.close()
    assert neighbour.why_ended() is None


def test_a_child_over_the_limit_ends_the_whole_call(governor: Governor) -> None:
    """The kernel would kill one process, and leave the shell waiting for another that never speaks."""
    group = governor.open(Resources(memory="80M"))
    script = f"sleep 1000 & {sys.executable} -c '{HOLD}' 10000 0.001; wait"
    assert run(group, "sh", "-c", script)[0] == -signal.SIGKILL
    assert group.why_ended() == "memory"


BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.001)
"""


def test_a_fork_bomb_is_ended_and_others_can_still_start(governor: Governor, kind: Kind, tmp_path: Path) -> None:
    bounds: list[str] = []
    if kind != "cgroup1":  # they count a little late: a second wall, for the sake of this machine
        if "pids" not in places().v1:
            pytest.skip("no group of processes to put around a bomb")
        outer = Path(places().v1["pids"], f"weft-test-bomb-{os.getpid()}-{kind}")
        outer.mkdir()
        (outer / "pids.max").write_text("300")
        bounds = ["sh", "-c", f'echo 0 >{outer}/cgroup.procs; exec "$@"', "sh"]
    group = governor.open(Resources(pids=30, seconds=20))
    process = subprocess.Popen([*bounds, *group.enter, sys.executable, "-c", BOMB], stderr=subprocess.DEVNULL)
    assert subprocess.run(["echo", "hello"], capture_output=True, check=True).stdout == b"hello\n"
    process.wait()
    group.close()
    error = limit_error(group)
    assert isinstance(error, OverPids) and error.limit == 30 and "pids=60" in error.advice
    if bounds:
        wait_until(lambda: not (outer / "cgroup.procs").read_text(), "the bomb is gone")
        outer.rmdir()


# Says with which error a process was refused, and ends those that it got.
FORKS = """
import os, signal
children = []
try:
    while True:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except OSError as error:
    print(len(children), error.errno, flush=True)
for child in children:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.skipif("pids" not in places().v1, reason="only the kernel can refuse a process")
@pytest.mark.parametrize("kind", ["cgroup1"])
def test_with_pause_further_processes_are_refused_and_the_call_goes_on(governor: Governor) -> None:
    group = governor.open(Resources(pids=4, on_limit="pause"))
    assert run(group, sys.executable, "-c", FORKS) == (0, f"3 {errno.EAGAIN}\n", "")
    assert group.why_ended() is None


def test_a_spinning_call_ends_with_its_time(governor: Governor) -> None:
    group = governor.open(Resources(seconds=0.3))
    assert run(group, "sh", "-c", "trap '' TERM INT HUP; while :; do :; done")[0] == -signal.SIGKILL
    error = limit_error(group)
    assert isinstance(error, OverTime) and isinstance(error, StepTimeout) and error.limit == 0.3
    assert group.usage().cpu_seconds > 0


@pytest.mark.skipif("cpu" not in places().v1, reason="no controller of the CPU here")
def test_a_spinning_call_gets_the_cpu_that_it_may_have() -> None:
    governor = Governor(kind="cgroup1")
    group = governor.open(Resources(cpu=0.25, seconds=1))
    run(group, "sh", "-c", "while :; do :; done")
    usage = group.usage()
    assert usage.cpu_seconds <= 0.25 * usage.seconds + 0.1  # a period may begin in its last moment
    governor.close()


# A child of a child, in a session of its own, whose parent is gone, and which will not be told to end.
STRAY = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        while True: time.sleep(1000)
    os._exit(0)
os.wait()
"""


def test_a_double_fork_that_ignores_every_request_is_ended(governor: Governor) -> None:
    group = governor.open(Resources())
    process = start(group, sys.executable, "-c", STRAY)
    assert process.stdout is not None
    stray = int(process.stdout.readline())
    process.wait()
    assert alive(stray)
    group.close()
    assert not alive(stray)


@pytest.mark.skipif(not CGROUPS, reason="needs control groups")
@pytest.mark.parametrize("kind", CGROUPS)
def test_a_double_fork_without_a_mark_is_ended(governor: Governor) -> None:
    group = governor.open(Resources())
    process = start(group, "env", "-i", sys.executable, "-c", STRAY)
    assert process.stdout is not None
    stray = int(process.stdout.readline())
    process.wait()
    group.close()
    assert not alive(stray)


def test_it_can_be_frozen_and_thawed(governor: Governor, tmp_path: Path) -> None:
    group = governor.open(Resources(seconds=60))
    lines = tmp_path / "lines"
    process = start(group, "sh", "-c", f"while :; do echo x >>{lines}; sleep 0.01; done")
    wait_until(lambda: lines.exists(), "it runs")
    group.freeze()
    time.sleep(0.05)  # what it had begun
    before = lines.stat().st_size
    time.sleep(0.3)
    assert lines.stat().st_size == before
    group.thaw()
    wait_until(lambda: lines.stat().st_size > before, "it goes on")
    group.kill()
    process.wait()
    group.close()
    assert 0.3 <= group.usage().paused_seconds < group.usage().seconds


def test_what_is_frozen_can_be_closed(governor: Governor) -> None:
    group = governor.open(Resources())
    process = start(group, "sleep", "1000")
    wait_until(lambda: group.usage().pids_peak, "it is inside")
    group.freeze()
    group.close()
    assert process.wait() == -signal.SIGKILL


def test_a_pause_does_not_count_as_its_time(governor: Governor) -> None:
    group = governor.open(Resources(seconds=2))
    process = start(group, "sleep", "0.3")
    wait_until(lambda: group.usage().pids_peak, "it is inside")
    group.freeze()
    time.sleep(2.5)
    group.thaw()
    assert process.wait() == 0
    group.close()
    assert group.why_ended() is None


def test_what_it_writes_is_limited(governor: Governor, tmp_path: Path) -> None:
    group = governor.open(Resources(disk="20M"))
    file = tmp_path / "full"
    status, _, _ = run(group, "sh", "-c", f"while :; do head -c 1000000 /dev/urandom >>{file}; done")
    assert status == -signal.SIGKILL and file.stat().st_size < 2**30
    error = limit_error(group)
    assert isinstance(error, OverDisk) and error.limit == 20 * 2**20 and error.written > error.limit


def test_what_it_took_is_known_after_it(governor: Governor) -> None:
    group = governor.open(Resources())
    script = "for i in 1 2 3; do sleep 0.3 & done; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; wait"
    run(group, "sh", "-c", script)
    first = group.usage()
    assert first.cpu_seconds > 0.02 and first.pids_peak >= 4 and first.memory_peak > 100_000
    group.close()
    group.kill()
    assert group.usage() == first


@pytest.mark.parametrize("kind", CGROUPS)
def test_nothing_starts_in_a_closed_group(governor: Governor) -> None:
    group = governor.open(Resources())
    group.close()
    assert subprocess.run([*group.enter, "echo", "hello"], capture_output=True, check=False).stdout == b""


def test_many_at_once_leave_nothing(governor: Governor) -> None:
    groups = [governor.open(Resources(memory="50M", pids=10), f"call{n}") for n in range(12)]
    processes = [start(group, "sh", "-c", "sleep 1000 & sleep 1000") for group in groups]
    wait_until(lambda: all(group.usage().pids_peak for group in groups), "they are inside")
    for group in groups[::2]:
        group.kill()
    for group in groups:
        group.close()
    assert {process.wait() for process in processes} == {-signal.SIGKILL}


def test_open_group_takes_the_best_back_end() -> None:
    group = open_group(Resources(memory="50M"), "best")
    assert isinstance(group, Group)
    assert run(group, "echo", "hello") == (0, "hello\n", "")
    assert backend().name == KINDS[0] and not left()


def test_a_back_end_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_GROUPS", "polling")
    assert backend().name == "polling" and len(backend().weaker) > 1
    monkeypatch.setenv("WEFT_GROUPS", "docker")
    with pytest.raises(BadInput, match=r"offers.*polling"):
        Governor()


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "much"}, {"memory": -1}, {"memory": True}, {"memory": "1X"}, {"cpu": float("nan")}, {"cpu": "2"},
        {"pids": 0}, {"pids": 1.5}, {"seconds": 0}, {"seconds": -1}, {"seconds": float("inf")}, {"disk": "10 kisses"},
        {"on_limit": "wait"}, {"memroy": "1G"}, {"gpu": 1.5},
    ],
)  # fmt: skip
def test_resources_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        resources_of(wrong)


def test_resources_are_read_as_people_write_them() -> None:
    given = Resources(memory="1.5 GiB", disk="10k", cpu=0.5, pids=64, seconds=120)
    assert (given.memory, given.disk, given.pids, given.seconds) == (3 * 2**29, 10240, 64, 120.0)
    assert Resources(memory=1000).memory == 1000 and Resources().memory is None

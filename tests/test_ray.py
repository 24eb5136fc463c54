"""Heavy steps on a real Ray cluster of two nodes: they run there, and every death is met by Weft's own rules."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import BadInput, ExecutorError, ExecutorLost, MissingExtra, StepTimeout, UnknownOutcome
from weft.core.record import Attempt, Outcome, Started
from weft.core.resources import resources_of
from weft.runtime import ray as ray_module

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'weft[ray]'")

from tests import heavy  # noqa: E402 (it needs Ray)
from tests.chaos.checks import most  # noqa: E402
from tests.heavy import Point, Refused, mark  # noqa: E402

SMALL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


@dataclass
class Place:
    """The cluster: a head with one core, and a second node with another, anew if the last one was killed."""

    cluster: Any
    other: Any = None

    def second(self) -> Any:
        if self.other is None:
            self.other = self.cluster.add_node(num_cpus=1, num_gpus=1, resources={"second": 1}, **SMALL)
        return self.other

    def kill_second(self) -> None:
        self.cluster.remove_node(self.other, allow_graceful=False)
        self.other = None


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "resources": {"head": 1}, **SMALL}
    place = Place(Cluster(initialize_head=True, head_node_args=head))
    place.second()
    os.environ["WEFT_RAY_ADDRESS"] = place.cluster.address
    try:
        yield place
    finally:
        del os.environ["WEFT_RAY_ADDRESS"]
        ray.shutdown()
        place.cluster.shutdown()


Records = list[Any]


def drive(path: Path, use: Callable[[weft.Runtime], Awaitable[Any]]) -> tuple[Any, Records]:
    """What `use` returns, and every record that was journaled meanwhile."""
    records: Records = []

    async def main() -> Any:
        async with weft.Runtime(path / "journal.db") as runtime:
            runtime.observe(lambda _, record: records.append(record))
            return await use(runtime)

    return asyncio.run(main()), records


async def until(seen: Callable[[], Any], what: str) -> Any:
    for _ in range(1200):
        if found := seen():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not come")


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def outcomes(records: Records, name: str) -> list[Outcome]:
    return [r for r in records if type(r) is Outcome and r.name.endswith(name)]


# --- running there ---------------------------------------------------------------------------------------


def test_steps_run_on_ray_with_what_they_were_declared_to_need(place: Place, tmp_path: Path) -> None:
    place.second()
    ((first, second), records) = drive(tmp_path, lambda runtime: runtime.run(heavy.call_where, 1))
    pid, point = first
    assert pid not in (0, os.getpid()) and second["pid"] not in (pid, os.getpid())
    assert type(point) is Point and point == Point(2)
    assert second["node"] == place.other.node_id
    assert second["got"] == {"memory": 10.0 * 2**20, "GPU": 0.5, "second": 1.0}
    assert [record.ok for record in outcomes(records, "")] == [True, True]


def test_its_own_exception_comes_back_and_is_retried_as_locally(place: Place, tmp_path: Path) -> None:
    result, records = drive(tmp_path, lambda runtime: runtime.run(heavy.call_refuse, str(tmp_path / "a"), 2))
    assert result == "yes"
    assert len([record for record in records if type(record) is Attempt]) == 2

    async def fails(runtime: weft.Runtime) -> None:
        with pytest.raises(Refused, match=r"no \(17\)") as caught:
            await runtime.run(heavy.call_refuse, str(tmp_path / "b"), 9)
        assert caught.value.code == 17
        assert type(caught.value.__cause__) is KeyError

    drive(tmp_path, fails)
    assert lines(tmp_path / "b") == ["try"] * 3


def test_an_exception_that_cannot_travel_is_named(place: Place, tmp_path: Path) -> None:
    @weft.step(executor="ray")
    def odd() -> None:
        lock = threading.Lock()

        class Odd(Exception):
            held = lock

        raise Odd("here")

    @weft.workflow
    async def call_odd() -> None:
        await odd()

    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(RuntimeError, match=r"odd raised .*Odd: here on Ray"):
            await runtime.run(call_odd)

    drive(tmp_path, use)


def test_what_it_says_is_seen_at_the_driver(place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = ""

    def heard() -> bool:
        nonlocal said
        said += "".join(capfd.readouterr())
        return "said aloud" in said and "INFO heavy: said quietly" in said

    async def use(runtime: weft.Runtime) -> None:
        await runtime.run(heavy.call_talk)
        await until(heard, "what the step said")

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        drive(tmp_path, use)
    finally:
        root.setLevel(level)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_map_spreads_items_over_the_cluster(place: Place, tmp_path: Path, ordered: bool) -> None:
    place.second()
    log = tmp_path / "log"
    found, records = drive(tmp_path, lambda runtime: runtime.run(heavy.spread, str(log), 24, ordered))
    squares = [x * x for x in range(24)]
    assert sorted(found) == squares and (found == squares) is ordered
    changes = [line.split() for line in lines(log)]
    begun, ended = ([int(at) for word, at in changes if word == which] for which in ("in", "out"))
    assert most(zip(begun, ended, strict=True)) == 2, "two machines of one core were not both busy"
    assert len(outcomes(records, "spell")) == 24


def test_a_long_step_is_seen_to_be_under_way(place: Place, tmp_path: Path) -> None:
    _, records = drive(tmp_path, lambda runtime: runtime.run(heavy.call_linger, 1.6))
    (started,) = [record for record in records if type(record) is Started]
    (outcome,) = outcomes(records, "linger")
    assert started.effect == outcome.effect and started.name == outcome.name
    assert outcome.at - outcome.started > 1.0  # of 1.6 s, by a clock that may be set meanwhile


def test_a_secret_revealed_over_there_does_not_come_back(place: Place, tmp_path: Path) -> None:
    token = weft.secret("WEFT_TEST_RAY_TOKEN")

    @weft.step(executor="ray")
    def leak() -> str:
        os.environ["WEFT_TEST_RAY_TOKEN"] = "an-open-secret"  # as the worker's machine would have it
        return "token " + token.reveal()

    @weft.workflow
    async def call_leak() -> str:
        return await leak()

    assert drive(tmp_path, lambda runtime: runtime.run(call_leak))[0] == "token [secret:WEFT_TEST_RAY_TOKEN]"


# --- giving up -------------------------------------------------------------------------------------------


def test_a_timeout_interrupts_it_over_there(place: Place, tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(StepTimeout, match=r"0\.5 s"):
            await runtime.run(heavy.call_stuck, str(tmp_path / "log"))

    drive(tmp_path, use)
    assert lines(tmp_path / "log")[1:] == ["cleaned up"]


def test_one_that_does_not_end_is_killed(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "GRACE", 0.5)

    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(StepTimeout):
            await runtime.run(heavy.call_deaf, str(tmp_path / "log"))
        pid, *ignored = lines(tmp_path / "log")
        assert ignored == ["ignored"]
        await until(lambda: not Path(f"/proc/{pid}").exists(), "the worker's end")

    drive(tmp_path, use)


def test_a_cancelled_run_stops_its_step(place: Place, tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(heavy.call_stuck_async, str(tmp_path / "log"))
        await until(lambda: lines(tmp_path / "log"), "the step")
        await run.cancel()
        with pytest.raises(weft.errors.Cancelled):
            await run
        await until(lambda: lines(tmp_path / "log")[1:] == ["cleaned up"], "the end of the step")

    drive(tmp_path, use)


def test_a_step_that_waits_for_resources_can_be_cancelled(place: Place, tmp_path: Path) -> None:
    @weft.step(resources={"gpu": 64}, timeout=0.1)
    def impossible() -> None: ...

    @weft.workflow
    async def limited() -> str:
        try:
            async with asyncio.timeout(1.0):
                await impossible()
        except TimeoutError as error:
            return type(error).__name__
        return "ran"

    # The step's own limit counts from its start, which never comes.
    assert drive(tmp_path, lambda runtime: runtime.run(limited))[0] == "TimeoutError"


# --- deaths ----------------------------------------------------------------------------------------------


async def kill_second_under(runtime: weft.Runtime, place: Place, workflow: Any, path: Path) -> Any:
    """Run `workflow` on the second node, and kill that in its middle; the first is free again after it."""

    @weft.workflow
    async def call_hold(file: str) -> None:
        await heavy.hold(file)

    held, log, go = path / "held", path / "log", path / "held.go"
    holding = await runtime.start(call_hold, str(held))
    await until(lambda: lines(held), "the head's step")
    run = await runtime.start(workflow, str(log))
    await until(lambda: lines(log), "the step on the second node")
    place.kill_second()
    go.touch()
    await holding
    return await run


def test_a_killed_node_idempotent_runs_again_elsewhere_and_once_in_the_journal(place: Place, tmp_path: Path) -> None:
    killed = place.second().node_id
    result, records = drive(tmp_path, lambda runtime: kill_second_under(runtime, place, heavy.call_again, tmp_path))
    assert result not in (killed, None)
    assert len(lines(tmp_path / "log")) == 2
    (outcome,) = outcomes(records, "again")
    assert outcome.ok and outcome.attempts == 1


def test_a_killed_node_at_most_once_has_an_unknown_outcome(place: Place, tmp_path: Path) -> None:
    place.second()

    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(UnknownOutcome, match=r"a Ray worker died.*weft fork"):
            await kill_second_under(runtime, place, heavy.call_once, tmp_path)

    drive(tmp_path, use)
    assert len(lines(tmp_path / "log")) == 1


@pytest.mark.parametrize("workflow", [heavy.call_again, heavy.call_once], ids=["idempotent", "at_most_once"])
def test_a_killed_worker(place: Place, tmp_path: Path, workflow: Any) -> None:
    log = tmp_path / "log"

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(workflow, str(log))
        (pid,) = await until(lambda: lines(log), "the step")
        os.kill(int(pid), signal.SIGKILL)
        if workflow is heavy.call_again:
            await run
        else:
            with pytest.raises(UnknownOutcome):
                await run

    _, records = drive(tmp_path, use)
    assert len(lines(log)) == (2 if workflow is heavy.call_again else 1)
    assert len(outcomes(records, "")) == 1


def test_one_that_kills_every_worker_gives_up(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "PAUSE", 0.01)

    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(ExecutorLost, match="4 Ray workers died"):
            await runtime.run(heavy.call_suicide, str(tmp_path / "log"))

    drive(tmp_path, use)
    assert lines(tmp_path / "log") == ["died"] * 4


# --- declarations and what Ray costs those without it -----------------------------------------------------


def test_resources_are_checked_where_they_are_declared() -> None:
    assert resources_of({"cpu": 4, "memory": "8G", "gpu": 1}).memory == 8 * 2**30  # type: ignore[union-attr]
    assert resources_of({"memory": "1.5 GiB"}).memory == 3 * 2**29  # type: ignore[union-attr]
    for wrong in ({"cpus": 1}, {"cpu": -1}, {"memory": "much"}, {"gpu": 1.5}, {"custom": {"x": -1}}, ["cpu"]):
        with pytest.raises(BadInput):
            weft.step(resources=wrong)(mark)  # type: ignore[call-overload]
    with pytest.raises(BadInput, match="executor"):
        weft.step(executor="spark")(mark)  # type: ignore[call-overload]
    declared = weft.step(resources={"cpu": 1})(mark)
    assert declared.executor == "ray" and not declared.plain
    assert declared.options(timeout=1).resources == declared.resources
    assert declared.options(executor=None).executor is None
    assert weft.step(mark).plain


PROGRAM = """
import sys
import weft

@weft.step{0}
def double(x: int) -> int:
    return shared(x)

def shared(x: int) -> int:
    return 2 * x

@weft.workflow
async def main(x: int) -> int:
    return await double(x)

if __name__ == "__main__":
    {1}
    print(weft.run(main, 4))
    print("ray" in sys.modules)
"""


def script(
    folder: Path, options: str = "", first: str = "pass", **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM.format(options, first))
    return subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=100,
        env=os.environ | environment,
    )  # fmt: skip


def test_a_light_program_never_sees_ray(tmp_path: Path) -> None:
    assert script(tmp_path).stdout.split() == ["8", "False"]


def test_a_script_runs_its_step_on_the_cluster(place: Place, tmp_path: Path) -> None:
    done = script(tmp_path, "(executor='ray')")
    assert {"8", "True"} <= set(done.stdout.splitlines()), done.stderr  # Ray may have something to say, too


SHIPPED = """
import os
import sys
from pathlib import Path

import weft

@weft.step(executor="ray")
def there() -> list[str]:
    import only_there
    return [only_there.VALUE, os.environ["SHIPPED"], Path("data.txt").read_text()]

@weft.workflow
async def main() -> list[str]:
    return await there()

if __name__ == "__main__":
    print(*weft.run(main))
"""


def test_its_environment_is_brought_by_ray(place: Place, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "only_there.py").write_text("VALUE = 'module'")
    (files / "data.txt").write_text("file")
    program = tmp_path / "program.py"
    program.write_text(SHIPPED)
    environment = {"working_dir": str(files), "env_vars": {"SHIPPED": "variable"}}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=100,
        env=os.environ | {"WEFT_RAY_RUNTIME_ENV": json.dumps(environment)},
    )  # fmt: skip
    assert "module variable file" in done.stdout.splitlines(), done.stderr


KILLED = """
import os
import time
from pathlib import Path

import weft

@weft.step(executor="ray")
def slow(file: str) -> str:
    with open(file, "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(0 if Path(file + ".calm").exists() else 3600)
    return "done"

@weft.workflow
async def main(file: str) -> str:
    return await slow(file)

if __name__ == "__main__":
    print(weft.run(main.options(key="the one"), str(Path("log").absolute())))
"""


def test_a_killed_program_leaves_nothing_running_and_goes_on_by_its_journal(place: Place, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(KILLED)
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=tmp_path) as first:
        (pid,) = asyncio.run(until(lambda: lines(tmp_path / "log"), "the step"))
        first.kill()
    asyncio.run(until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the step"))
    (tmp_path / "log.calm").touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "done" in done.stdout.splitlines(), done.stderr
    assert len(lines(tmp_path / "log")) == 2


def test_without_ray_the_error_names_the_extra(tmp_path: Path) -> None:
    done = script(tmp_path, "(executor='ray')", "sys.modules['ray'] = None")
    assert done.returncode != 0
    assert MissingExtra.__name__ in done.stderr and "pip install 'weft[ray]'" in done.stderr


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    for settings in ({"WEFT_RAY_RUNTIME_ENV": "[1]"}, {"WEFT_RAY_ADDRESS": "ray://head:10001"}):
        done = script(tmp_path, "(executor='ray')", **settings)
        assert BadInput.__name__ in done.stderr and next(iter(settings)) in done.stderr


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    first = "import ray; ray.init = lambda **_: (_ for _ in ()).throw(ConnectionError('nobody'))"
    done = script(tmp_path, "(executor='ray')", first, WEFT_RAY_ADDRESS="nowhere:6379")
    assert ExecutorError.__name__ in done.stderr and "nowhere:6379" in done.stderr

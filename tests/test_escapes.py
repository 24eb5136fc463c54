"""What a hostile program tries, against each wall of this machine: contained, nothing left, neighbours unharmed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import attacks, leaks
from weft.core.errors import ChangedMeanwhile, OverDisk, OverLimit, OverMemory, OverTime
from weft.core.resources import Resources
from weft.runtime.sandbox import Finished, Job, Session, Wall, disk, run, walls
from weft.runtime.sandbox.monty import Monty
from weft.runtime.sandbox.scratch import base
from weft.runtime.sandbox.streams import Streams

pytestmark = pytest.mark.timeout(120)
ALL = {wall.name: wall for wall in walls()}
OF_PROCESSES = ("process", "landlock")
OF_PYTHON = ("process", "landlock", "monty")
CODE = "only-the-host-knows-4711"


def wall_of(name: str) -> Wall:
    found = ALL[name].available()
    if not found.ok:
        pytest.skip(f"{name}: {found.found}; {found.fix}")
    return Monty() if name == "monty" else ALL[name]


class Machine:
    """The host of the attacks: things to reach, and a neighbour who must not notice."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.mark = mark
        self.outside, self.workspace = folder / "outside", folder / "workspace"
        self.outside.mkdir()
        self.workspace.mkdir()
        (self.outside / "secret.txt").write_text("the secret")
        (self.workspace / "a.txt").write_text("of the workspace")
        (self.workspace / ".weft").mkdir()
        (self.workspace / ".weft" / "journal.db").write_text("the journal")
        self.reached: list[str] = []
        self._sockets = [self._listen(socket.AF_INET, ("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        self.socket = f"/tmp/{mark}.socket"
        self._sockets += [self._listen(socket.AF_UNIX, self.socket), self._listen(socket.AF_UNIX, f"\0{self.socket}")]

    def _listen(self, family: int, address: Any) -> socket.socket:
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            self.reached.append(str(listener.family))
            one.close()

    def close(self) -> None:
        for listener in self._sockets:
            listener.close()
        Path(self.socket).unlink()

    def program(self, text: str) -> str:
        words = {
            "outside": self.outside, "workspace": self.workspace, "port": self.port, "socket": self.socket,
            "parent": os.getpid(), "base": base(), "code": CODE,
        }  # fmt: skip
        for name, value in words.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def unharmed(self) -> None:
        assert (self.outside / "secret.txt").read_text() == "the secret"
        assert (self.outside / "secret.txt").stat().st_mode & 0o777 == 0o644
        assert [path.name for path in self.outside.iterdir()] == ["secret.txt"]
        assert (self.workspace / ".weft" / "journal.db").read_text() == "the journal"
        assert not self.reached

    def attack(self, name: str, text: str, how: str = "copy", seconds: float = 30, **resources: Any) -> Finished:
        """Run it beside a neighbour, and look at both afterwards."""
        job = Job(
            python=self.program(text),
            env={"MARK": self.mark},
            cwd=self.workspace,
            resources=Resources(seconds=seconds, **resources),
            **{how: [self.workspace]},
        )
        done = asyncio.run(self._beside(wall_of(name), job))
        self.unharmed()
        done.drop()
        assert b"ESCAPED" not in done.stdout.data, done.stdout.text
        return done

    async def _beside(self, wall: Wall, job: Job) -> Finished:
        if isinstance(wall, Monty):
            async with wall.session(Job(python="")) as session:
                await session.feed_run("kept = 'the secret of a neighbour'")
                done = await run(wall, job)
                assert await session.feed_run("kept") == "the secret of a neighbour"
            await wall.close()
            return done
        async with await Session.open(wall, Job(argv=["/bin/sh"], env={"MARK": self.mark})) as neighbour:
            await neighbour.run("echo 'the secret of a neighbour' >$TMPDIR/kept; sleep 1000 & echo $! >$TMPDIR/pid")
            done = await run(wall, job)
            reply = await neighbour.run("cat $TMPDIR/kept; kill -0 $(cat $TMPDIR/pid) && echo lives")
            assert reply.stdout.text == "the secret of a neighbour\nlives\n", reply.stderr.text
        return done


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("TOKEN", CODE)
    before, groups = leaks.mounts(), leaks.groups()
    machine = Machine(tmp_path, mark)
    try:
        yield machine
    finally:
        machine.close()
        assert leaks.mounts() == before
        assert not leaks.scratch()
        assert not leaks.processes(mark)
        assert leaks.groups() <= groups


def each(table: dict[str, str], names: tuple[str, ...]) -> Any:
    return pytest.mark.parametrize(
        ("name", "text"),
        [pytest.param(name, text, id=f"{name}-{what}") for name in names for what, text in table.items()],
    )


SAFE = ["the environment", "a file outside", "a file outside, through a link", "the journal", "a port of the host"]
SAFE += ["a unix socket", "an abstract unix socket", "the permissions of a file outside"]


@pytest.mark.parametrize("what", SAFE)
def test_the_attacks_would_succeed_without_a_wall(machine: Machine, what: str, tmp_path: Path) -> None:
    text = (attacks.CONNECTING | attacks.WRITING | attacks.READING)[what]
    words = [sys.executable, "-c", machine.program(text)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "ESCAPED" in done.stdout, done.stderr


@each(attacks.READING, OF_PYTHON)
def test_nothing_outside_is_read(machine: Machine, name: str, text: str) -> None:
    done = machine.attack(name, text)
    assert done.status != 0
    assert done.limit is None
    assert b"the secret" not in done.stdout.data


@each(attacks.CONNECTING, OF_PYTHON)
def test_nothing_is_reached(machine: Machine, name: str, text: str) -> None:
    done = machine.attack(name, text)
    assert done.status != 0
    assert done.limit is None


@each(attacks.WRITING, OF_PYTHON)
def test_nothing_outside_is_written(machine: Machine, name: str, text: str) -> None:
    machine.attack(name, text)


@each(attacks.WRITING, ("process",))
def test_nothing_hidden_or_outside_is_written_by_a_job_that_writes_in_place(
    machine: Machine, name: str, text: str
) -> None:
    machine.attack(name, text, how="write")


@each(attacks.READING | attacks.ACTING, ("process",))
def test_nothing_outside_is_read_or_done_by_a_job_that_writes_in_place(machine: Machine, name: str, text: str) -> None:
    machine.attack(name, text, how="write")


@each(attacks.ACTING, OF_PYTHON)
def test_nobody_else_is_touched(machine: Machine, name: str, text: str) -> None:
    done = machine.attack(name, text)
    assert done.status != 0


VERDICTS: dict[str, tuple[dict[str, Any], type[OverLimit] | None]] = {
    "a fork bomb": ({"pids": 40, "seconds": 2}, OverLimit),
    "10 GB": ({"memory": "200M"}, OverMemory),
    "the processor": ({"seconds": 1}, OverTime),
    "the disk": ({"disk": "100M"}, OverDisk),
    "a million files": ({}, OverDisk),
    "shared memory": ({"memory": "200M"}, None),
}


@each(attacks.TAKING, OF_PROCESSES)
def test_what_is_taken_is_limited(machine: Machine, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FILES", 10_000)
    what = next(what for what, attack in attacks.TAKING.items() if attack == text)
    resources, error = VERDICTS[what]
    done = machine.attack(name, text, **resources)
    assert done.status != 0
    if error is None:
        assert done.limit is None  # refused by the wall itself
    else:
        with pytest.raises(error):
            done.check()


@pytest.mark.parametrize(
    ("what", "resources", "error"),
    [("the processor", {"seconds": 1}, OverTime), ("10 GB", {"memory": "50M"}, OverMemory)],
)
def test_what_the_embedded_python_takes_is_limited(
    machine: Machine, what: str, resources: dict[str, Any], error: type[OverLimit]
) -> None:
    text = "kept = []\nwhile True: kept.append('x' * 1000000)" if what == "10 GB" else attacks.TAKING[what]
    with pytest.raises(error):
        machine.attack("monty", text, **resources).check()


@each(attacks.STAYING, OF_PROCESSES)
def test_what_a_job_leaves_running_ends_with_it(machine: Machine, name: str, text: str) -> None:
    assert machine.attack(name, text).limit is None


@each(attacks.STAYING, OF_PROCESSES)
def test_what_a_job_has_started_ends_with_its_time(machine: Machine, name: str, text: str) -> None:
    with pytest.raises(OverTime):
        machine.attack(name, f"{text}\nimport time\ntime.sleep(60)", seconds=1).check()


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_nothing_is_left_of_a_job_without_a_group_either(machine: Machine, name: str) -> None:
    async def alone() -> Finished:
        job = Job(python=attacks.STAYING["many children of children"], env={"MARK": machine.mark})
        return await (await wall_of(name).start(job)).wait()

    assert asyncio.run(alone()).status == 0
    assert not leaks.processes(machine.mark)


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_nothing_is_left_of_a_fork_bomb_without_a_group_either(machine: Machine, name: str) -> None:
    async def alone() -> Finished:
        resources = Resources(pids=40, seconds=2)
        job = Job(python=attacks.TAKING["a fork bomb"], env={"MARK": machine.mark}, resources=resources)
        return await (await wall_of(name).start(job)).wait()

    with pytest.raises(OverTime):
        asyncio.run(alone()).check()
    assert not leaks.processes(machine.mark)


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_one_gigabyte_of_output_is_counted_and_cut(machine: Machine, name: str) -> None:
    async def loud() -> Finished:
        text = "import os\nfor _ in range(1000):\n    left = 10**6\n    while left: left -= os.write(1, b'x' * left)"
        return await run(wall_of(name), Job(python=text, streams=Streams(keep=10_000, whole=10**7)))

    done = asyncio.run(loud())
    assert (done.status, done.stdout.size, len(done.stdout.data)) == (0, 10**9, 10_000)
    assert done.stdout.whole is not None
    assert done.stdout.whole.stat().st_size == 10**7
    done.drop()


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_escapes_of_a_terminal_are_taken_out(machine: Machine, name: str) -> None:
    text = r"print('\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[2J \x1bPdcs\x1b\\ \x9b5n ok\rover\x08')"
    done = asyncio.run(run(wall_of(name), Job(python=text)))
    assert done.stdout.text == "red   ok\nover\n"
    assert b"\x1b" in done.stdout.data


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_a_link_that_a_job_leaves_leads_nowhere(machine: Machine, name: str) -> None:
    """The job replaces a folder by a link to outside; what it wrote "below" must not be carried there."""
    (machine.workspace / "folder").mkdir()
    (machine.workspace / "folder" / "secret.txt").write_text("mine")
    text = f"""
import os, shutil
shutil.rmtree('folder')
os.symlink('{machine.outside}', 'folder')
"""
    job = Job(python=text, copy=[machine.workspace], cwd=machine.workspace)
    done = asyncio.run(run(wall_of(name), job))
    assert {(change.path.name, change.kind) for change in done.changes} == {
        ("folder", "changed"),
        ("secret.txt", "removed"),
    }
    done.take(machine.workspace / "folder" / "secret.txt")
    done.drop()
    machine.unharmed()


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_a_link_put_in_the_way_of_what_is_taken_is_not_followed(machine: Machine, name: str) -> None:
    (machine.workspace / "folder").mkdir()
    job = Job(python="open('folder/new.txt', 'w').write('x')", copy=[machine.workspace], cwd=machine.workspace)
    done = asyncio.run(run(wall_of(name), job))
    (machine.workspace / "folder").rmdir()
    (machine.workspace / "folder").symlink_to(machine.outside)
    with pytest.raises((OSError, ChangedMeanwhile)):
        done.take()
    done.drop()
    machine.unharmed()


READ_ALL = "import os\nfor top, _, files in os.walk('.'): [print(open(f'{top}/{name}').read()) for name in files]"


def test_a_race_of_links_never_gets_a_file_outside_into_a_copy(machine: Machine) -> None:
    wall = wall_of("process")
    (machine.workspace / "folder").mkdir()
    (machine.workspace / "folder" / "secret.txt").write_text("mine")
    racer = f"""
import os
os.chdir('{machine.workspace}')
os.symlink('{machine.outside}', 'other')
while True:
    os.rename('folder', 'kept'); os.rename('other', 'folder')
    os.rename('folder', 'other'); os.rename('kept', 'folder')
"""

    async def race() -> list[str]:
        running = await wall.start(Job(python=racer, write=[machine.workspace], env={"MARK": machine.mark}))
        while not (machine.workspace / "other").is_symlink():
            await asyncio.sleep(0.01)
        found = []
        for _ in range(30):
            try:
                done = await run(wall, Job(python=READ_ALL, copy=[machine.workspace], cwd=machine.workspace))
            except ValueError:
                continue  # it changed while it was copied: said so
            found.append(done.stdout.text)
            done.drop()
        await running.kill()
        return found

    assert all("the secret" not in text for text in asyncio.run(race()))


WASM = {
    "the processor": ('(module (func (export "_start") (loop $again (br $again))))', {"seconds": 1}, OverTime),
    "a long sleep": (
        """(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
           (memory (export "memory") 1)
           (func (export "_start")
             (i64.store (i32.const 24) (i64.const 3600000000000))
             (i32.store (i32.const 16) (i32.const 1))
             (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))""",
        {"seconds": 1},
        OverTime,
    ),
    "10 GB": (
        """(module (memory (export "memory") 1)
           (func (export "_start")
             (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable))))""",
        {"memory": "200M"},
        None,
    ),
    "endless recursion": ('(module (func $f (export "_start") (call $f) (call $f)))', {}, None),
    "a file outside": (
        """(module
           (import "wasi_snapshot_preview1" "path_open"
             (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "../../../../../../etc/shadow")
           (func (export "_start")
             (if (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 28) (i32.const 0) (i64.const 2)
                   (i64.const 2) (i32.const 0) (i32.const 64)) (then unreachable))))""",
        {},
        None,
    ),
    "functions that are not given": (
        """(module (import "env" "system" (func $system (param i32)))
           (func (export "_start") (call $system (i32.const 0))))""",
        {},
        None,
    ),
    "no module": ("nonsense", {}, None),
}


@pytest.mark.parametrize("what", WASM)
def test_a_module_is_contained(machine: Machine, what: str, tmp_path: Path) -> None:
    text, resources, error = WASM[what]
    module = tmp_path / "module.wat"
    module.write_text(text)
    job = Job(argv=[str(module)], env={"MARK": machine.mark}, resources=Resources(**resources))
    done = asyncio.run(run(wall_of("wasm"), job))
    machine.unharmed()
    assert done.status != 0
    if error is not None:
        with pytest.raises(error):
            done.check()


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_nothing_is_left_of_a_job_whose_caller_is_cancelled(machine: Machine, name: str) -> None:
    async def cancelled() -> None:
        text = attacks.STAYING["many children of children"] + "\nimport time\ntime.sleep(60)"
        task = asyncio.create_task(
            run(wall_of(name), Job(python=text, env={"MARK": machine.mark}, copy=[machine.workspace]))
        )
        while len(leaks.processes(machine.mark)) < 10:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not leaks.processes(machine.mark)

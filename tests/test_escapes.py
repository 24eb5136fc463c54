"""What a hostile program tries, against each wall of this machine: contained, nothing left, neighbours unharmed."""

from __future__ import annotations

import asyncio
import json
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

pytestmark = pytest.mark.usefixtures("nothing_left")
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
    machine = Machine(tmp_path, mark)
    try:
        yield machine
    finally:
        machine.close()
        assert not leaks.processes(mark)


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


FILE = "from pathlib import Path\nn = 0\nwhile True:\n    n += 1\n    Path(f'f{n}').write_text('x' * %d)"
EMBEDDED: dict[str, tuple[str, dict[str, Any], type[OverLimit] | None]] = {
    "the processor": ("while True: pass", {"seconds": 1}, OverTime),
    "10 GB": ("kept = []\nwhile True: kept.append('x' * 1000000)", {"memory": "50M"}, OverMemory),
    "the disk": (FILE % 10**6, {"disk": "100M"}, OverDisk),
    "a million files": (FILE % 1, {}, None),  # the interpreter itself allows a thousand
}


@pytest.mark.parametrize("what", EMBEDDED)
def test_what_the_embedded_python_takes_is_limited(machine: Machine, what: str) -> None:
    text, resources, error = EMBEDDED[what]
    done = machine.attack("monty", text, **resources)
    assert done.status != 0
    error_there = done.error()
    assert error_there is None if error is None else isinstance(error_there, error)
    assert sorted(path.name for path in machine.workspace.iterdir()) == [".weft", "a.txt"]


@pytest.mark.parametrize("text", ["import os\nos.fork()", "import subprocess", "import ctypes", "import threading"])
def test_the_embedded_python_starts_nothing(machine: Machine, text: str) -> None:
    assert machine.attack("monty", f"{text}\nprint('ESCAPED')").status == 1


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


def test_an_endless_output_of_the_embedded_python_is_counted_and_cut(machine: Machine) -> None:
    wall = wall_of("monty")
    assert isinstance(wall, Monty)

    async def loud() -> Finished:
        text = "line = 'x' * 999_999\nfor _ in range(100): print(line)"
        try:
            return await run(wall, Job(python=text, streams=Streams(keep=10_000, whole=10**7)))
        finally:
            await wall.close()

    done = asyncio.run(loud())
    assert (done.status, done.stdout.size, len(done.stdout.data)) == (0, 10**8, 10_000)
    assert done.stdout.whole is not None
    assert done.stdout.whole.stat().st_size == 10**7
    done.drop()


@pytest.mark.parametrize("name", OF_PYTHON)
def test_escapes_of_a_terminal_are_taken_out(machine: Machine, name: str) -> None:
    text = r"print('\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[2J \x1bPdcs\x1b\\ \x9b5n ok\rover\x08')"
    done = machine.attack(name, text)
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


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_a_race_of_links_never_gets_a_file_outside_into_a_copy(machine: Machine, name: str) -> None:
    wall, victim = wall_of("process"), wall_of(name)
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
        for _ in range(30 if name == "process" else 10):
            try:
                done = await run(victim, Job(python=READ_ALL, copy=[machine.workspace], cwd=machine.workspace))
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
    **{
        what: (
            f"""(module
           (import "wasi_snapshot_preview1" "path_open"
             (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 0) "{path}")
           (func (export "_start")
             (if (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const {len(path)}) (i32.const {create})
                   (i64.const {rights}) (i64.const {rights}) (i32.const 0) (i32.const 64)) (then unreachable))))""",
            {},
            None,
        )
        for what, path, create, rights in (
            ("the shadow file", "../../../../../../etc/shadow", 0, 2),
            ("a path from the root", "/etc/shadow", 0, 2),
            ("a file outside", "../outside/secret.txt", 0, 2),
            ("a file outside, through a link", "link", 0, 2),
            ("a new file outside", "../outside/new.txt", 1, 64),
            ("the journal", ".weft/journal.db", 0, 2),
        )
    },
    "the disk": (
        """(module
           (import "wasi_snapshot_preview1" "path_open"
             (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
           (import "wasi_snapshot_preview1" "fd_write"
             (func $write (param i32 i32 i32 i32) (result i32)))
           (memory (export "memory") 20) (data (i32.const 0) "full")
           (func (export "_start")
             (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1)
               (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 16)))
             (i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 1000000))
             (loop $again
               (drop (call $write (i32.load (i32.const 16)) (i32.const 32) (i32.const 1) (i32.const 48)))
               (br $again))))""",
        {"disk": "100M"},
        OverDisk,
    ),
    "a million files": (
        """(module
           (import "wasi_snapshot_preview1" "path_open"
             (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
           (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
           (memory (export "memory") 1)
           (global $n (mut i32) (i32.const 0))
           (func (export "_start") (local $at i32) (local $left i32)
             (loop $again
               (global.set $n (i32.add (global.get $n) (i32.const 1)))
               (local.set $left (global.get $n)) (local.set $at (i32.const 0))
               (loop $digit
                 (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.rem_u (local.get $left) (i32.const 26))))
                 (local.set $left (i32.div_u (local.get $left) (i32.const 26)))
                 (local.set $at (i32.add (local.get $at) (i32.const 1)))
                 (br_if $digit (i32.lt_u (local.get $at) (i32.const 6))))
               (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 1)
                 (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 64)))
               (drop (call $close (i32.load (i32.const 64))))
               (br_if $again (i32.lt_u (global.get $n) (i32.const 1000000))))))""",
        {},
        OverDisk,
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
def test_a_module_is_contained(machine: Machine, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FILES", 10_000)
    text, resources, error = WASM[what]
    (machine.workspace / "link").symlink_to("../outside/secret.txt")
    module = tmp_path / "module.wat"
    module.write_text(text)
    copy = [machine.workspace]
    job = Job(argv=[str(module)], env={"MARK": machine.mark}, copy=copy, resources=Resources(**resources))
    done = asyncio.run(run(wall_of("wasm"), job))
    done.drop()
    machine.unharmed()
    assert done.status != 0
    if error is not None:
        with pytest.raises(error):
            done.check()


def test_one_gigabyte_of_a_modules_output_is_counted_and_cut(machine: Machine, tmp_path: Path) -> None:
    module = tmp_path / "module.wat"
    module.write_text(
        """(module
           (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
           (memory (export "memory") 20)
           (global $n (mut i32) (i32.const 0))
           (func (export "_start")
             (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000000))
             (loop $again
               (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
               (global.set $n (i32.add (global.get $n) (i32.load (i32.const 16))))
               (br_if $again (i32.lt_u (global.get $n) (i32.const 1000000000))))))"""
    )
    done = asyncio.run(run(wall_of("wasm"), Job(argv=[str(module)], streams=Streams(keep=10_000, whole=10**7))))
    assert done.status == 0, done.stderr.text
    assert done.stdout.size >= 10**9 and len(done.stdout.data) == 10_000
    assert done.stdout.whole is not None and done.stdout.whole.stat().st_size == 10**7
    done.drop()


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_nothing_is_left_of_a_job_whose_caller_is_cancelled(machine: Machine, name: str) -> None:
    async def cancelled() -> None:
        text = attacks.STAYING["many children of children"] + "\nimport time\ntime.sleep(60)"
        task = asyncio.create_task(
            run(wall_of(name), Job(python=text, env={"MARK": machine.mark}, copy=[machine.workspace]))
        )
        while len(leaks.alive(machine.mark)) < 10:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not leaks.processes(machine.mark)


NOBODY = 65534


def unprivileged_python() -> str:
    """An interpreter that the user nobody can run, with all that this one has. Skips where there is none."""
    if os.geteuid():
        pytest.skip("the whole suite runs without rights already")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, *(f"{folder}/{version}" for folder in os.defpath.split(":")[::-1])):
        try:
            words = [python, "-c", "import sys, msgspec, pytest; print(sys.version_info[:2])"]
            done = as_nobody(words)
        except OSError:
            continue
        if done.stdout == f"{sys.version_info[:2]}\n":
            return python
    pytest.skip("the user nobody can run no Python of this version: all lie in closed folders")


def as_nobody(words: list[str]) -> subprocess.CompletedProcess[str]:
    own = (str(Path(os.__file__).parent), ".zip", "lib-dynload")  # another interpreter has its own
    path = os.pathsep.join(place for place in sys.path if place and not place.endswith(own))
    environment = {"PATH": os.defpath, "PYTHONPATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return subprocess.run(
        words, cwd="/", env=environment, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


def test_each_wall_of_processes_holds_when_a_user_without_rights_builds_it() -> None:
    done = as_nobody([unprivileged_python(), "-m", "tests.as_nobody"])
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said["user"] == NOBODY
    assert said["broken"] == []
    if not said["walls"]:
        pytest.skip("no wall of this machine can be built without rights")

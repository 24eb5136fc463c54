"""What a job gets, does and gives back, whatever wall it runs behind; and what is left when Weft is killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from weft.core.errors import BadInput, ChangedMeanwhile, OverDisk, OverTime, SandboxMissing
from weft.core.resources import Resources
from weft.runtime.sandbox import Chunk, Finished, Job, Pool, Session, Streams, Wall, choose, reap, report, run, walls
from weft.runtime.sandbox import bubblewrap as bubblewrap_wall
from weft.runtime.sandbox.choose import Need
from weft.runtime.sandbox.live import Live
from weft.runtime.sandbox.monty import Monty
from weft.runtime.sandbox.scratch import base, remove, started

ALL = {wall.name: wall for wall in walls()}


@pytest.fixture(params=["process", "landlock"])
def wall(request: pytest.FixtureRequest) -> Wall:
    return the(request.param)


def the(name: str) -> Wall:
    found = ALL[name].available()
    if not found.ok:
        pytest.skip(f"{name}: {found.found}; {found.fix}")
    return ALL[name]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    with leaks.none():
        yield
    assert not leaks.processes(f"never-{os.getpid()}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "workspace"
    (place / "inner").mkdir(parents=True)
    (place / "a.txt").write_text("one")
    (place / "inner" / "b.txt").write_text("two")
    (place / "link").symlink_to("a.txt")
    (place / ".weft").mkdir()
    (place / ".weft" / "journal.db").write_text("the journal")
    return place


def done(wall: Wall, **job: Any) -> Finished:
    return asyncio.run(run(wall, Job(**job)))


# --- a command and what it gets ------------------------------------------------------------------------------------


def test_a_command_ends_with_its_status_and_both_outputs(wall: Wall) -> None:
    got = done(wall, argv=["/bin/sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (got.status, got.signal, got.limit) == (7, None, None)
    assert (got.stdout.data, got.stderr.data) == (b"out\n", b"err\n")


def test_a_signal_that_ends_it_is_told(wall: Wall) -> None:
    got = done(wall, argv=["/bin/sh", "-c", "kill -SEGV $$"])
    assert (got.status, got.signal) == (None, signal.SIGSEGV)


def test_a_command_that_is_not_there_fails_like_in_a_shell(wall: Wall) -> None:
    got = done(wall, argv=["no-such-command"])
    assert got.status == 127
    assert "no-such-command" in got.stderr.text


def test_it_gets_its_input_and_the_end_of_it(wall: Wall) -> None:
    data = os.urandom(300_000)
    got = done(wall, argv=["sha256sum"], stdin=data)
    assert got.stdout.text.split()[0] == hashlib.sha256(data).hexdigest()
    assert done(wall, argv=["cat"]).stdout.data == b""


def test_input_that_nobody_reads_does_no_harm(wall: Wall) -> None:
    assert done(wall, argv=["true"], stdin=b"x" * 10**6).status == 0


def test_it_gets_the_variables_given_and_no_others(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "1")
    odd = 'it\'s "odd" $HOME `x`\n\\ end'
    got = done(
        wall, python="import json, os; print(json.dumps(dict(os.environ)))", env={"ODD": odd, "PATH": "/usr/bin"}
    )

    seen = json.loads(got.stdout.text)
    assert seen.pop("ODD") == odd
    assert seen.pop("PATH") == "/usr/bin"
    assert seen.keys() <= {"WEFT_SANDBOX_JOB", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "PWD", "SHLVL", "_"}


def test_variables_that_steer_the_loader_reach_the_job_and_not_the_wall(wall: Wall, folder: Path) -> None:
    got = done(wall, argv=["/bin/echo", "ran"], env={"LD_PRELOAD": str(folder / "none.so")}, read=[folder])
    assert got.stdout.text == "ran\n"


def test_it_has_a_temporary_folder_of_its_own(wall: Wall) -> None:
    text = "import pathlib, tempfile; tempfile.mkdtemp('mine')\n"
    text += "print(len(list(pathlib.Path(tempfile.gettempdir()).glob('*mine'))))"
    assert [done(wall, python=text).stdout.text for _ in range(2)] == ["1\n", "1\n"]


def test_its_program_is_python_with_the_packages_of_this_one(wall: Wall) -> None:
    got = done(wall, python="import sys, msgspec; print(sys.version_info[:2], __name__)")
    assert got.stdout.text == f"{sys.version_info[:2]} __main__\n", got.stderr.text


def test_usage_is_that_of_the_job(wall: Wall) -> None:
    text = (
        "import time\nkept = bytearray(10**8)\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    )
    usage = done(wall, python=text).usage
    assert usage.memory_peak > 10**8
    assert usage.cpu_seconds > 0.3
    assert usage.seconds > 0.3


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_folder_to_read_can_be_read_and_not_written(wall: Wall, folder: Path) -> None:
    got = done(wall, argv=["/bin/sh", "-c", "cat a.txt link inner/b.txt; echo x >a.txt"], read=[folder], cwd=folder)
    assert got.stdout.text == "oneonetwo"
    assert got.status != 0
    assert (folder / "a.txt").read_text() == "one"


def test_a_single_file_can_be_given(wall: Wall, folder: Path) -> None:
    script = f"cat {folder}/a.txt; cat {folder}/inner/b.txt"
    got = done(wall, argv=["/bin/sh", "-c", script], read=[folder / "a.txt"])
    assert got.stdout.text == "one"
    assert got.status != 0


def test_a_folder_to_write_is_changed_in_place_by_the_callers_user(wall: Wall, folder: Path) -> None:
    remove(folder / ".weft")
    got = done(wall, argv=["/bin/sh", "-c", "echo x >a.txt; mkdir new; echo y >new/c.txt"], write=[folder], cwd=folder)
    assert got.status == 0, got.stderr.text
    assert (folder / "a.txt").read_text() == "x\n"
    assert (folder / "new" / "c.txt").stat().st_uid == os.geteuid()


def test_what_is_hidden_is_not_there(wall: Wall, folder: Path) -> None:
    (folder / "inner" / ".weft").write_text("hidden too")
    script = "cat .weft/journal.db inner/.weft; cat a.txt inner/b.txt"
    for how in ("read", "copy"):
        got = done(wall, argv=["/bin/sh", "-c", script], cwd=folder, **{how: [folder]})
        got.drop()
        assert got.stdout.text == "onetwo", how


def test_a_wall_that_cannot_hide_says_so(folder: Path) -> None:
    with pytest.raises(SandboxMissing, match="can't hide"):
        done(the("landlock"), argv=["true"], write=[folder])


def test_changes_in_a_copy_are_told_with_digests_and_taken(wall: Wall, folder: Path) -> None:
    script = "printf three >a.txt; rm inner/b.txt; mkdir -p new/deep; (umask 077; printf four >new/deep/c.txt)"
    got = done(wall, argv=["/bin/sh", "-c", f"{script}; ln -s nowhere dangling"], copy=[folder], cwd=folder)
    assert got.status == 0, got.stderr.text
    assert (folder / "a.txt").read_text() == "one"
    told = {str(change.path.relative_to(folder)): change for change in got.changes}
    assert {path: change.kind for path, change in told.items()} == {
        "a.txt": "changed", "dangling": "added", "inner/b.txt": "removed", "new": "added", "new/deep": "added",
        "new/deep/c.txt": "added",
    }  # fmt: skip
    assert told["a.txt"].before == hashlib.sha256(b"one").hexdigest()
    assert told["a.txt"].after == hashlib.sha256(b"three").hexdigest()
    assert told["inner/b.txt"].after is None
    got.take()
    assert (folder / "a.txt").read_text() == "three"
    assert not (folder / "inner" / "b.txt").exists()
    assert (folder / "new" / "deep" / "c.txt").stat().st_mode & 0o777 == 0o600
    assert (folder / "new" / "deep" / "c.txt").stat().st_uid == os.geteuid()
    assert (folder / "dangling").readlink() == Path("nowhere")
    assert (folder / ".weft" / "journal.db").read_text() == "the journal"
    got.drop()


def test_some_of_the_changes_can_be_taken_and_the_rest_dropped(wall: Wall, folder: Path) -> None:
    got = done(wall, argv=["/bin/sh", "-c", "echo x >a.txt; echo y >inner/b.txt"], copy=[folder], cwd=folder)
    got.take(folder / "a.txt")
    got.drop()
    got.drop()
    assert ((folder / "a.txt").read_text(), (folder / "inner" / "b.txt").read_text()) == ("x\n", "two")
    with pytest.raises(BadInput, match="dropped"):
        got.take()


def test_nothing_is_taken_over_what_somebody_else_wrote_meanwhile(wall: Wall, folder: Path) -> None:
    got = done(wall, argv=["/bin/sh", "-c", "echo x >a.txt; echo y >inner/b.txt"], copy=[folder], cwd=folder)
    (folder / "inner" / "b.txt").write_text("somebody else's")
    with pytest.raises(ChangedMeanwhile, match=r"b\.txt"):
        got.take()
    assert (folder / "a.txt").read_text() == "one"
    got.drop()


def test_what_was_only_touched_is_no_change(wall: Wall, folder: Path) -> None:
    got = done(wall, argv=["/bin/sh", "-c", "touch a.txt; printf one >a.txt"], copy=[folder], cwd=folder)
    assert got.changes == ()
    got.drop()


def test_pipes_and_devices_are_neither_copied_nor_taken(wall: Wall, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    got = done(wall, argv=["/bin/sh", "-c", "ls; mkfifo other"], copy=[folder], cwd=folder)
    assert "pipe" not in got.stdout.text
    assert got.changes == ()
    got.drop()


def test_a_deep_and_closed_tree_leaves_nothing(wall: Wall) -> None:
    text = """
import os
os.chdir(os.environ['TMPDIR'])
for _ in range(3000):
    os.mkdir('d')
    os.chdir('d')
try:
    os.chmod('.', 0)
except PermissionError:
    pass  # landlock's wall denies it to who has files elsewhere
"""
    assert done(wall, python=text).status == 0


def test_what_a_job_did_to_a_copy_that_cannot_be_read_is_not_taken(wall: Wall, folder: Path) -> None:
    text = "import os\nopen('new', 'w').close()\nfor _ in range(3000): os.mkdir('d' * 9), os.chdir('d' * 9)"
    got = done(wall, python=text, copy=[folder], cwd=folder)
    assert got.changes == ()
    with pytest.raises((BadInput, OverDisk)):
        got.check().take()
    got.drop()
    assert not (folder / "new").exists()


def test_holes_in_files_count_as_written(wall: Wall, folder: Path) -> None:
    """They cost nothing to make, and Weft would have to read them."""
    text = "import os\nfor i in range(30): os.truncate(os.open(f'f{i}', os.O_CREAT | os.O_RDWR), 9 * 10**7)"
    got = done(wall, python=text, copy=[folder], cwd=folder, resources=Resources(disk="100M"))
    with pytest.raises(OverDisk):
        got.check()
    assert got.changes == ()
    got.drop()


@pytest.mark.parametrize("how", ["read", "write", "copy"])
def test_a_place_that_became_a_link_is_not_followed(wall: Wall, folder: Path, how: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "b.txt").write_text("the secret")
    job = Job(argv=["cat", f"{folder}/inner/b.txt"], **{how: [folder / "inner"]})  # type: ignore[arg-type]
    (folder / "inner").rename(folder / "elsewhere")
    (folder / "inner").symlink_to(outside)
    with pytest.raises(BadInput):
        asyncio.run(run(wall, job))


# --- streams -------------------------------------------------------------------------------------------------------


def test_outputs_come_as_they_are_written_and_input_can_be_given_meanwhile(wall: Wall) -> None:
    async def talk() -> tuple[list[Chunk], Finished]:
        script = "echo ready; read word; echo got $word >&2; read word; echo $word"
        running = await wall.start(Job(argv=["/bin/sh", "-c", script], interactive=True))
        seen = []
        async for chunk in running.stream():
            seen.append(chunk)
            if len(seen) < 3:
                await running.write(f"word{len(seen)}\n".encode())
        return seen, await running.wait()

    seen, got = asyncio.run(talk())
    assert seen == [(1, b"ready\n"), (2, b"got word1\n"), (1, b"word2\n")]
    assert (got.stdout.data, got.stderr.data) == (b"ready\nword2\n", b"got word1\n")


def test_a_slow_reader_slows_the_job_down_and_misses_nothing(wall: Wall) -> None:
    async def read() -> tuple[int, Finished]:
        running = await wall.start(Job(argv=["head", "-c", "30000000", "/dev/zero"]))
        size, most = 0, 0
        async for chunk in running.stream():
            size += len(chunk.data)
            most += 1
            if most % 40 == 0:
                await asyncio.sleep(0.01)
        return size, await running.wait()

    size, got = asyncio.run(read())
    assert size == got.stdout.size == 30_000_000
    got.drop()


def test_of_a_long_output_the_ends_are_kept_and_the_whole_lies_on_disk(wall: Wall) -> None:
    got = done(wall, argv=["seq", "1", "100000"], streams=Streams(keep=1000))
    whole = "".join(f"{number}\n" for number in range(1, 100_001))
    assert got.stdout.truncated
    assert got.stdout.size == len(whole)
    assert got.stdout.whole is not None
    assert got.stdout.whole.read_text() == whole
    assert got.stdout.text.startswith("1\n2\n3\n")
    assert got.stdout.text.endswith("99999\n100000\n")
    begin, end = got.stdout.cut
    assert whole[:begin] + whole[end:] == got.stdout.data.decode()
    assert f"bytes {begin} to {end} of {len(whole)} left out; the whole is in {got.stdout.whole}" in got.stdout.text
    got.drop()
    assert not got.stdout.whole.exists()


# --- sessions and pools --------------------------------------------------------------------------------------------


def test_a_shell_that_stays_keeps_its_folder_and_variables(wall: Wall, folder: Path) -> None:
    async def talk() -> list[tuple[int, str, str]]:
        job = Job(argv=["/bin/sh"], read=[folder], cwd=folder)
        async with await Session.open(wall, job) as shell:
            replies = [
                await shell.run(text) for text in ("cd inner; X=5", "echo $X; pwd; false", "cat", "if", "printf e >&2")
            ]
            return [(reply.status, reply.stdout.text, reply.stderr.text) for reply in replies]

    quiet, values, cat, wrong, last = asyncio.run(talk())
    assert quiet == (0, "", "")
    assert values == (1, f"5\n{folder}/inner\n", "")
    assert cat == (0, "", "")
    assert wrong[0] != 0
    assert last == (0, "", "e")


def test_a_python_that_stays_keeps_its_names(wall: Wall) -> None:
    async def talk() -> list[tuple[int, str]]:
        async with await Session.open(wall, Job(python="import math\nkept = [1]")) as python:
            texts = [
                "kept.append(math.floor(2.5))",
                "print(kept)",
                "1 / 0",
                "print('ä')",
                "raise SystemExit(3)",
                "input()",
            ]
            return [(reply.status, reply.stdout.text) for reply in [await python.run(text) for text in texts]]

    assert asyncio.run(talk()) == [(0, ""), (0, "[1, 2]\n"), (1, ""), (0, "ä\n"), (3, ""), (1, "")]


def test_a_command_that_takes_too_long_ends_its_session(wall: Wall) -> None:
    async def talk() -> None:
        async with await Session.open(wall, Job(argv=["/bin/sh"], resources=Resources(seconds=20))) as shell:
            with pytest.raises(OverTime, match="open another"):
                await shell.run("sleep 60", seconds=0.3)
            assert not shell.alive
            with pytest.raises(EOFError, match="open another"):
                await shell.run("echo")

    asyncio.run(talk())


def test_a_shell_that_ends_itself_says_so(wall: Wall) -> None:
    async def talk() -> None:
        async with await Session.open(wall, Job(argv=["/bin/sh"])) as shell:
            with pytest.raises(EOFError):
                await shell.run("exit 3")
            assert (await shell.close()).status == 3

    asyncio.run(talk())


def test_the_long_output_of_one_command_is_its_own(wall: Wall) -> None:
    async def talk() -> None:
        async with await Session.open(wall, Job(argv=["/bin/sh"], streams=Streams(keep=100))) as shell:
            long = await shell.run("seq 1 100000")
            short = await shell.run("echo short")
            assert long.stdout.whole is not None
            assert long.stdout.whole.read_text().splitlines()[-1] == "100000"
            assert short.stdout.data == b"short\n"
            long.drop()

    asyncio.run(talk())


def test_a_pool_hands_out_sessions_that_are_ready_each_once(wall: Wall) -> None:
    async def use() -> list[str]:
        async with Pool(wall, Job(python="import os\nnumber = 0"), size=2) as pool:

            async def one() -> str:
                async with pool.session() as python:
                    reply = await python.run("number += 1\nprint(number, os.getpid(), os.environ['TMPDIR'])")
                    return reply.stdout.text

            said = list(await asyncio.gather(*(one() for _ in range(5))))
            while pool.ready < 2:  # it fills up again, however they were taken
                await asyncio.sleep(0.01)
            for _ in range(6):
                said.append(await one())
            while pool.ready < 2:
                await asyncio.sleep(0.01)
            return said

    said = asyncio.run(use())
    assert len(said) == 11
    assert all(text.startswith("1 ") for text in said)


def test_a_pool_tells_why_it_cannot_start(wall: Wall) -> None:
    async def use() -> None:
        async with Pool(wall, Job(argv=["/no/such/shell"])):
            pass

    with pytest.raises(EOFError, match="no/such/shell"):
        asyncio.run(use())


def test_a_pool_makes_no_copies(wall: Wall, folder: Path) -> None:
    with pytest.raises(BadInput, match="old"):
        Pool(wall, Job(argv=["/bin/sh"], copy=[folder]))


# --- the other walls -----------------------------------------------------------------------------------------------


def embedded(**job: Any) -> Finished:
    the("monty")

    async def use() -> Finished:
        wall = Monty(workers=1)
        try:
            return await run(wall, Job(**job))
        finally:
            await wall.close()

    return asyncio.run(use())


def test_the_embedded_python_calls_the_functions_it_is_given() -> None:
    async def slow(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    text = "print('hello')\nawait slow('a') + fast(2)"
    got = embedded(python=text, functions={"slow": slow, "fast": lambda times: "b" * times})
    assert (got.status, got.value, got.stdout.text) == (0, "Abb", "hello\n")


def test_the_embedded_python_tells_its_errors() -> None:
    got = embedded(python="1 / 0")
    assert got.status == 1
    assert "ZeroDivisionError" in got.stderr.text


def test_the_embedded_python_changes_its_copies(folder: Path) -> None:
    text = "from pathlib import Path\nPath('a.txt').write_text('x')\nPath('a.txt').read_text()"
    got = embedded(python=text, copy=[folder], cwd=folder)
    assert got.value == "x", got.stderr.text
    assert [(change.path, change.kind) for change in got.changes] == [(folder / "a.txt", "changed")]
    got.drop()
    assert (folder / "a.txt").read_text() == "one"


def test_a_program_of_the_embedded_python_goes_on_elsewhere() -> None:
    the("monty")
    from pydantic_monty import AsyncFunctionSnapshot, MontyComplete

    async def use() -> object:
        first, second = Monty(workers=1), Monty(workers=1)
        try:
            async with first.session(Job(python="")) as session:
                call = await session.feed_start("kept = 20\nkept + ask('more')", external_lookup={})
                while not isinstance(call, AsyncFunctionSnapshot):
                    call = await call.resume_auto()  # type: ignore[union-attr]
                state = call.dump()
            await first.close()
            async with second.session(Job(python="")) as session:
                call = await session.load_snapshot(state)
                assert isinstance(call, AsyncFunctionSnapshot)
                assert call.args == ("more",)
                ended = await call.resume({"return_value": 3})
                assert isinstance(ended, MontyComplete)
                return ended.output
        finally:
            await first.close()
            await second.close()

    assert asyncio.run(use()) == 23


HELLO = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 8) "hello\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"""


def test_a_module_runs(tmp_path: Path) -> None:
    (tmp_path / "hello.wat").write_text(HELLO)
    got = done(the("wasm"), argv=[str(tmp_path / "hello.wat")])
    assert (got.status, got.stdout.text) == (0, "hello\n")


# --- choosing ------------------------------------------------------------------------------------------------------


def test_the_choice_is_never_a_weaker_wall_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    the("landlock")
    bubblewrap_wall._available.cache_clear()
    monkeypatch.setattr(bubblewrap_wall, "bwrap", lambda: None)
    monkeypatch.delenv("WEFT_SANDBOX", raising=False)
    try:
        with pytest.raises(SandboxMissing, match=r"install bubblewrap.*WEFT_SANDBOX=landlock"):
            choose()
        assert choose(accept=["landlock"]).name == "landlock"
        monkeypatch.setenv("WEFT_SANDBOX", "landlock")
        assert choose().name == "landlock"
    finally:
        bubblewrap_wall._available.cache_clear()


def test_the_choice_follows_the_need() -> None:
    there = {need: name for need, name in _NAMES.items() if report()[name].ok}
    assert {need: choose(need).name for need in there} == there
    with pytest.raises(BadInput, match="process, python, wasm"):
        choose("docker")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no such wall"):
        choose(accept=["chroot"])


_NAMES: dict[Need, str] = {"process": "process", "python": "monty", "wasm": "wasm"}


def test_every_wall_says_what_is_weaker_or_what_to_install() -> None:
    for name, found in report().items():
        assert found.found, name
        assert found.ok or found.fix, name


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({}, "one of the two"),
        ({"argv": ["a"], "python": "b"}, "one of the two"),
        ({"argv": "ls -l"}, "list of texts"),
        ({"argv": ["a\0b"]}, "NUL"),
        ({"argv": ["a"], "env": {"A B": "1"}}, "names of variables"),
        ({"argv": ["a"], "env": {"A;rm": "1"}}, "names of variables"),
        ({"argv": ["a"], "read": ["relative"]}, "absolute"),
        ({"argv": ["a"], "read": ["/no/such/place"]}, "No such file"),
        ({"argv": ["a"], "write": ["/"]}, "too much"),
        ({"argv": ["a"], "write": ["/etc"]}, "too much"),
        ({"argv": ["a"], "read": ["/proc/self"]}, "too much"),
        ({"argv": ["a"], "cwd": "/usr"}, "must be a folder in"),
        ({"argv": ["a"], "hide": ["a/b"]}, "not paths"),
    ],
)
def test_a_job_that_cannot_be_meant_is_refused(job: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Job(**job)


# --- Weft killed with -9 -------------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, sys
from weft.runtime.sandbox import Job, walls
async def main():
    wall = next(wall for wall in walls() if wall.name == sys.argv[1])
    text = '''
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
print("up", flush=True)
time.sleep(1000)
'''
    running = await wall.start(Job(python=text, env={"MARK": sys.argv[2]}, copy=[sys.argv[3]]))
    async for chunk in running.stream():
        print(os.getpid(), running.pid, flush=True)
asyncio.run(main())
"""


def test_nothing_is_left_of_a_job_whose_keeper_is_killed(wall: Wall) -> None:
    """The process that holds the wall up (bubblewrap's monitor, landlock's stub), say by a machine short of memory."""
    mark = f"keeper-{os.getpid()}-{time.monotonic_ns()}"

    async def kill() -> Finished:
        text = "import os, time\nfor _ in range(3): os.fork() or os.setsid()\nprint('up', flush=True)\ntime.sleep(1000)"
        running = await wall.start(Job(python=text, env={"MARK": mark}))
        assert isinstance(running, Live)
        async for _ in running.stream():
            with contextlib.suppress(ProcessLookupError):  # several of them say that they are up
                os.kill(running.pid, signal.SIGKILL)
        return await running.wait()

    assert asyncio.run(kill()).signal == signal.SIGKILL
    assert not leaks.processes(mark)


@pytest.mark.parametrize("keeper_too", [False, True])
def test_what_a_killed_weft_leaves_ends_at_once_and_is_removed_at_the_next_start(
    wall: Wall, folder: Path, keeper_too: bool
) -> None:
    mark = f"killed-{os.getpid()}-{time.monotonic_ns()}"
    words = [sys.executable, "-c", KILLED, wall.name, mark, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as weft:
        assert weft.stdout is not None
        pid, keeper = map(int, weft.stdout.readline().split())
        assert leaks.alive(mark)
        mine = list(base().glob(f"{pid}-{started(pid)}-*"))
        assert len(mine) == 1
        if keeper_too:
            weft.send_signal(signal.SIGSTOP)  # so that it can't notice
            os.kill(keeper, signal.SIGKILL)
        weft.kill()
    while leaks.alive(mark) - {pid} and not keeper_too:
        time.sleep(0.02)
    assert mine[0].exists()
    assert reap() == mine
    assert not mine[0].exists()
    while leaks.alive(mark) - {pid}:
        time.sleep(0.02)


def test_the_reaper_touches_nothing_that_lives_or_is_not_its_own(wall: Wall, tmp_path: Path) -> None:
    other = base() / "999999-not-ours"
    stranger = base() / "1-1-a-link"
    living = list(base().glob(f"{os.getpid()}-*"))
    done(wall, argv=["true"])
    other.mkdir(exist_ok=True)
    stranger.symlink_to(tmp_path)
    try:
        reap()
        assert other.exists()
        assert stranger.is_symlink()
        assert tmp_path.exists()
        assert all(place.exists() for place in living)
    finally:
        other.rmdir()
        stranger.unlink()


def test_the_folder_of_scratch_folders_must_be_ones_own(wall: Wall, tmp_path: Path) -> None:
    """Somebody else may have made it first, in a /tmp that all may write."""
    (tmp_path / f"weft-sandbox-{os.geteuid()}").symlink_to("/etc")
    code = "import asyncio, sys; from weft.runtime.sandbox import Job, run, walls\n"
    code += "asyncio.run(run(next(w for w in walls() if w.name == sys.argv[1]), Job(argv=['true'])))"
    words = [sys.executable, "-c", code, wall.name]
    ended = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}, check=False
    )
    assert "only this user can change" in ended.stderr


@pytest.mark.parametrize("name", ["landlock", "monty", "wasm"])
def test_a_wall_that_has_no_network_to_give_says_so(name: str) -> None:
    wall = the(name)
    job = Job(python="1", network=True) if name == "monty" else Job(argv=["/bin/true"], network=True)
    with pytest.raises((BadInput, SandboxMissing), match="network"):
        asyncio.run(run(wall, job))

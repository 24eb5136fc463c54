"""Bad days: killed processes, full disks, lost classes, secrets, two that want one run: nothing lost or doubled."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core import codec
from weft.core.errors import (
    CrashLoop,
    Nondeterminism,
    NotStorable,
    RemoteError,
    RunBusy,
    StoreFull,
    StoreTooNew,
    UnknownOutcome,
    UnknownWorkflow,
)
from weft.core.record import Attempt, Outcome, Started

ROOT = Path(__file__).parents[1]


def drive(path: Path, use: Callable[[weft.Runtime], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with weft.Runtime(path / "journal.db", **options) as runtime:
            return await use(runtime)

    return asyncio.run(main())


PROGRAM = """
import asyncio, os, signal, sys, time
import weft

def mark(word):
    with open("log", "a") as file:
        file.write(word + "\\n")

def die(word):
    if not os.path.exists("alive"):
        mark(word)
        if sys.platform: os.kill(os.getpid(), signal.SIGKILL)

@weft.step
async def before(): mark("before")

@weft.step
async def again():
    mark("again"); die("died")
    return "made"

@weft.step(effect="at_most_once")
async def once_fail():
    mark("once"); die("died")

@weft.step(effect="at_most_once", on_unknown="done")
async def once_done():
    mark("once"); die("died")
    return "made"

@weft.step(effect="at_most_once", on_unknown="ask")
async def once_ask():
    mark("once"); die("died")
    return "made"

@weft.step
def leaves(): mark("leaves"); os._exit(7)

@weft.step(retries=weft.Retry(attempts=4, delay=0.05, jitter=0))
async def tries():
    mark("try")
    if open("log").read().count("try") == 2: die("died")
    raise OSError("no luck")

@weft.workflow
async def idempotent():
    await before(); return await again()
@weft.workflow
async def fails():
    await before(); return await once_fail()
@weft.workflow
async def done():
    await before(); return await once_done()
@weft.workflow
async def asks():
    await before(); return await once_ask()
@weft.workflow
async def exits():
    await before(); await leaves()
@weft.workflow
async def retries():
    await before(); return await tries()
@weft.workflow
async def slow():
    await before(); await weft.sleep(1.5); await before(); return "slept"

async def main(what):
    async with weft.Runtime("journal.db") as runtime:
        run = await runtime.start(globals()[what])
        await runtime.journal.barrier()
        print(run.id, flush=True)
        print(await run, flush=True)

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


class Killed:
    """A program that died in the middle of `what`, to be resumed here."""

    def __init__(self, folder: Path, what: str, code: int = -signal.SIGKILL) -> None:
        self.folder = folder
        (folder / "killed_program.py").write_text(PROGRAM)
        done = subprocess.run(
            [sys.executable, "killed_program.py", what], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, done.stderr
        self.run = done.stdout.split()[0]
        (folder / "alive").touch()

    def resume(self, then: Callable[[weft.Runtime, weft.Run[Any]], Awaitable[Any]] | None = None, **how: Any) -> Any:
        async def use(runtime: weft.Runtime) -> Any:
            run = await runtime.resume(self.run, **how)
            return await (then(runtime, run) if then else run)

        return drive(self.folder, use)

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the program lies and can be imported from."""
    (tmp_path / "killed_program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("killed_program", None)
    __import__("killed_program")
    return tmp_path


def test_what_was_in_flight_at_the_crash(program: Path) -> None:
    assert Killed(program, "idempotent").resume() == "made"
    assert (program / "log").read_text().split() == ["before", "again", "died", "again"]


def test_at_most_once_is_never_run_again(program: Path) -> None:
    with pytest.raises(UnknownOutcome, match=r"once_fail .* in flight .* weft fork"):
        Killed(program, "fails").resume()
    (program / "alive").unlink()
    assert Killed(program, "done").resume() is None
    (program / "alive").unlink()
    asked = Killed(program, "asks")

    async def answer(runtime: weft.Runtime, run: weft.Run[Any]) -> Any:
        await runtime.send(run.id, "unknown:killed_program.once_ask", "it happened")
        return await run

    assert asked.resume(answer) == "it happened"
    assert asked.log().count("once") == 3


def test_a_step_that_kills_its_process_is_stopped_and_named(program: Path) -> None:
    killed = Killed(program, "exits", 7)
    resume = f"""
        import asyncio, weft, killed_program
        async def main():
            async with weft.Runtime("journal.db") as runtime:
                await (await runtime.resume({killed.run!r}))
        asyncio.run(main())
    """
    for _ in range(4):
        assert subprocess.run([sys.executable, "-c", textwrap.dedent(resume)], cwd=program, timeout=60).returncode == 7
    with pytest.raises(CrashLoop, match=r"5 times .*killed_program\.leaves .*--force"):
        killed.resume()
    assert killed.log().count("before") == 1


def test_retries_go_on_counting_after_a_crash(program: Path) -> None:
    killed = Killed(program, "retries")

    async def end(runtime: weft.Runtime, run: weft.Run[Any]) -> Any:
        with pytest.raises(OSError, match="no luck"):
            await run
        records = await runtime.recovery.records(run.id)
        assert [r.attempt for r in records if isinstance(r, Attempt)] == [1, 2, 3]
        assert [r.attempts for r in records if isinstance(r, Outcome)] == [1, 4]

    killed.resume(end)
    assert killed.log().count("try") == 5  # four attempts, the second of them cut short and made again


def test_a_sleep_survives_and_wakes_on_time(program: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "killed_program.py", "slow"], cwd=program, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    run = child.stdout.readline().strip()
    while not (program / "log").exists():
        time.sleep(0.01)
    began = time.time()
    time.sleep(0.2)
    child.kill()
    child.wait()

    async def use(runtime: weft.Runtime) -> None:
        assert await (await runtime.resume(run)) == "slept"
        assert 1.2 < time.time() - began < 2.5  # 1.5 s in all, not 1.5 s again

    drive(program, use)
    assert (program / "log").read_text().split() == ["before", "before"]


def test_one_of_two_wins_a_run(program: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "killed_program.py", "slow"], cwd=program, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    run = child.stdout.readline().strip()

    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(RunBusy, match="another process"):
            await runtime.resume(run)
        await runtime.cancel(run)  # reaches it there
        assert (await runtime.end_of(run)).state == "cancelled"

    drive(program, use)
    child.wait(10)


# --- in one process ------------------------------------------------------------------------------------------


class Gone(Exception):
    pass


@weft.step
async def raises(kind: str) -> None:
    raise {"gone": Gone, "exit": SystemExit, "stop": StopIteration, "cancel": asyncio.CancelledError}[kind]("farewell")


@weft.workflow
async def raising(kind: str) -> str:
    try:
        await raises(kind)
    except Exception as error:
        return type(error).__name__
    return "nothing"


@weft.workflow
async def letting(kind: str) -> None:
    await raises(kind)


def test_exceptions_of_every_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(raising, "gone") == "Gone"
        for kind in ("exit", "stop", "cancel"):
            assert await runtime.run(raising, kind) == "RuntimeError"
        run = await runtime.start(letting, "gone")
        with pytest.raises(Gone, match="farewell"):
            await run
        monkeypatch.delattr(sys.modules[__name__], "Gone")
        with pytest.raises(RemoteError, match=r"Gone: farewell"):
            await run

    drive(tmp_path, use)


@weft.step
async def gives(what: str) -> Any:
    return {"lock": asyncio.Lock, "nested": lambda: {"a": [1, {2, print}]}}[what]()


@weft.workflow
async def giving(what: str) -> Any:
    return await gives(what)


@weft.workflow
async def returning() -> Any:
    return {"items": [1, 2, open]}


def test_values_that_cannot_be_stored_are_named_by_path(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(NotStorable, match="result"):
            await runtime.run(giving, "lock")
        with pytest.raises(NotStorable, match=r"\['?\"?a\"?'?\]\[1\]"):
            await runtime.run(giving, "nested")
        with pytest.raises(NotStorable, match=r"result.*items.*\[2\]"):
            await runtime.run(returning)

    drive(tmp_path, use)


@weft.step(effect="pure")
async def echo(value: Any) -> Any:
    return value


@weft.workflow
async def large(value: bytes) -> int:
    first = await echo(value)
    second = await echo(first)
    return len(second) if first == second == value else -1


def test_large_payloads_are_stored_once(tmp_path: Path) -> None:
    size = 100_000_000

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(large, os.urandom(1000) * (size // 1000))
        assert await run == size
        assert (tmp_path / "journal.db").stat().st_size < 2.6 * size  # the input, and one payload
        assert await (await runtime.fork(run.id, at=2)) == size

    drive(tmp_path, use)


@weft.workflow
async def many(count: int) -> int:
    total = 0
    for start in range(0, count, 5_000):
        total += sum(await asyncio.gather(*(echo(i) for i in range(start, start + 5_000))))
    return total


def test_a_hundred_thousand_effects(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(many, 100_000)
        assert await run == sum(range(100_000))
        assert len(await runtime.recovery.records(run.id)) == 100_001
        assert await (await runtime.fork(run.id, at=100_000)) == sum(range(100_000))

    drive(tmp_path, use)


@weft.step
async def blocks() -> None:
    time.sleep(1.8)  # noqa: ASYNC251


@weft.workflow
async def blocking() -> None:
    await blocks()


def test_a_step_that_blocks_the_loop_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "weft"):
        drive(tmp_path, lambda r: r.run(blocking))
    assert "blocks" in caplog.text and "blocks the event loop" in caplog.text and "test_faults.py" in caplog.text


@weft.workflow
async def takes_long() -> str:
    await note_start()
    return "done"


@weft.step
async def note_start() -> None:
    await asyncio.sleep(1.6)


def test_a_long_step_is_seen_in_the_journal_while_it_runs(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(takes_long)
        await asyncio.sleep(1.5)
        records = await runtime.recovery.records(run.id)
        assert [type(r) for r in records] == [Started] and records[0].name.endswith("note_start")
        assert await run == "done"

    drive(tmp_path, use)


def test_a_clock_that_jumps_back_never_turns_a_body_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.runtime.guard import exempt

    offsets = iter([0, -3600, 7200, -86400] * 1000)
    real = time.time

    def jumping() -> float:
        with exempt():  # it stands for the runtime's own look at the clock
            return real() + next(offsets)

    async def use(runtime: weft.Runtime) -> None:
        monkeypatch.setattr(runtime, "clock", jumping)
        run = await runtime.start(ticking)
        times = await asyncio.wait_for(run.result(), 20)
        assert times == sorted(times)

    drive(tmp_path, use)


@weft.workflow
async def ticking() -> list[float]:
    times = []
    loop = asyncio.get_running_loop()
    for i in range(20):
        await echo(i)
        times.append(loop.time())
    return times


def test_a_newer_journal_and_an_unknown_workflow(tmp_path: Path) -> None:
    import sqlite3

    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(weft.workflow(name="soon.gone")(sleeps))
        await runtime.journal.barrier()
        return run.id

    id = drive(tmp_path, begin)
    from weft.core.declare import registry

    del registry["soon.gone"]
    with pytest.raises(UnknownWorkflow, match=r"soon\.gone"):
        drive(tmp_path, lambda r: r.resume(id))
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreTooNew, match="99"):
        drive(tmp_path, lambda r: r.resume_all())


async def sleeps() -> None:
    await weft.sleep(60)


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        counted.clear()

        ids: list[str] = []

        async def fill(runtime: weft.Runtime) -> None:
            run = await runtime.start(hungry, 400)
            ids.append(run.id)
            with pytest.raises(StoreFull, match="full"):
                await run
            with pytest.raises(StoreFull):  # told again to whoever goes on
                await runtime.run(hungry, 1)

        drive(disk, fill)
        id = ids[0]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        before = len(counted)

        async def finish(runtime: weft.Runtime) -> None:
            journaled = sum(isinstance(r, Outcome) for r in await runtime.recovery.records(id))
            assert 0 < journaled <= before
            assert await (await runtime.resume(id)) == 400
            assert before - journaled <= 1, "more was run again than was in flight"
            assert len(counted) == 400 + before - journaled

        drive(disk, finish)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


counted: list[int] = []


@weft.step
async def count(value: int) -> bytes:
    counted.append(value)
    return os.urandom(10_000)


@weft.workflow
async def hungry(times: int) -> int:
    for i in range(times):
        await count(i)
    return times


# --- secrets, guards ------------------------------------------------------------------------------------------


@weft.step
async def leaks(token: str) -> dict[str, str]:
    return {"header": f"Bearer {token}", "seen": os.environ["DEMO_API_KEY"]}


@weft.workflow
async def leaky(token: str) -> Any:
    got = await leaks(token)
    try:
        await fails_with(token)
    except ValueError as error:
        return got, str(error)


@weft.step
async def fails_with(token: str) -> None:
    raise ValueError(f"{token} was refused")


def test_secrets_never_reach_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("DEMO_API_KEY", secret)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(leaky, secret)
        result = await run
        assert secret not in repr(result) and "[secret:DEMO_API_KEY]" in repr(result)
        for file in tmp_path.iterdir():  # noqa: ASYNC240
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file

    drive(tmp_path, use)


@weft.workflow
async def reads_clock() -> float:
    return time.time()


@weft.workflow
async def draws() -> float:
    import random

    return random.random()


@weft.workflow
async def opens() -> str:
    return Path(__file__).read_text()  # noqa: ASYNC240


@weft.workflow
async def goes_outside() -> Any:
    return await asyncio.to_thread(print)


@weft.workflow
async def allowed() -> float:
    import random

    logging.getLogger("user").info("bodies may log")
    return random.Random(5).random()


def test_bodies_that_reach_outside_are_told_what_to_use(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        for body, words in (
            (reads_clock, r"weft\.now"),
            (draws, r"weft\.random"),
            (opens, r"@weft\.step"),
            (goes_outside, r"@weft\.step"),
        ):
            with pytest.raises(Nondeterminism, match=words):
                await runtime.run(body)
        assert await runtime.run(allowed) == await runtime.run(allowed)

    drive(tmp_path, use)


def test_exported_errors_are_plain() -> None:
    try:
        raise Gone("x") if "Gone" in globals() else ValueError("x")
    except Exception as error:
        plain = codec.to_plain(error)
    assert json.dumps(plain) and plain["message"] == "x"

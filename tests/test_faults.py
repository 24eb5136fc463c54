"""Bad days: killed processes, a full disk, code that is gone, two that want one run: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import weft
from tests.programs import drive, impatient, until_dead
from tests.servers.postgres import Postgres, Unavailable
from weft.core.errors import CrashLoop, RunBusy, StoreFull, StoreTooNew, UnknownOutcome, UnknownWorkflow
from weft.core.record import Attempt, Outcome
from weft.core.workflow import registry
from weft.store import open_store

ROOT = Path(__file__).parents[1]
PROGRAM = """
import asyncio, os, signal, sys
import weft
from tests.programs import impatient

def mark(word):
    with open("log", "a") as file:
        file.write(word + "\\n")

def die(word):
    if not os.path.exists("alive"):
        mark(word); os.kill(os.getpid(), signal.SIGKILL)

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
def leaves(): mark("leaves"); os.kill(os.getpid(), signal.SIGKILL)

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
    await before(); await weft.sleep(2); await before(); return "slept"

async def main(store, what):
    async with weft.Runtime(store) as runtime:
        if what in globals():
            run = await runtime.start(globals()[what])
            await runtime.journal.barrier()
        else:
            run = await runtime.resume(what)
        print(run.id, flush=True)
        print(await run, flush=True)

if __name__ == "__main__":
    place, what, kind = sys.argv[1:]
    asyncio.run(main(impatient(place) if kind == "dies" else place, what))
"""


def begin(store: str, what: str, kind: str = "lives") -> subprocess.Popen[str]:
    """The program in a process, with a new run of workflow `what` or with the run of that id."""
    return subprocess.Popen(
        [sys.executable, "killed_program.py", store, what, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )  # fmt: skip


class Killed:
    """A run of `what` whose process died, to be resumed here."""

    def __init__(self, store: str, what: str) -> None:
        self.store = store
        self.run = what
        Path("alive").unlink(missing_ok=True)
        self.run = self.die(-signal.SIGKILL)
        Path("alive").touch()

    def die(self, code: int) -> str:
        """Let the program die of the run, and return the run's id once others may have it."""
        child = begin(self.store, self.run, "dies")
        out, err = child.communicate(timeout=60)
        assert child.returncode == code, err
        until_dead(self.store)
        return out.split()[0]

    def resume(self, then: Callable[[weft.Runtime, weft.Run[Any]], Awaitable[Any]] | None = None) -> Any:
        async def use(runtime: weft.Runtime) -> Any:
            run = await runtime.resume(self.run)
            return await (then(runtime, run) if then else run)

        return drive(impatient(self.store), use)


def log() -> list[str]:
    """What the program's steps have noted, outside of the journal."""
    return Path("log").read_text().split()


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder where the program lies and can be imported from."""
    (tmp_path / "killed_program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("killed_program", None)
    __import__("killed_program")


def test_what_was_in_flight_at_the_crash(store: str) -> None:
    assert Killed(store, "idempotent").resume() == "made"
    assert log() == ["before", "again", "died", "again"]


def test_at_most_once_is_never_run_again(store: str) -> None:
    with pytest.raises(UnknownOutcome, match=r"once_fail .* in flight .* weft fork"):
        Killed(store, "fails").resume()
    assert Killed(store, "done").resume() is None

    async def answer(runtime: weft.Runtime, run: weft.Run[Any]) -> Any:
        await runtime.send(run.id, "unknown:killed_program.once_ask", "it happened")
        return await run

    assert Killed(store, "asks").resume(answer) == "it happened"
    assert log().count("once") == 3


def test_a_step_that_kills_its_process_is_stopped_and_named(store: str) -> None:
    killed = Killed(store, "exits")
    for _ in range(4):
        killed.die(-signal.SIGKILL)
    with pytest.raises(CrashLoop, match=r"5 times .*killed_program\.leaves .*--force"):
        killed.resume()
    assert log().count("before") == 1


def test_retries_go_on_counting_after_a_crash(store: str) -> None:
    async def end(runtime: weft.Runtime, run: weft.Run[Any]) -> Any:
        with pytest.raises(OSError, match="no luck"):
            await run
        records = await runtime.recovery.records(run.id)
        assert [r.attempt for r in records if isinstance(r, Attempt)] == [1, 2, 3]
        assert [r.attempts for r in records if isinstance(r, Outcome)] == [1, 4]

    Killed(store, "retries").resume(end)
    assert log().count("try") == 5  # four attempts, the second of them cut short and made again


def test_a_sleep_survives_and_wakes_on_time(store: str) -> None:
    child = begin(store, "slow", "dies")
    assert child.stdout is not None
    run = child.stdout.readline().strip()
    while not Path("log").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    child.kill()
    child.communicate()
    until_dead(store)

    async def use(runtime: weft.Runtime) -> None:
        resumed = runtime.clock()
        assert await (await runtime.resume(run)) == "slept"
        first, slept, _ = [r.at for r in await runtime.recovery.records(run) if isinstance(r, Outcome)]
        assert first + 2 <= slept < resumed + 2  # 2 s in all, not 2 s again

    drive(impatient(store), use)
    assert log() == ["before", "before"]


def test_one_of_two_wins_a_run(store: str) -> None:
    child = begin(store, "slow")
    assert child.stdout is not None
    run = child.stdout.readline().strip()

    async def use(runtime: weft.Runtime) -> None:
        with pytest.raises(RunBusy, match="another process"):
            await runtime.resume(run)
        await runtime.cancel(run)  # reaches it there
        assert (await runtime.end_of(run)).state == "cancelled"

    drive(store, use)
    _, said = child.communicate(timeout=60)
    assert "Cancelled" in said


def test_a_newer_journal_and_an_unknown_workflow(store: str, request: pytest.FixtureRequest) -> None:
    async def leave(runtime: weft.Runtime) -> str:
        run = await runtime.start(weft.workflow(name="soon.gone")(sleeps))
        await runtime.journal.barrier()
        return run.id

    id = drive(store, leave)
    del registry["soon.gone"]
    with pytest.raises(UnknownWorkflow, match=r"soon\.gone"):
        drive(store, lambda r: r.resume(id))
    if "://" in store:
        server = request.getfixturevalue("postgres")
        server.execute("UPDATE weft.schema SET version = 99, oldest = 99", store.rpartition("/")[2])
    else:
        with sqlite3.connect(store) as connection:
            connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreTooNew, match="99"):
        drive(store, lambda r: r.resume_all())


async def sleeps() -> None:
    await weft.sleep(60)


# --- a full disk ----------------------------------------------------------------------------------------------------


class Disk(NamedTuple):
    """A small one, with a store on it."""

    store: str
    fill: Callable[[], object]
    free: Callable[[], object]


@pytest.fixture(params=["sqlite", "postgres"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "postgres":
        try:
            with Postgres() as server:
                url = server.create(tablespace=server.small_tablespace(32))
                yield Disk(url, server.fill, server.free)
        except Unavailable as error:
            pytest.skip(str(error))
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    ballast = folder / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    yield Disk(str(folder / "journal.db"), fill, ballast.unlink)
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(disk: Disk) -> None:
    counted.clear()
    full.clear()
    full.append(disk.fill)
    ids: list[str] = []

    async def begin(runtime: weft.Runtime) -> None:
        run = await runtime.start(hungry, 400)
        ids.append(run.id)
        with pytest.raises(StoreFull, match="full"):
            await run
        with pytest.raises(StoreFull):  # told again to whoever goes on
            await runtime.run(hungry, 1)

    drive(impatient(disk.store), begin)
    disk.free()
    until_dead(disk.store)
    before = len(counted)
    assert before < 400

    async def finish(runtime: weft.Runtime) -> None:
        journaled = sum(isinstance(r, Outcome) for r in await runtime.recovery.records(ids[0]))
        assert 0 < journaled <= before
        assert before - journaled <= 1, "more was run again than was in flight"
        assert await (await runtime.resume(ids[0])) == 400
        assert len(counted) == 400 + before - journaled

    drive(impatient(disk.store), finish)


counted: list[int] = []
full: list[Callable[[], object]] = []
"""Fills the disk, once."""


@weft.step
async def count(value: int) -> bytes:
    counted.append(value)
    if value == 100 and full:
        full.pop()()
    return os.urandom(10_000)


@weft.workflow
async def hungry(times: int) -> int:
    for i in range(times):
        await count(i)
    return times


# --- short visits ---------------------------------------------------------------------------------------------------


def test_a_store_closed_while_it_still_connects_leaves_no_word(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def visits() -> None:
        for n in range(40):
            store = open_store(postgres_url)
            await store.register(f"visitor {n}", {})
            await asyncio.sleep(n / 10_000)  # the listening connection is being made
            await store.close()
            del store
            gc.collect()

    gc.freeze()  # all that other tests have made is not looked through forty times
    try:
        asyncio.run(visits())
    finally:
        gc.unfreeze()
    assert caplog.messages == []

"""Workers that are operating-system processes, what is done to them and to their server, and what must be true then."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import weft
from tests.chaos import checks, programs
from tests.servers.postgres import Postgres
from tests.servers.relay import Relay
from weft.store import open_store
from weft.store.base import FINISHED
from weft.store.postgres import PostgresOptions

ROOT = Path(__file__).parents[2]
Figures = dict[str, Any]


class Worker:
    """`weft worker` as a process of its own. `died`: when it had, by the monotonic clock."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.died: float | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by this signal, and wait until it has ended."""
        self.process.send_signal(number)
        self.process.wait(60)
        self.died = time.monotonic()


class Fleet:
    """The workers of one database, and what was submitted to them."""

    def __init__(self, server: Postgres, url: str, folder: Path, heartbeat: float, submitter: weft.Runtime) -> None:
        self.server = server
        self.url = url
        self.database = url.rpartition("/")[2]
        self.folder = folder
        self.heartbeat = heartbeat
        self.submitter = submitter
        self.log = folder / "log"
        self.workers: list[Worker] = []
        self.runs: dict[str, tuple[str, weft.Run[Any]]] = {}

    def launch(self, *, skew: float = 0.0, url: str = "") -> Worker:
        """Start a worker. `skew`: seconds that its clock is ahead."""
        log = self.folder / f"worker{len(self.workers)}"
        path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
        given = {"PYTHONPATH": path, "WEFT_CHAOS_LOG": str(self.log), "WEFT_CHAOS_SKEW": str(skew)}
        options = {
            "store": url or self.url, "queues": ",".join(programs.QUEUES), "slots": "40", "grace": "5",
            "heartbeat": str(self.heartbeat),
        }  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", "worker", "tests.chaos.programs"]
                + [word for name, value in options.items() for word in (f"--{name}", value)],
                cwd=ROOT, env={**os.environ, **given}, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.died is None]

    async def submit(self, count: int) -> None:
        for number in range(len(self.runs), len(self.runs) + count):
            name = f"p{number}p"
            run = await self.submitter.submit(programs.options(number), name)
            self.runs[run.id] = name, run

    def done(self) -> int:
        """How many of those submitted have ended."""
        return len(self.runs) - int(
            self.server.execute(_UNFINISHED.format("count(*)") + " AND parent IS NULL", self.database)
        )

    def taken_over(self) -> int:
        """How many of the workers that died were known, and were found dead."""
        dead = {worker.pid for worker in self.workers if worker.died is not None}
        lives = checks.lives(self.server, self.database)  # a worker that stood still for long has had several
        return len(dead & {life.pid for life in lives} - {life.pid for life in lives if life.gone == float("inf")})

    def asleep(self, count: int) -> bool:
        """Whether so many are parked until a time."""
        query = _UNFINISHED.format("count(*)") + " AND state = 'waiting' AND wake_at IS NOT NULL"
        return self.server.execute(query, self.database) == str(count)

    async def owner(self, worker: Worker) -> str:
        """The name that this worker has now, once it has one."""
        query = f"SELECT owner FROM weft.owners WHERE owner LIKE '%-{worker.pid}'"
        while not (found := self.server.execute(query, self.database)):
            assert worker.process.poll() is None, worker.log.read_text()
            await asyncio.sleep(0.05)
        return found

    async def finish(self, seconds: float) -> None:
        """Wait for all results. AssertionError, with who waits for what, if that takes longer."""
        waits = [asyncio.ensure_future(run.result()) for _, run in self.runs.values()]
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*waits)
                # What was detached may go on a little longer than who detached it.
                while self.server.execute(_UNFINISHED.format("count(*)"), self.database) != "0":
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"after {seconds:g} s there is unfinished work\n{self.story()}") from None
        except weft.WeftError as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{self.story()}") from error
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def story(self) -> str:
        """What is unfinished, and the last words of the workers."""
        columns = """id, workflow, state, queue, owner, EXISTS (SELECT FROM weft.owners o WHERE o.owner = p.owner) AS
            living, strikes, length, wake_at, parent,
            (SELECT string_agg(key, ' ') FROM weft.waits WHERE process = id)"""
        lines = [self.server.execute(_UNFINISHED.format(columns) + " LIMIT 40", self.database)]
        lines.append(self.server.execute("SELECT * FROM weft.tickets LIMIT 20", self.database))
        for worker in self.workers[-6:]:
            lines.append(f"--- {worker.log.name}, pid {worker.pid}, {'dead' if worker.died else 'alive'}")
            lines += worker.log.read_text(errors="replace").splitlines()[-12:]
        return "\n".join(lines)

    async def check(self) -> Figures:
        """All that must be true when everything has ended."""
        store = open_store(self.url)
        try:
            rows = await store.rows(limit=1_000_000)
            assert all(row.state in FINISHED for row in rows)
            names = {id: name for id, (name, _) in self.runs.items()}
            checks.check_results(rows, await undisturbed(), names)
            written = checks.check_fencing(self.server, self.database)
            outcomes = await checks.journaled(store, rows, written)
            lives = checks.lives(self.server, self.database)
            died = {worker.pid: worker.died for worker in self.workers if worker.died is not None}
            ran = checks.executions(self.log, lives, died)
            figures: Figures = {
                "processes": len(rows),
                "gone": sum(life.gone < float("inf") for life in lives),
            }
            figures |= checks.check_steps(ran, outcomes)
            figures |= checks.check_limits(ran, outcomes)
            checks.check_rates(self.server, self.database, ran)
            checks.check_rest(self.server, self.database)
            return figures
        finally:
            await store.close()

    def close(self) -> None:
        for worker in self.living:
            worker.kill()


_UNFINISHED = "SELECT {} FROM weft.processes p WHERE state IN ('running', 'waiting', 'queued')"
_expected: dict[str, Any] = {}


async def undisturbed() -> dict[str, Any]:
    """By workflow: what it returns for the name NAME, alone and in peace."""
    if not _expected:
        with tempfile.TemporaryDirectory() as place:
            os.environ["WEFT_CHAOS_LOG"] = f"{place}/log"
            os.environ.setdefault("WEFT_POLICY", "all")  # the steps write to that file
            try:
                async with weft.Runtime(f"{place}/journal.db") as runtime:
                    found = [await runtime.start(program, "NAME") for program in programs.PROGRAMS]
                    for program, run in zip(programs.PROGRAMS, found, strict=True):
                        _expected[program.name] = (await run)["value"]
            finally:
                del os.environ["WEFT_CHAOS_LOG"]
    return _expected


@asynccontextmanager
async def fleet(
    server: Postgres, *, workers: int = 3, heartbeat: float = 0.5, tablespace: str | None = None,
    relay: Relay | None = None,
) -> AsyncIterator[Fleet]:  # fmt: skip
    """A fresh database with its submitter and `workers`; all gone at the end."""
    await undisturbed()
    url = server.create(tablespace=tablespace)
    with tempfile.TemporaryDirectory(prefix="weft-chaos-") as place:
        async with weft.Runtime(open_store(url, options=PostgresOptions(heartbeat=2.0))) as submitter:
            found = Fleet(server, url, Path(place), heartbeat, submitter)
            checks.note(server, found.database)
            try:
                for _ in range(workers):
                    found.launch(url=relay.url(url) if relay is not None else "")
                yield found
            finally:
                found.close()
    server.drop(found.database)


# --- scenes -----------------------------------------------------------------------------------------------------------


BURST = 5
"""Kills between two submissions."""


async def killed(
    server: Postgres, *, processes: int, kills: int, workers: int = 3, seed: int = 1, pace: float = 0.4,
    report: Callable[[str], None] = lambda text: None,
) -> Figures:  # fmt: skip
    """Random workers are killed at random moments, about one in `pace` seconds, and others started in their place."""
    draw = random.Random(seed)
    async with fleet(server, workers=workers) as it:
        for kill in range(kills):
            if kill % BURST == 0:
                await it.submit(processes * min(kill + BURST, kills) // kills - len(it.runs))
            victim = draw.choice(it.living)
            await it.owner(victim)  # one that has not begun yet would be no loss
            await asyncio.sleep(min(draw.expovariate(1 / pace), 4 * pace))
            victim.kill()
            it.launch()
            report(f"{kill + 1} kills, {len(it.runs)} submitted, {it.done()} done")
        await it.finish(200 + processes / 10)
        await until(lambda: it.taken_over() == kills)
        return {"kills": kills, **await it.check()}


async def restarted(server: Postgres, *, processes: int, restarts: int = 2, down: float = 0.5) -> Figures:
    """The server is shut down in the middle of it all, in every way, and comes back after `down` seconds."""
    async with fleet(server) as it:
        for number in range(restarts):
            await it.submit(processes * (number + 1) // restarts - len(it.runs))
            await asyncio.sleep(1.0)
            await asyncio.to_thread(server.stop, ("fast", "immediate")[number % 2])
            await asyncio.sleep(down)
            await asyncio.to_thread(server.start)
        await it.finish(200 + processes / 10)
        return {"restarts": restarts, **await it.check()}


async def cut(server: Postgres, *, processes: int, faults: int = 8, seed: int = 1) -> Figures:
    """The workers' wire is cut, slow, silent, half closed, and breaks in the middle of requests."""
    draw = random.Random(seed)
    with Relay("127.0.0.1", server.port) as relay:
        async with fleet(server, relay=relay) as it:
            for number in range(faults):
                await it.submit(processes * (number + 1) // faults - len(it.runs))
                await asyncio.sleep(draw.uniform(0.1, 0.8))
                fault: Callable[[], None] = [
                    relay.cut, relay.freeze, relay.half_close, relay.refuse,
                    lambda: relay.drop_after(draw.randrange(1, 20_000)),
                    lambda: relay.delay(draw.uniform(0.01, 0.2)),
                    lambda: (relay.half_close(), relay.cut())[0],
                ][number % 7]  # fmt: skip
                await asyncio.to_thread(fault)
                await asyncio.sleep(draw.uniform(0.1, 1.5))
                if fault == relay.half_close:
                    await asyncio.to_thread(relay.cut)  # what was asked has been done; nobody hears of it
                await asyncio.to_thread(relay.heal)
            await it.finish(200 + processes / 10)
            return {"faults": faults, "connections": relay.opened, **await it.check()}


async def filled(server: Postgres, *, processes: int, seconds: float = 3.0) -> Figures:
    """The server's disk is full for a while. Raises `Unavailable` where none can be made."""
    async with fleet(server, tablespace=server.small_tablespace(96)) as it:
        await it.submit(processes // 2)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.fill)
        more = asyncio.ensure_future(it.submit(processes - processes // 2))
        await asyncio.sleep(seconds)
        assert it.done() < len(it.runs), "the disk was never full"
        await asyncio.to_thread(server.free)
        await more
        await it.finish(200 + processes / 10)
        return await it.check()


async def frozen(server: Postgres, *, processes: int) -> Figures:
    """A worker stands still for longer than its lease, in the middle of its work, and wakes up when others have done
    that: it writes nothing more, and comes back under another name."""
    async with fleet(server) as it:
        asleep = it.workers[0]
        name = await it.owner(asleep)
        await it.submit(processes)
        query = _UNFINISHED.format("id") + f" AND owner = '{name}' AND state = 'running'"
        while not server.execute(query, it.database):
            await asyncio.sleep(0.02)
        asleep.process.send_signal(signal.SIGSTOP)
        held = server.execute(_UNFINISHED.format("id") + f" AND owner = '{name}'", it.database).splitlines()
        assert held
        await until(
            lambda: all(life.owner != name or life.gone < float("inf") for life in checks.lives(server, it.database))
        )
        among = "', '".join(held)
        await until(lambda: not server.execute(_UNFINISHED.format("id") + f" AND id IN ('{among}')", it.database))
        asleep.process.send_signal(signal.SIGCONT)
        await it.submit(8)
        await it.finish(200 + processes / 10)
        await until(
            lambda: any(life.pid == asleep.pid and life.owner != name for life in checks.lives(server, it.database))
        )
        assert "silent for over" in asleep.log.read_text()
        return {"held": len(held), **await it.check()}


async def skewed(server: Postgres, *, processes: int, seconds: float = 3.0) -> Figures:
    """One worker's clock is an hour ahead, the other's an hour behind, and each gets the other's sleepers."""
    async with fleet(server, workers=0) as it:
        taken = {}
        for ahead in (3600, -3600):
            giver = it.launch(skew=ahead)
            began = time.monotonic()
            names = [f"sleeper{ahead} {i}" for i in range(processes)]
            runs = [await it.submitter.submit(programs.sleeper, name, seconds) for name in names]
            await until(partial(it.asleep, processes))
            taker = it.launch(skew=-ahead)
            await it.owner(taker)
            giver.kill(signal.SIGKILL if ahead > 0 else signal.SIGTERM)
            async with asyncio.timeout(seconds + 120):
                for name, run in zip(names, runs, strict=True):
                    assert (await run)["value"] == [f"{name} awake", f"{name} end", "True"]
            taken[ahead] = time.monotonic() - began
            assert seconds + 0.1 < taken[ahead], f"they slept {taken[ahead]:.1f} s instead of {seconds:g}"
            await it.submit(processes)
            await it.finish(200)
            taker.kill()
        return {"seconds": taken, **await it.check()}


async def until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until this is true; AssertionError if that takes longer."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.1)

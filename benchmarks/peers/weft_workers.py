"""Weft's workers: `weft worker` processes that share a store, or have one each; and what happens when one is killed.

`coordination`: `count` processes of 5 steps, each step 1 ms of CPU, are submitted to waiting workers. Variants:
`shared-3` (three workers on one store) and `apart-3` (three workers, each with a database of its own on the same server
and its share of the processes: the same work on the same cores with nobody to agree with). Workers have 2 cores.

`takeover`: three workers execute processes that tick; `count` times the one that has most is killed with SIGKILL, and
the figure is the time until the last of its processes has started its next step elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil

import weft
from benchmarks.peers import STEPS, STRICT, Clock, Order, Result, check, main

if TYPE_CHECKING:
    import asyncpg

QUEUE = weft.Queue("bench")
WORK = 0.001
"""Seconds of CPU that a step takes: time, not instructions, since the speed of a shared machine's cores varies."""
CORES = 2
PATIENCE = 60.0
"""Seconds that submitted work may take."""

HEARTBEAT = 1.0
"""Seconds; of the workers in the job `takeover`."""
TICKING = 30
"""Processes in the job `takeover`."""
TICK = 0.05
"""Seconds that a step of theirs takes."""
LATEST = 10.0
"""Seconds after which a take-over counts as failed."""


@weft.step
async def busy(value: int) -> int:
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        pass
    return value + 1


@weft.workflow(name="bench.working")  # this file is `__main__` here, and another module to the workers
async def working(steps: int) -> int:
    total = 0
    for _ in range(steps):
        total = await busy(total)
    return total


@weft.step
async def tick(process: int) -> None:
    """Says who starts it, and when."""
    with Path(os.environ["BENCH_TICKS"]).open("a") as file:  # noqa: ASYNC230
        file.write(f"{process} {os.getpid()} {time.monotonic()}\n")
    await asyncio.sleep(TICK)


@weft.workflow(name="bench.ticking")
async def ticking(process: int) -> None:
    while True:
        await tick(process)


# --- workers -----------------------------------------------------------------------------------------------------


def start(url: str, slots: int, heartbeat: float, log: Path) -> subprocess.Popen[bytes]:
    """The command that users start."""
    command = [sys.executable, "-m", "weft", "worker", __file__, "--store", url, "--queues", QUEUE.name]
    command += ["--slots", str(slots), "--heartbeat", str(heartbeat)]
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


async def registered(connection: asyncpg.Connection, workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Return when all of them serve this database."""
    pids = [worker.pid for worker in workers]
    for _ in range(600):
        with suppress(Exception):  # the tables come with the first worker
            query = "SELECT count(*) FROM weft.owners WHERE pid = ANY($1::int[])"
            if await connection.fetchval(query, pids) == len(pids):
                return
        if any(worker.poll() is not None for worker in workers):
            raise RuntimeError("a worker ended at once; see its log")
        await asyncio.sleep(0.05)
    raise RuntimeError("the workers did not register within 30 s")


@asynccontextmanager
async def databases(url: str, count: int) -> AsyncIterator[list[asyncpg.Connection]]:
    """Connections to `count` databases: that of `url` first, and others beside it."""
    import asyncpg

    first = await asyncpg.connect(url)
    name = url.rpartition("/")[2]
    others = []
    for number in range(1, count):
        await first.execute(f"CREATE DATABASE {name}_{number}")
        others.append(await asyncpg.connect(f"{url}_{number}"))
    try:
        yield [first, *others]
    finally:
        for number, other in enumerate(others, 1):
            await other.close()
            await first.execute(f"DROP DATABASE {name}_{number} WITH (FORCE)")
        await first.close()


# --- coordination ---------------------------------------------------------------------------------------------


async def submit(runtimes: Sequence[weft.Runtime], count: int) -> None:
    """Give each store its share of `count` processes."""
    program = working.options(queue=QUEUE)
    turns = (runtimes[number % len(runtimes)] for number in range(count))
    await asyncio.gather(*(runtime.submit(program, STEPS) for runtime in turns))


async def finished(connections: Sequence[asyncpg.Connection], count: int) -> None:
    """Return when `count` processes are done."""
    done, deadline = 0, time.monotonic() + PATIENCE
    while done < count:
        await asyncio.sleep(0.02)
        query = "SELECT count(*) FROM weft.processes WHERE state = 'done'"
        done = sum([await connection.fetchval(query) for connection in connections])
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {done} of {count} processes were done after {PATIENCE:.0f} s")


def spent(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of these, and of those of their children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


async def coordination(order: Order) -> Result:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    kind, number = order.variant.split("-")
    stores = int(number) if kind == "apart" else 1
    async with databases(order.url, stores) as connections, AsyncExitStack() as stack:
        urls = [order.url, *(f"{order.url}_{n}" for n in range(1, stores))]
        crew = [start(urls[n % stores], 100, 5.0, order.dir / "log.txt") for n in range(int(number))]
        for n, connection in enumerate(connections):
            await registered(connection, crew[n::stores])
        runtimes = [await stack.enter_async_context(weft.Runtime(url)) for url in urls]
        warm = 10 * len(crew)
        await submit(runtimes, warm)
        await finished(connections, warm)
        workers = [psutil.Process(worker.pid) for worker in crew]
        postmaster = psutil.Process(await connections[0].fetchval("SELECT pg_backend_pid()")).parent()
        assert postmaster is not None
        server = [postmaster, *postmaster.children()]
        before, server_before = spent(workers), spent(server)
        with Clock(order.count) as clock:
            await submit(runtimes, order.count)
            await finished(connections, warm + order.count)
        server = [postmaster, *postmaster.children()]
        cpu, server_cpu = spent(workers) - before, spent(server) - server_before
        query = "SELECT count(*) FROM weft.processes WHERE owner IS NOT NULL GROUP BY owner ORDER BY 1"
        shares = [str(row[0]) for connection in connections for row in await connection.fetch(query)]
        for worker in crew:
            worker.kill()
            worker.wait()
    each = 1e6 / order.count
    result = clock.result(STRICT)
    del result["peak_mb"]  # of this process, which only submits
    measured = {"cpu_us": cpu * each, "server_us": server_cpu * each, "note": f"shares {', '.join(shares)}"}
    return result | measured


# --- take-over -------------------------------------------------------------------------------------------------


class Ticks:
    """What the processes have told."""

    def __init__(self, path: Path) -> None:
        path.touch()
        os.environ["BENCH_TICKS"] = str(path)
        self.file = path.open()
        self.at: dict[int, int] = {}
        """Process -> the worker that started its latest step."""
        self.moved: dict[int, float] = {}
        """Process -> when another worker than before first started a step of it, since this was cleared."""

    def read(self) -> None:
        while line := self.file.readline():
            if not line.endswith("\n"):  # its rest is still to be written
                self.file.seek(self.file.tell() - len(line))
                return
            process, pid, at = line.split()
            known = self.at.get(int(process))
            self.at[int(process)] = int(pid)
            if known not in (None, int(pid)):
                self.moved.setdefault(int(process), float(at))


async def takeover(order: Order) -> Result:
    ticks = Ticks(order.dir / "ticks")
    log = order.dir / "log.txt"
    draw = random.Random(1).random
    async with databases(order.url, 1) as (connection,):
        crew = [start(order.url, TICKING, HEARTBEAT, log) for _ in range(3)]
        await registered(connection, crew)
        policy = weft.Policy(allow=(f"write:{order.dir}",))  # the steps write down when they began
        async with weft.Runtime(order.url, policy=policy) as runtime:
            program = ticking.options(queue=QUEUE)
            await asyncio.gather(*(runtime.submit(program, number) for number in range(TICKING)))
        deadline = time.monotonic() + PATIENCE
        while len(ticks.at) < TICKING and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            ticks.read()
        check(len(ticks.at), TICKING)
        times = []
        for _ in range(order.count):
            await asyncio.sleep(HEARTBEAT * (0.5 + draw()))
            ticks.read()
            busiest, _ = Counter(ticks.at.values()).most_common(1)[0]
            victim = next(worker for worker in crew if worker.pid == busiest)
            ticks.moved.clear()
            killed = time.monotonic()
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            ticks.read()
            orphans = [process for process, pid in ticks.at.items() if pid == busiest]
            while any(ticks.at[process] == busiest for process in orphans):
                await asyncio.sleep(0.02)
                ticks.read()
                if time.monotonic() > killed + LATEST:
                    raise RuntimeError(f"a dead worker's processes were not taken over within {LATEST:.0f} s")
            times += [max(ticks.moved[process] for process in orphans) - killed]
            crew.remove(victim)
            crew.append(start(order.url, TICKING, HEARTBEAT, log))
            await registered(connection, crew)
        for worker in crew:
            worker.kill()
            worker.wait()
    ranked = sorted(times)
    p95 = ranked[max(0, -(-len(ranked) * 95 // 100) - 1)]
    return {
        "ms": p95 * 1000,
        "median_ms": median(ranked) * 1000,
        "most_ms": ranked[-1] * 1000,
        "note": f"{len(ranked)} kills, heartbeat {HEARTBEAT:g} s",
    }


if __name__ == "__main__":
    main(
        {
            "coordination": lambda order: asyncio.run(coordination(order)),
            "takeover": lambda order: asyncio.run(takeover(order)),
        },
        "",
    )

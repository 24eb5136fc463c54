"""What only Weft is asked for: recovery after a kill, replay, sleepers, start-up and the cost of a step."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import psutil

import weft
from benchmarks.peers import WARM_UP, Order, Result, check, main
from benchmarks.peers.weft_ import pure, sequential_pure, step

WAKES_PER_SECOND = 1000
RUN = "the-run"


# --- recovery and replay: a run is killed with SIGKILL by its own step, and continued by a second process ----------


@weft.step
async def deadly(at: str) -> float:
    """Kills the process the first time; the second time says when it started."""
    if os.environ.get("BENCH_KILL") == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return time.perf_counter()


@weft.workflow
async def interrupted(count: int) -> float:
    """`count` steps; the middle one kills the process."""
    for value in range(count // 2):
        await step(value)
    started = await deadly("recovery")
    for value in range(count - count // 2):
        await step(value)
    return started


@weft.workflow
async def long_history(count: int) -> float:
    """`count` effects, then the one that kills the process."""
    for value in range(count):
        await pure(value)
    return await deadly("replay")


def killed(job: str, order: Order) -> None:
    """Run the job in a process of its own, which dies."""
    command = [sys.executable, "-m", "benchmarks.peers.weft_alone", f"{job}-victim"]
    command += ["--count", str(order.count), "--dir", str(order.dir)]
    ended = subprocess.run(command, env={**os.environ, "BENCH_KILL": job}, capture_output=True, text=True)
    if ended.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the victim ended with {ended.returncode}: {ended.stdout[-200:]}{ended.stderr[-200:]}")


def victim(order: Order, program: weft.Workflow[[int], float]) -> Result:
    async def run() -> None:
        async with weft.Runtime(order.dir / "journal.db") as runtime:
            await runtime.run(program.options(id=RUN), order.count)

    asyncio.run(run())
    return {}


async def resumed(order: Order) -> float:
    """Seconds from "the process is up" (imported, nothing opened) to the start of the step that was in flight."""
    up = time.perf_counter()
    async with weft.Runtime(order.dir / "journal.db") as runtime:
        started = await (await runtime.resume(RUN))
    return float(started) - up


def recovery(order: Order) -> Result:
    killed("recovery", order)
    return {"ms": asyncio.run(resumed(order)) * 1000}


def replay(order: Order) -> Result:
    killed("replay", order)
    return {"rate": order.count / asyncio.run(resumed(order))}


# --- sleepers ---------------------------------------------------------------------------------------------------

late: list[float] = []
"""Seconds between the time a sleeper wanted to wake and its next step's start."""


@weft.step(effect="pure")
async def awake(due: float) -> None:
    late.append(time.time() - due)


@weft.workflow
async def sleeper(due: float) -> None:
    await weft.sleep(datetime.fromtimestamp(due, UTC) - weft.now())
    await awake(due)


async def sleeping(order: Order) -> Result:
    memory = psutil.Process().memory_info
    async with weft.Runtime(order.dir / "journal.db") as runtime:
        for _ in range(WARM_UP):
            await runtime.run(sleeper, time.time())
        late.clear()
        gc.collect()
        before = memory().rss
        began = time.time()
        first = began + 5 + order.count / 5000  # after all have been started and parked
        for index in range(order.count):
            await runtime.start(sleeper, first + index / WAKES_PER_SECOND)
        started = time.time() - began
        if time.time() > first - 4:
            raise RuntimeError(f"starting {order.count} sleepers took {started:.0f} s, too long to park them all")
        await asyncio.sleep(first - 0.5 - time.time())
        gc.collect()
        asleep = memory().rss
        while len(late) < order.count:
            await asyncio.sleep(0.2)
            if time.time() > first + order.count / WAKES_PER_SECOND + 30:
                raise RuntimeError(f"only {len(late)} of {order.count} sleepers woke")
    ranked = sorted(late)
    return {
        "bytes": (asleep - before) / order.count,
        "late_ms": ranked[int(len(ranked) * 0.99)] * 1000,
        "worst_ms": ranked[-1] * 1000,
        "early_ms": max(0.0, -ranked[0] * 1000),
        "started_per_s": order.count / started,
    }


# --- start-up and overhead, in CPU time ---------------------------------------------------------------------------


def startup(order: Order) -> Result:
    """CPU of the whole process, Python's own start included; the least of `count` tries, files being cached."""
    code = {
        "import": "import weft",
        "help": "import sys; sys.argv = ['weft', '--help']; from weft.cli import main; main()",
    }
    tries = []
    for _ in range(order.count):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run([sys.executable, "-c", code[order.variant]], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        check((ended.returncode, ended.stderr[-300:]), (0, ""))
        tries.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"cpu_ms": min(tries) * 1000}


async def overhead(order: Order) -> Result:
    """CPU of a pure step over a plain await, that of the thread that writes the journal included."""

    async def plain(value: int) -> int:
        return value + 1

    async with weft.Runtime(order.dir / "journal.db") as runtime:
        await runtime.run(sequential_pure, WARM_UP)
        start = time.process_time()
        total = 0
        for _ in range(order.count):
            total = await plain(total)
        bare = time.process_time() - start
        result = await runtime.run(sequential_pure, order.count)
        durable = time.process_time() - start - bare
        check(result, total)
    return {"cpu_us": (durable - bare) / order.count * 1e6}


if __name__ == "__main__":
    main(
        {
            "recovery": recovery,
            "recovery-victim": lambda order: victim(order, interrupted),
            "replay": replay,
            "replay-victim": lambda order: victim(order, long_history),
            "sleeping": lambda order: asyncio.run(sleeping(order)),
            "startup": startup,
            "overhead": lambda order: asyncio.run(overhead(order)),
        },
        "",
    )

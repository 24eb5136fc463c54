"""What each sandbox costs to start: `measure_walls(report)`.

A plain spawn of `/bin/true` is what everything is compared with; the walls run the same, and their own interpreters the
smallest program. A warm pool hands out a session that waits; the figure is the time until one is had.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from benchmarks.report import Measure, Report
from weft.runtime.sandbox import Job, Pool, Wall, run, walls
from weft.runtime.sandbox.monty import Monty

_MODULE = '(module (func (export "_start")))'
_UNIT = "ms"


def measure_walls(report: Report, rounds: int = 30) -> None:
    """Milliseconds from the start of a call to its end, `rounds` of each; and until a pool has handed a session out."""
    asyncio.run(_measure(report, rounds))


async def _measure(report: Report, rounds: int) -> None:
    report.add("start", Measure(name="plain spawn", unit=_UNIT, runs=await _times(rounds, _spawn), note="/bin/true"))
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "empty.wat"
        module.write_text(_MODULE)
        for wall in walls():
            found = wall.available()
            if not found.ok:
                report.add("start", Measure(name=wall.name, unit=_UNIT, note=found.found))
            elif wall.name == "monty":
                await _embedded(report, rounds)
            elif wall.name == "wasm":
                await _one(report, wall, rounds, Job(argv=[str(module)]), "an empty module")
            else:
                await _one(report, wall, rounds, Job(argv=["/bin/true"]), "/bin/true")
                await _one(report, wall, rounds, Job(python="pass"), "Python")
                await _pool(report, wall, rounds)


async def _one(report: Report, wall: Wall, rounds: int, job: Job, what: str) -> None:
    async def alone() -> None:
        done = await (await wall.start(job)).wait()
        assert done.status == 0, done.stderr.text

    async def grouped() -> None:
        await run(wall, job)

    name = f"{wall.name}, {what}"
    report.add("start", Measure(name=name, unit=_UNIT, runs=await _times(rounds, alone), note=wall.available().found))
    report.add("start", Measure(name=f"{name}, in a group", unit=_UNIT, runs=await _times(rounds, grouped)))


async def _embedded(report: Report, rounds: int) -> None:
    wall = Monty()
    pool = await wall.pool()
    try:

        async def bare() -> None:
            async with pool.checkout() as session:
                await session.feed_run("1")

        async def whole() -> None:
            await run(wall, Job(python="1"))

        report.add("start", Measure(name="monty, a session", unit=_UNIT, runs=await _times(rounds, bare)))
        report.add("start", Measure(name="monty, a job", unit=_UNIT, runs=await _times(rounds, whole)))
    finally:
        await wall.close()


async def _pool(report: Report, wall: Wall, rounds: int) -> None:
    taken, used = [], []
    async with Pool(wall, Job(python=""), size=2) as pool:
        for _ in range(rounds):
            await _full(pool)
            began = perf_counter()
            async with pool.session() as session:
                taken.append((perf_counter() - began) * 1e3)
                began = perf_counter()
                await session.run("pass")
                used.append((perf_counter() - began) * 1e3)
    figure = Measure(name=f"{wall.name}, handed out by a pool", unit=_UNIT, runs=taken)
    report.add("warm pool", figure)
    report.add("warm pool", Measure(name=f"{wall.name}, its first command", unit=_UNIT, runs=used))
    report.bar("warm pool", f"{wall.name}: at most 5 ms to hand out", figure.value, most=5, unit=_UNIT)


async def _full(pool: Pool) -> None:
    while pool.ready < 2:  # noqa: ASYNC110 (a pool tells nobody that it is full)
        await asyncio.sleep(0.005)


async def _spawn() -> None:
    subprocess.run(["/bin/true"], check=True)  # noqa: ASYNC221 (it is what is measured)


async def _times(rounds: int, action: Callable[[], Awaitable[None]]) -> list[float]:
    found = []
    for _ in range(rounds + 2):
        began = perf_counter()
        await action()
        found.append((perf_counter() - began) * 1e3)
    return found[2:]

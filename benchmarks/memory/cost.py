"""What L1 costs where nobody is in the way: operations a second over those at L0, in turns."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import weft
from benchmarks.report import Measure, Report
from benchmarks.server import Postgres
from benchmarks.trials import place
from weft.core.memory import Level

AGENTS, OPERATIONS = 8, 12


@weft.workflow(name="cost.agent")
async def agent(level: Level, number: int) -> None:
    """Reads two cells that only it uses, and writes one."""
    memory: weft.Memory[Any] = weft.Memory("cost", level=level)
    for _ in range(OPERATIONS):
        async with memory.operation() as op:
            done = await op.read(f"{number}/done", 0)
            await op.read(f"{number}/plan", "")
            op.write(f"{number}/done", done + 1)


def measure(report: Report, rounds: int) -> None:
    with TemporaryDirectory(prefix="bench-", dir=place()) as folder:
        _tell(report, "SQLite", asyncio.run(_rounds(str(Path(folder, "journal.db")), rounds)))
    try:
        with Postgres(place()) as server, server.database() as url:
            _tell(report, "PostgreSQL", asyncio.run(_rounds(url, rounds)))
    except FileNotFoundError as missing:
        report.bar("cost of L1 on PostgreSQL", "L0's rate over L1's", None, most=1.1, why=str(missing))


async def _rounds(url: str, rounds: int) -> dict[str, list[float]]:
    """Operations a second, durable ones, by level."""
    found: dict[str, list[float]] = {"L0": [], "L1": []}
    async with weft.Runtime(url) as runtime:
        for number in range(-1, rounds):
            for level in ("L0", "L1") if number % 2 else ("L1", "L0"):
                began = time.perf_counter()
                await asyncio.gather(*(runtime.run(agent, level, one) for one in range(AGENTS)))
                if number >= 0:
                    found[level].append(AGENTS * OPERATIONS / (time.perf_counter() - began))
    return found


def _tell(report: Report, store: str, found: dict[str, list[float]]) -> None:
    figure = f"cost of L1 on {store}"
    for level, runs in found.items():
        report.add(figure, Measure(name=level, unit="operations/s", runs=runs, note="durable"))
    ratio = median(found["L0"]) / median(found["L1"])
    report.bar(figure, "L0's rate over L1's", ratio, most=1.1, unit="×", why=f"medians of {len(found['L0'])} rounds")

"""Programs with tools on the real engine, with cells for half of them: what is computed again, and the CPU of it.

Each program asks, waits for a tool (50 to 500 ms), and asks again with the result behind what was said before. All
policies serve the same programs. CPU is the engine's and this process's; tokens computed again had been in cells.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple

import weft.model
from benchmarks.report import Measure, Report
from weft.model.engine import Feed, LocalEngine, open_engine
from weft.model.engine.batching import Ask, Batcher
from weft.model.engine.policies import ByProgram, Continuum, Fcfs, Fixed, Reload

MODEL = "smollm2-135m"
FIGURE = "programs with tools on the engine"


class Size(NamedTuple):
    programs: int
    turns: int
    prompt: int
    """Tokens of a program's first prompt."""
    result: int
    """Of a tool's result."""
    draws: int

    @property
    def cells(self) -> int:
        """For half of the programs at their end."""
        return self.programs * (self.prompt + self.turns * (self.result + self.draws)) // 2


def figures(report: Report, quick: bool) -> None:
    asyncio.run(_figures(report, Size(4, 3, 60, 8, 2) if quick else Size(6, 5, 200, 24, 6), quick))


async def _figures(report: Report, size: Size, quick: bool) -> None:
    engine = await open_engine(weft.model.fetch(MODEL), cells=2048, sequences=16)
    try:
        reload = await _reload(engine, size)
        policies: dict[str, tuple[Callable[[], Fcfs], int]] = {
            "FCFS, LRU": (Fcfs, 0),
            "Continuum": (lambda: Continuum(reload), 0),
        }
        if not quick:
            policies |= {
                "program-level FCFS, no pins": (ByProgram, 0),
                "pins of 1 s": (lambda: Fixed(1.0), 0),
                "FCFS, LRU, evicted cells saved": (Fcfs, 10_000),
            }
        for name, (policy, store) in policies.items():
            report.add(FIGURE, await _served(engine, name, policy(), store, size))
    finally:
        await engine.close()
    base, pins = report.one(FIGURE, "FCFS, LRU"), report.one(FIGURE, "Continuum")
    assert base is not None and pins is not None
    again = pins.more["computed again"] / max(1, base.more["computed again"])
    report.bar(FIGURE, "Continuum: tokens computed again", again, most=0.5, unit="×", why="FCFS, LRU")
    assert base.value and pins.value
    report.bar(FIGURE, "Continuum: CPU", pins.value / base.value, most=0.8, unit="×", why="FCFS, LRU")


async def _reload(engine: LocalEngine, size: Size) -> Reload:
    """What it takes this machine, now, to compute so many tokens."""
    measured = []
    for tokens in (size.prompt // 4, size.prompt):
        sequence = await engine.sequence()
        began = time.monotonic()
        await engine.step([Feed(sequence, [*range(100, 100 + tokens)], "none", None)])
        measured.append((tokens, time.monotonic() - began))
        await sequence.close()
    return Reload.fitted(measured)


async def _served(engine: LocalEngine, name: str, policy: Fcfs, store: int, size: Size) -> Measure:
    began = engine.cpu() + time.process_time()
    async with Batcher(engine, policy, cells=size.cells, slots=12, chunk=128, store=store) as batcher:
        waits = await asyncio.gather(*(_program(batcher, number, size) for number in range(size.programs)))
        counts, fed = batcher.metrics().counts, batcher.fed
    cpu = engine.cpu() + time.process_time() - began
    more = {
        "computed again": float(counts.reencoded),
        "computed": float(fed),
        "hits": counts.hits,
        "loaded": float(counts.loaded),
    }
    note = f"{size.programs} programs of {size.turns} turns, {size.cells} cells, tools took {sum(waits):.1f} s"
    return Measure(name=name, unit="CPU-s", runs=[cpu], more=more, note=note)


async def _program(batcher: Batcher, number: int, size: Size) -> float:
    """Returns how long its tools took."""
    dice = random.Random(number)

    def words(count: int) -> list[int]:
        return [dice.randrange(1000, 20_000) for _ in range(count)]

    text, waited = words(size.prompt), 0.0
    for turn in range(size.turns):
        last = turn + 1 == size.turns
        text += await batcher.generate(
            Ask(prompt=text, most=size.draws, program=f"{number}", stop=frozenset(), last=last, calls=lambda _: "tool")
        ).whole()
        if not last:
            seconds = dice.uniform(0.05, 0.5)
            await asyncio.sleep(seconds)
            waited += seconds
        text += words(size.result)
    return waited

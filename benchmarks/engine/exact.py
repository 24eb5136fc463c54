"""The same tokens whatever shares the batch: without anything, with verification (LLM-42), with batches that agree.

On BF16 weights, whose rounding differs most between batches of one and of several. Each prompt is generated under
several schedules of arrival; a prompt that came out in more than one way is a figure. CPU seconds are the engine's own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import weft.model
from benchmarks.report import Measure, Report
from weft.model.engine import LocalEngine, Sampling, open_engine
from weft.model.engine.calibrate import Known, calibrate
from weft.model.engine.exact import Counts, Exact, Generation, Shape
from weft.model.engine.weights import convert

MODEL = "smollm2-135m"
PROMPTS = [
    "Once upon a time, there was a little", "The three most important inventions of the last century are",
    "def fibonacci(n):", "Dear Sir or Madam,\nI am writing to complain about", "The recipe for a good soup begins with",
    "In the year 2050, people will", "A list of animals that live in the sea:\n1.",
    "The old man looked at the river and said",
]  # fmt: skip
Schedule = dict[int, int]
"""At which turn each prompt arrives."""


class Size(NamedTuple):
    prompts: int
    tokens: int
    schedules: int


class Outcome(NamedTuple):
    texts: dict[int, tuple[int, ...]]
    counts: Counts
    cpu: float


def figures(report: Report, quick: bool) -> None:
    asyncio.run(_figures(report, Size(2, 18, 2) if quick else Size(8, 96, 6)))


async def _figures(report: Report, size: Size) -> None:
    whole = size.prompts == 8
    async with _opened(await asyncio.to_thread(convert, MODEL, "bf16")) as engine:
        began = engine.cpu()
        known = await (calibrate(engine) if whole else calibrate(engine, (1, 3), (1, 2), window=4))
        name = "classes of batches whose bits agree, BF16"
        report.add(name, Measure(name="rows", unit="classes", runs=[len(known.rows)]))
        report.add(name, Measure(name="chunks", unit="classes", runs=[len(known.chunks)]))
        report.add("calibration", Measure(name="CPU", unit="s", runs=[engine.cpu() - began]))
        prompts = [await engine.tokenize(text) for text in PROMPTS[: size.prompts]]
        texts = await _repeats(report, engine, known, prompts, size)
        await _crash(report, engine, prompts, size, texts)
        if whole:
            await _half(report, engine, "BF16, verified", None, prompts, size)
    if whole:
        async with _opened(weft.model.fetch(MODEL)) as engine:
            await _half(report, engine, "Q4_1, in batches that agree", await calibrate(engine), prompts, size)


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[LocalEngine]:
    engine = await open_engine(path, cells=192 * 18, sequences=18, unified=False)
    try:
        yield engine
    finally:
        await engine.close()


async def _repeats(
    report: Report, engine: LocalEngine, known: Known, prompts: list[list[int]], size: Size
) -> dict[int, tuple[int, ...]]:
    """Returns the verified texts."""
    figure = f"prompts of {len(prompts)} with more than one text, {size.schedules} schedules, {size.tokens} tokens"
    ways: dict[str, tuple[bool, Known | None]] = {
        "nothing": (False, None),
        "verified, window 16": (True, None),
    }
    if known.quick is not None:
        ways["batches that agree"] = (True, known)
    verified: dict[int, tuple[int, ...]] = {}
    for name, (asked, allowed) in ways.items():
        outcomes = [
            await run(engine, prompts, schedule, size.tokens, [asked] * len(prompts), allowed)
            for schedule in schedules(len(prompts), size)
        ]
        if asked and allowed is None:
            verified = outcomes[0].texts
        differ = sum(len({outcome.texts[n] for outcome in outcomes}) > 1 for n in range(len(prompts)))
        drawn = sum(outcome.counts.drawn for outcome in outcomes)
        back = 100 * sum(outcome.counts.rolled_back for outcome in outcomes) / max(drawn, 1)
        passes = sum(outcome.counts.verifications for outcome in outcomes)
        cpu = sum(outcome.cpu for outcome in outcomes)
        more = {"CPU s": cpu, "rolled back, %": back, "verifications": passes}
        report.add(figure, Measure(name=name, unit="prompts", runs=[differ], more=more))
        if not asked:
            report.bar("exactness", "without it some prompt differs", differ, least=1 if size.tokens > 90 else None)
            report.bar("exactness", "nobody asks: no verification", passes, most=0)
        else:
            report.bar("exactness", f"{name}: no prompt differs", differ, most=0)
            report.bar("exactness", f"{name}: rolled back", back, most=12, unit="%")
    return verified


async def _half(
    report: Report, engine: LocalEngine, name: str, known: Known | None, prompts: list[list[int]], size: Size
) -> None:
    """Half of the traffic asks, beside none of it; turn by turn, so that both meet the same machine."""
    sides = [Exact(engine), Exact(engine, known=known)]
    begun = [
        [
            await side.begin(prompt, size.tokens, Sampling(seed=n), asks and n % 2 == 0)
            for n, prompt in enumerate(prompts)
        ]
        for asks, side in zip((False, True), sides, strict=True)
    ]
    cpu = [0.0, 0.0]
    while not all(each.done for generations in begun for each in generations):
        for n, side in enumerate(sides):
            before = engine.cpu()
            await side.turn()
            cpu[n] += engine.cpu() - before
    tokens = [sum(len(each.tokens) for each in generations) for generations in begun]
    for side, generations in zip(sides, begun, strict=True):
        for each in generations:
            await side.end(each)
        await side.close()
    figure = "half of the traffic asks: throughput, against none of it"
    more = {"none, CPU s": cpu[0], "half, CPU s": cpu[1], "verifications": float(sides[1].counts.verifications)}
    rate = (cpu[0] / tokens[0]) / (cpu[1] / tokens[1])
    report.add(figure, Measure(name=name, unit="×", runs=[rate], more=more))
    report.bar("exactness", f"{figure}; {name}", rate, unit="×", why="the moonshot: 0.94")


async def _crash(
    report: Report, engine: LocalEngine, prompts: list[list[int]], size: Size, whole: dict[int, tuple[int, ...]]
) -> None:
    """The engine is killed at a random step."""
    turn = random.Random(8).randrange(3, size.tokens - 8)
    schedule: Schedule = dict.fromkeys(range(2), 0)
    killed = await run(engine, prompts[:2], schedule, size.tokens, [True] * 2, None, kill=turn)
    report.bar(
        "exactness", f"killed at turn {turn}: texts that differ",
        sum(killed.texts[n] != whole[n] for n in range(2)), most=0,
        why=f"{killed.counts.rebuilt} tokens were computed again",
    )  # fmt: skip


def schedules(count: int, size: Size) -> list[Schedule]:
    """One after the other, all together, and at random times."""
    rng = random.Random(16)
    fixed = [{n: n * size.tokens for n in range(count)}, dict.fromkeys(range(count), 0)]
    spread = [{n: rng.randrange(2 * size.tokens) for n in range(count)} for _ in range(size.schedules)]
    return (fixed + spread)[: size.schedules]


async def run(
    engine: LocalEngine,
    prompts: list[list[int]],
    schedule: Schedule,
    tokens: int,
    asked: list[bool],
    known: Known | None,
    kill: int = -1,
) -> Outcome:
    """Generate under a schedule. `kill`: the turn before which the engine's process is killed."""
    exact = Exact(engine, Shape(), known)
    begun: dict[int, Generation] = {}
    waiting, turn, before = dict(schedule), 0, engine.cpu()
    while waiting or not all(each.done for each in begun.values()):
        for n in [n for n, arrival in waiting.items() if arrival <= turn]:
            begun[n] = await exact.begin(prompts[n], tokens, Sampling(seed=n), asked[n])
            del waiting[n]
        if turn == kill and engine.pid is not None:
            os.kill(engine.pid, signal.SIGKILL)
        await exact.turn()
        turn += 1
    for generation in begun.values():
        await exact.end(generation)
    await exact.close()
    return Outcome({n: tuple(each.tokens) for n, each in begun.items()}, exact.counts, engine.cpu() - before)

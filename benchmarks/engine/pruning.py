"""Subtasks dropped from the cells, and prompts that keep their end: how far a text goes, and what a splice saves.

The shapes of the splices are those published with TIMRUN.cpp; its own figures are 2.7 and 4.1 times (another model,
another machine). The tree of subtasks has a given shape; every word in it is the model's.
"""

from __future__ import annotations

import asyncio
import random
from statistics import median

import weft.model
from benchmarks.report import Measure, Report
from weft.model.engine import Feed, LocalEngine, Sampling, open_engine
from weft.model.engine.reuse import advance
from weft.model.engine.subtasks import CONCLUSION, END_LIST, MORE, SUBTASKS, Limits, Place, solve

MODEL = "smollm2-135m"
SHAPES = {(98, 198, 36, 43): 2.2, (98, 198, 109, 42): 3.2}
"""Tokens of A, B, C and D, and how many times less CPU than without a cache is the bar."""
ROOM = 384


def figures(report: Report, quick: bool) -> None:
    asyncio.run(_figures(report, quick))


async def _figures(report: Report, quick: bool) -> None:
    engine = await open_engine(weft.model.fetch(MODEL), cells=2048, sequences=8)
    try:
        for shape, bar in list(SHAPES.items())[: 1 if quick else 2]:
            await _splice(report, engine, shape, bar, rounds=1 if quick else 5)
        await _tree(report, engine, *((3, 5, 0) if quick else (7, 150, 2)))
    finally:
        await engine.close()


async def _splice(report: Report, engine: LocalEngine, shape: tuple[int, ...], bar: float, rounds: int) -> None:
    dice = random.Random(1)  # words without a pattern, or more than C would be found again
    a, b, c, d = ([dice.randrange(1000, 20_000) for _ in range(size)] for size in shape)
    cached = await engine.sequence()
    await engine.step([Feed(cached, a + b + c, "none", None)])
    saved = await cached.save()
    ways: dict[str, list[float]] = {"nothing kept": [], "the beginning kept": [], "the end kept too": []}
    read = 0
    for _ in range(rounds):
        for way, runs in ways.items():
            await cached.restore(saved)
            began = engine.cpu()
            if way == "nothing kept":
                await cached.trim(0)
            rest = await advance(cached, a + c + d, least=16 if way == "the end kept too" else 10_000)
            await engine.step([Feed(cached, rest)])
            runs.append(engine.cpu() - began)
            read = len(rest)
    await cached.close()
    figure = f"A·B·C → A·C·D of {', '.join(map(str, shape))} tokens"
    for way, runs in ways.items():
        report.add(figure, Measure(name=way, unit="CPU-s", runs=runs))
    full, best = median(ways["nothing kept"]), median(ways["the end kept too"])
    report.bar(figure, "CPU until the first token, times less", full / best, least=bar, unit="×", why="nothing kept")
    prefix = median(ways["the beginning kept"]) / best
    report.bar(figure, "CPU until the first token, times less", prefix, unit="×", why="the beginning kept")
    report.bar(figure, "tokens read", read, least=len(d), most=len(d), why="D")


async def _tree(report: Report, engine: LocalEngine, depth: int, tasks: int, stack: int) -> None:
    def choose(place: Place, texts: list[str]) -> str:
        if MORE in texts:
            return MORE if place.depth > 1 and place.number < 2 else END_LIST
        return SUBTASKS if SUBTASKS in texts else CONCLUSION

    prompt = await engine.tokenize("A plan of many steps, as JSON, each with a thought and a conclusion:\n")
    began, limits = engine.cpu(), Limits(depth=depth, width=2, tasks=tasks, words=5)
    sampling = Sampling(temperature=0.7, seed=1)
    out = await solve(engine, prompt, limits=limits, stack=stack, room=ROOM, choose=choose, sampling=sampling)
    cpu = engine.cpu() - began
    assert out.tree["reasoning"]
    figure = f"a tree of {tasks} subtasks in {ROOM} cells"
    more = {"computed again": float(out.computed_again), "most cells": float(out.most), "CPU s": cpu}
    report.add(figure, Measure(name="text", unit="tokens", runs=[out.emitted], more=more))
    whole = tasks >= 100
    report.bar(figure, "text, times the cells", out.emitted / ROOM, least=8.0 if whole else None, unit="×")
    share = 100 * out.pruned / out.emitted
    least = 85.0 if whole else None
    report.bar(figure, "of the text's cells given back", share, least=least, unit="%", why="the moonshot: 90")
    report.bar(figure, "cells at once", out.most, most=ROOM)

"""Threads (ThreadWeaver): three equal ones after a prefix, forked, beside the same three one after the other."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from statistics import median

import weft.model
from benchmarks.engine.core import MODEL
from benchmarks.report import Measure, Report
from weft.model.engine import Feed, LocalEngine, open_engine

WORDS = "The committee met again on Monday to speak of the bridge, the school and the price of bread. "
HEADS = (" First of all,", " Then again,", " In the end,")


def figures(report: Report, quick: bool) -> None:
    asyncio.run(_measure(report, quick))


async def _measure(report: Report, quick: bool) -> None:
    """On float weights, where a batch reads them once for all, and on the 4-bit ones, which mostly compute."""
    for kind, path in (("F32", _floats()), ("Q4_1", weft.model.fetch(MODEL))):
        engine = await open_engine(path, cells=1024, sequences=16)
        try:
            await _speed(report, engine, kind, rounds=2 if quick else 9, tokens=16 if quick else 48)
            if kind == "Q4_1":
                await _same(report, engine, programs=3 if quick else 20)
        finally:
            await engine.close()


def _floats() -> Path:
    from weft.model.engine.weights import convert

    return convert(MODEL, "f32")


async def _speed(report: Report, engine: LocalEngine, kind: str, rounds: int, tokens: int) -> None:
    prefix = (await engine.tokenize(WORDS * 40))[:500]
    heads = [await engine.tokenize(head) for head in HEADS]
    trunk = await engine.sequence()
    await engine.step([Feed(trunk, prefix, "none", None)])
    alone, forked, same, steps = [], [], [], 0
    for _ in range(rounds):
        began = engine.cpu()
        one = [(await decoded(engine, trunk, [head], [tokens]))[0] for head in heads]
        between, before = engine.cpu(), engine.steps
        all_ = await decoded(engine, trunk, heads, [tokens] * 3)
        steps = engine.steps - before
        alone.append(between - began)
        forked.append(engine.cpu() - between)
        same.append(one == all_)
    await trunk.close()
    note = f"3 threads of {tokens} tokens after 500"
    report.add("threads", Measure(name=f"{kind}, one after the other", unit="CPU-s", runs=alone, note=note))
    report.add("threads", Measure(name=f"{kind}, forked", unit="CPU-s", runs=forked, note=note))
    ratio = median(a / b for a, b in zip(alone, forked, strict=True))
    least = 1.25 if kind == "F32" else None
    report.bar("threads", f"{kind}: CPU of one after the other over forked", ratio, least=least, unit="x")
    report.bar("threads", f"{kind}: steps beyond the longest thread's", steps - tokens, most=2)
    report.bar("threads", f"{kind}: rounds with the same tokens", sum(same) / len(same), least=1, most=1)


async def _same(report: Report, engine: LocalEngine, programs: int) -> None:
    """Threads of 3 to 8 parts of unequal lengths: the tokens of each, and the cells of all."""
    dice, same, over = random.Random(1), 0, 0
    for _ in range(programs):
        prefix = [dice.randrange(200, 9000) for _ in range(dice.randrange(8, 40))]
        heads = [[dice.randrange(200, 9000) for _ in range(dice.randrange(1, 5))] for _ in range(dice.randrange(3, 9))]
        most = [dice.randrange(2, 14) for _ in heads]
        trunk = await engine.sequence()
        await engine.step([Feed(trunk, prefix, "none", None)])
        one = [(await decoded(engine, trunk, [h], [m]))[0] for h, m in zip(heads, most, strict=True)]
        same += one == await decoded(engine, trunk, heads, most)
        over += engine.used - len(prefix)
        await trunk.close()
    report.bar("threads", "programs of random threads with the same tokens", same / programs, least=1, most=1)
    report.bar("threads", "cells left over", over, most=0)


async def decoded(engine: LocalEngine, trunk: object, heads: list[list[int]], most: list[int]) -> list[list[int]]:
    """What each thread says, all decoded together; the longest sets the steps."""
    forks = [await trunk.fork() for _ in heads]  # type: ignore[attr-defined]
    feeds, said = list(heads), [[] for _ in heads]
    for step in range(max(most)):
        going = [n for n in range(len(heads)) if step < most[n]]
        told = await engine.step([Feed(forks[n], feeds[n]) for n in going])
        for n, heard in zip(going, told, strict=True):
            feeds[n] = heard.tokens
            said[n] += heard.tokens
    for fork in forks:
        await fork.close()
    return said

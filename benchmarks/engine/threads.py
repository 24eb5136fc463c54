"""Threads (ThreadWeaver): three equal ones after a prefix, forked, beside the same three one after the other.

The two take turns step by step (three steps of one thread, one step of all three), so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import weft.model
from benchmarks.engine.core import MODEL
from benchmarks.report import Measure, Report
from weft.model.engine import Feed, LocalEngine, Sequence, open_engine

WORDS = "The committee met again on Monday to speak of the bridge, the school and the price of bread. "
HEADS = (" First of all,", " Then again,", " In the end,")


class Size(NamedTuple):
    prefix: int
    tokens: int
    """Of each thread."""
    rounds: int
    programs: int


def figures(report: Report, quick: bool) -> None:
    size = Size(120, 12, 1, 2) if quick else Size(500, 48, 3, 20)
    asyncio.run(_figures(report, size, quick))


async def _figures(report: Report, size: Size, quick: bool) -> None:
    """On float weights, where a batch reads them once for all, and on the 4-bit ones, which mostly compute."""
    for kind, path in (("F32", _floats()), ("Q4_1", weft.model.fetch(MODEL))):
        engine = await open_engine(path, cells=2048, sequences=16)
        try:
            trunk = await engine.sequence()
            await engine.step([Feed(trunk, (await engine.tokenize(WORDS * 40))[: size.prefix], "none", None)])
            heads = [await engine.tokenize(head) for head in HEADS]
            await _speed(report, engine, kind, trunk, heads, size)
            if not quick:
                await _joined(report, engine, kind, trunk, heads, size)
            await trunk.close()
            if not quick or kind == "Q4_1":
                await _same(report, engine, kind, size.programs)
        finally:
            await engine.close()


def _floats() -> Path:
    from weft.model.engine.weights import convert

    return convert(MODEL, "f32")


async def _speed(
    report: Report, engine: LocalEngine, kind: str, trunk: Sequence, heads: list[list[int]], size: Size
) -> None:
    alone, forked, same, steps = [], [], 0, 0
    for _ in range(size.rounds):
        costs = [0.0, 0.0]
        texts: tuple[list[list[int]], list[list[int]]] = ([[] for _ in heads], [[] for _ in heads])
        one = _one_by_one(engine, trunk, heads, size.tokens, texts[0])
        all_ = decoding(engine, trunk, heads, [size.tokens] * len(heads), texts[1])
        steps = 0
        for _ in range(size.tokens):
            for _ in heads:
                costs[0] += await anext(one)
            costs[1] += await anext(all_)
            steps += 1
        costs[0] += sum([cost async for cost in one])
        async for cost in all_:
            costs[1], steps = costs[1] + cost, steps + 1
        alone.append(costs[0])
        forked.append(costs[1])
        same += texts[0] == texts[1]
    note = f"3 threads of {size.tokens} tokens after {size.prefix}"
    report.add("threads", Measure(name=f"{kind}, one after the other", unit="CPU-s", runs=alone, note=note))
    report.add("threads", Measure(name=f"{kind}, forked", unit="CPU-s", runs=forked, note=note))
    ratio, moonshot = median(a / b for a, b in zip(alone, forked, strict=True)), "the moonshot: 1.53"
    report.bar("threads", f"{kind}: CPU of one after the other over forked", ratio, least=1.25, unit="×", why=moonshot)
    report.bar("threads", f"{kind}: steps beyond the longest thread's", steps - size.tokens, most=2)
    report.bar("threads", f"{kind}: rounds with the same tokens", same / size.rounds, least=1, most=1)


async def _joined(
    report: Report, engine: LocalEngine, kind: str, trunk: Sequence, heads: list[list[int]], size: Size
) -> None:
    """To where the text can go on: forked and then joined, which computes the threads once more where they belong,
    against one text in which each thread sees those before it."""
    told: list[list[int]] = [[] for _ in heads]
    forked = sum([cost async for cost in decoding(engine, trunk, heads, [size.tokens] * len(heads), told)])
    text = await trunk.fork()
    began = engine.cpu()
    await engine.step(
        [Feed(text, [t for head, said in zip(heads, told, strict=True) for t in head + said], "none", None)]
    )
    joining = engine.cpu() - began
    await text.trim(trunk.length)
    began = engine.cpu()
    for head in heads:
        feed = head
        for _ in range(size.tokens):
            feed = (await engine.step([Feed(text, feed)]))[0].tokens
    one = engine.cpu() - began
    await text.close()
    figure = "threads, until the text goes on"
    report.add(figure, Measure(name=f"{kind}, one text", unit="CPU-s", runs=[one]))
    more = {"of that, joining": joining}
    report.add(figure, Measure(name=f"{kind}, forked and joined", unit="CPU-s", runs=[forked + joining], more=more))
    report.bar(figure, f"{kind}: CPU of one text over forked and joined", one / (forked + joining), unit="×")


async def _same(report: Report, engine: LocalEngine, kind: str, programs: int) -> None:
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
    report.bar("threads", f"{kind}: programs of random threads with the same tokens", same / programs, least=1, most=1)
    report.bar("threads", f"{kind}: cells left over", over, most=0)


async def decoded(engine: LocalEngine, trunk: Sequence, heads: list[list[int]], most: list[int]) -> list[list[int]]:
    """What each thread says, all decoded together."""
    said: list[list[int]] = [[] for _ in heads]
    async for _ in decoding(engine, trunk, heads, most, said):
        pass
    return said


async def decoding(
    engine: LocalEngine, trunk: Sequence, heads: list[list[int]], most: list[int], said: list[list[int]]
) -> AsyncIterator[float]:
    """Decode threads together, the longest sets the steps; after each step, its seconds of CPU. `said` grows."""
    forks = [await trunk.fork() for _ in heads]
    feeds = list(heads)
    for step in range(max(most)):
        going = [n for n in range(len(heads)) if step < most[n]]
        began = engine.cpu()
        told = await engine.step([Feed(forks[n], feeds[n]) for n in going])
        for n, heard in zip(going, told, strict=True):
            feeds[n] = heard.tokens
            said[n] += heard.tokens
        yield engine.cpu() - began
    for fork in forks:
        await fork.close()


async def _one_by_one(
    engine: LocalEngine, trunk: Sequence, heads: list[list[int]], tokens: int, said: list[list[int]]
) -> AsyncIterator[float]:
    for head, mine in zip(heads, said, strict=True):
        async for cost in decoding(engine, trunk, [head], [tokens], [mine]):
            yield cost

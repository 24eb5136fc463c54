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
from weft.model.engine.protocol import Told

WORDS = "The committee met again on Monday to speak of the bridge, the school and the price of bread. "
ROUNDING = 0.05
"""Logits (about 25) of a lone row may be apart from those of a batch by so much. Not to see a token makes 1 to 7."""
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
        texts: tuple[list[list[Told]], list[list[Told]]] = ([[] for _ in heads], [[] for _ in heads])
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
        same += [drawn(one) for one in texts[0]] == [drawn(one) for one in texts[1]]
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
    said: list[list[Told]] = [[] for _ in heads]
    forked = sum([cost async for cost in decoding(engine, trunk, heads, [size.tokens] * len(heads), said)])
    text = await trunk.fork()
    began = engine.cpu()
    await engine.step(
        [Feed(text, [t for head, one in zip(heads, said, strict=True) for t in head + drawn(one)], "none", None)]
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
    """Threads of 3 to 8 parts of unequal lengths: the tokens of each, and the cells of all.

    Some kernels round a lone row otherwise than several, and then a near-tie can fall the other way. So each thread is
    written as it is and with a row of somebody else beside it: there, every difference would be the threads' doing."""
    dice, over = random.Random(1), 0
    same = {"alone": 0, "beside somebody": 0}
    apart = dict.fromkeys(same, 0.0)
    for _ in range(programs):
        prefix = [dice.randrange(200, 9000) for _ in range(dice.randrange(8, 40))]
        heads = [[dice.randrange(200, 9000) for _ in range(dice.randrange(1, 5))] for _ in range(dice.randrange(3, 9))]
        most = [dice.randrange(2, 14) for _ in heads]
        trunk = await engine.sequence()
        await engine.step([Feed(trunk, prefix, "none", None)])
        for way in same:
            other = await engine.sequence() if way == "beside somebody" else None
            one = [(await told(engine, trunk, [h], [m], other))[0] for h, m in zip(heads, most, strict=True)]
            all_ = await told(engine, trunk, heads, most, other)
            same[way] += [drawn(thread) for thread in one] == [drawn(thread) for thread in all_]
            apart[way] = max([apart[way], *(_apart(a, b) for a, b in zip(one, all_, strict=True))])
            if other is not None:
                await other.close()
        over += engine.used - len(prefix)
        await trunk.close()
    figure = "threads, against each of them alone"
    note = f"{programs} programs of random threads"
    for way in same:
        more = {"logits apart, at most": apart[way]}
        report.add(
            figure, Measure(name=f"{kind}, {way}: the same", unit="programs", runs=[same[way]], more=more, note=note)
        )
    beside = same["beside somebody"] / programs
    report.bar("threads", f"{kind}: programs of random threads with the same tokens, beside somebody", beside, least=1)
    report.bar("threads", f"{kind}: their logits alone and together, apart", apart["alone"], most=ROUNDING)
    report.bar("threads", f"{kind}: cells left over", over, most=0)


def drawn(thread: list[Told]) -> list[int]:
    return [token for one in thread for token in one.tokens]


def _apart(some: list[Told], others: list[Told]) -> float:
    """How far logits are apart at most, up to where other tokens are drawn."""
    found = 0.0
    for one, other in zip(some, others, strict=True):
        found = max(found, float(abs(one.logits - other.logits).max()))
        if one.tokens != other.tokens:
            break
    return found


async def told(
    engine: LocalEngine, trunk: Sequence, heads: list[list[int]], most: list[int], other: Sequence | None
) -> list[list[Told]]:
    """What each thread is told, all decoded together. `other`: takes a token in each step, too."""
    found: list[list[Told]] = [[] for _ in heads]
    async for _ in decoding(engine, trunk, heads, most, found, other, logits=True):
        pass
    return found


async def decoding(
    engine: LocalEngine, trunk: Sequence, heads: list[list[int]], most: list[int], found: list[list[Told]],
    other: Sequence | None = None, logits: bool = False,
) -> AsyncIterator[float]:  # fmt: skip
    """Decode threads together, the longest sets the steps; after each step, its seconds of CPU. `found` grows."""
    forks = [await trunk.fork() for _ in heads]
    feeds = list(heads)
    beside = [] if other is None else [Feed(other, [0], "none", None)]
    for step in range(max(most)):
        going = [n for n in range(len(heads)) if step < most[n]]
        began = engine.cpu()
        heard = await engine.step([*(Feed(forks[n], feeds[n], logits=logits) for n in going), *beside])
        for n, each in zip(going, heard, strict=False):
            feeds[n] = each.tokens
            found[n].append(each)
        yield engine.cpu() - began
    for fork in forks:
        await fork.close()


async def _one_by_one(
    engine: LocalEngine, trunk: Sequence, heads: list[list[int]], tokens: int, found: list[list[Told]]
) -> AsyncIterator[float]:
    for head, mine in zip(heads, found, strict=True):
        async for cost in decoding(engine, trunk, [head], [tokens], [mine]):
            yield cost

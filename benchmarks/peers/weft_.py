"""Weft itself, doing the jobs its peers do.

Variants: `default` (steps touch the outside: each starts when what it depends on is on the disk), `pure` (steps
change nothing outside: they start at once, the result is returned when all is on the disk), and `process` (the
default, with durability="process": no fsync). The journal is a file, or in a PostgreSQL database if one is given.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import weft
from benchmarks.peers import (
    PIPELINED,
    STEPS,
    STRICT,
    UNSYNCED,
    WARM_UP,
    Clock,
    Order,
    Result,
    check,
    common,
    main,
)

DURABILITY = {"default": STRICT, "pure": PIPELINED, "process": UNSYNCED}


@weft.step
async def step(value: int) -> int:
    return value + 1


@weft.step(effect="pure")
async def pure(value: int) -> int:
    return value + 1


@weft.workflow
async def sequential(count: int) -> int:
    total = 0
    for _ in range(count):
        total = await step(total)
    return total


@weft.workflow
async def sequential_pure(count: int) -> int:
    total = 0
    for _ in range(count):
        total = await pure(total)
    return total


@weft.workflow
async def fanout(count: int) -> int:
    return sum(await asyncio.gather(*(step(0) for _ in range(count))))


@weft.workflow
async def fanout_pure(count: int) -> int:
    return sum(await asyncio.gather(*(pure(0) for _ in range(count))))


async def measure(job: str, order: Order) -> Result:
    if job == "fanout":
        run = fanout_pure if order.variant == "pure" else fanout
    else:
        run = sequential_pure if order.variant == "pure" else sequential
    durability: Literal["full", "process"] = "process" if order.variant == "process" else "full"
    async with weft.Runtime(order.url or order.dir / "journal.db", durability=durability) as runtime:
        await runtime.run(run, WARM_UP)
        with Clock(order.count) as clock:
            if job == "workflows":
                handles = [await runtime.start(run, STEPS) for _ in range(order.count)]
                done = await asyncio.gather(*handles)
            else:
                done = [await runtime.run(run, order.count)]
        check(sum(done), order.count * (STEPS if job == "workflows" else 1))
    return clock.result(DURABILITY[order.variant])


if __name__ == "__main__":
    main(common(measure), "")

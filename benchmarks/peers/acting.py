"""The jobs of an agent: `turns` and `crowd`, the same for each system.

The model is a server in another process that asks for one call of a tool in each turn and then hands in, so what is
measured is the loop: the request, the reply, the call, and what is kept of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time

from benchmarks.peers import Job, Order, Result, check, peak_mb

TURNS = 4
"""Of one run: three with a call, and one that hands in."""
TASK = "Look three things up."
DONE = "All is looked up."
KEY = "test-key"


def look_up(word: str) -> str:
    """Look a word up.

    Args:
        word: What to look up.
    """
    return f"{word}: found"


Run = Callable[[], Awaitable[str]]
"""One run of the agent, to what it hands in."""


def jobs(open_system: Callable[[Order], Awaitable[Run]]) -> dict[str, Job]:
    """The jobs of a system."""
    return {
        "turns": lambda order: asyncio.run(_turns(open_system, order)),
        "crowd": lambda order: asyncio.run(_crowd(open_system, order)),
    }


async def _turns(open_system: Callable[[Order], Awaitable[Run]], order: Order) -> Result:
    """CPU of a turn in this process, of runs one after the other."""
    run = await open_system(order)
    for _ in range(3):
        check(await run(), DONE)
    cpu, began = process_time(), perf_counter()
    for _ in range(order.count):
        check(await run(), DONE)
    cpu, seconds = process_time() - cpu, perf_counter() - began
    turns = order.count * TURNS
    return {"cpu_us": cpu / turns * 1e6, "rate": turns / seconds, "peak_mb": peak_mb()}


async def _crowd(open_system: Callable[[Order], Awaitable[Run]], order: Order) -> Result:
    """Memory of many agents at once."""
    run = await open_system(order)
    check(await run(), DONE)
    before = peak_mb()
    cpu, began = process_time(), perf_counter()
    answers = await asyncio.gather(*(run() for _ in range(order.count)))
    seconds = perf_counter() - began
    check(set(answers), {DONE})
    cpu_us = (process_time() - cpu) / order.count / TURNS * 1e6
    return {"peak_mb": peak_mb(), "seconds": seconds, "cpu_us": cpu_us, "note": f"{before:.0f} MB with one"}

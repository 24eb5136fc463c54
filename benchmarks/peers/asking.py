"""The jobs of whoever asks a model: `call`, `first`, `streams` and `import`, the same for each system.

Everything is asked of a server in another process, so what is measured is what the system itself costs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time
from typing import Protocol

from benchmarks.peers import Job, Order, Result, check, peak_mb

TEXT = "".join(f"word{n} " for n in range(40))
"""What the server says, in 40 pieces."""
SLOW = "".join(f"word{n} " for n in range(20))
"""What it says to a conversation of two turns: slowly."""
KEY = "test-key"
QUESTION = "Say forty words."

Seen = Callable[[], None]


class System(Protocol):
    """One way to ask: for the text at once, or piece by piece, each told by `seen()`. `slow`: as the second turn of a
    conversation, which the server answers slowly. `many` asks one question after the other."""

    async def once(self, slow: bool) -> str: ...
    async def many(self, count: int) -> None: ...
    async def stream(self, slow: bool, seen: Seen) -> str: ...


class OneByOne:
    """The usual `many`."""

    async def once(self, slow: bool) -> str:
        raise NotImplementedError

    async def many(self, count: int) -> None:
        for _ in range(count):
            await self.once(False)


def jobs(open_system: Callable[[Order], Awaitable[System]], module: str) -> dict[str, Job]:
    """The jobs of a system; `module` is what its users import."""
    return {
        "call": lambda order: asyncio.run(_call(open_system, order)),
        "first": lambda order: asyncio.run(_first(open_system, order)),
        "streams": lambda order: asyncio.run(_streams(open_system, order)),
        "import": lambda order: _import(module),
    }


async def _call(open_system: Callable[[Order], Awaitable[System]], order: Order) -> Result:
    """CPU of one question after the other, in this process."""
    system = await open_system(order)
    for _ in range(20):
        check(await system.once(False), TEXT)
    cpu, began = process_time(), perf_counter()
    await system.many(order.count)
    cpu, seconds = process_time() - cpu, perf_counter() - began
    return {"cpu_us": cpu / order.count * 1e6, "rate": order.count / seconds, "peak_mb": peak_mb()}


async def _first(open_system: Callable[[Order], Awaitable[System]], order: Order) -> Result:
    """Milliseconds from the question to the first piece of text."""
    system = await open_system(order)
    taken: list[float] = []
    for number in range(order.count + 10):
        first: list[float] = []
        began = perf_counter()
        check(await system.stream(False, lambda first=first: first.append(perf_counter())), TEXT)  # type: ignore[misc]
        if number >= 10:
            taken.append((first[0] - began) * 1000)
    taken.sort()
    return {"first_ms": taken[len(taken) // 2], "most_ms": taken[-1]}


async def _streams(open_system: Callable[[Order], Awaitable[System]], order: Order) -> Result:
    """Memory of many streams at once."""
    system = await open_system(order)
    check(await system.once(False), TEXT)
    at_once, most = 0, 0

    async def one() -> None:
        nonlocal at_once, most
        begun = False

        def seen() -> None:
            nonlocal at_once, most, begun
            if not begun:
                begun = True
                at_once += 1
                most = max(most, at_once)

        check(await system.stream(True, seen), SLOW)
        at_once -= 1

    cpu, began = process_time(), perf_counter()
    await asyncio.gather(*(one() for _ in range(order.count)))
    seconds = perf_counter() - began
    return {
        "peak_mb": peak_mb(), "seconds": seconds, "cpu_us": (process_time() - cpu) / order.count * 1e6,
        "note": f"at most {most} open at once",
    }  # fmt: skip


def _import(module: str) -> Result:
    """CPU of a process that imports it, less that of one that imports nothing."""

    def cpu(code: str) -> float:
        script = f"{code}\nimport time; print(time.process_time())"
        runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True) for _ in range(3)]
        return sorted(float(run.stdout) for run in runs)[1]

    cpu(f"import {module}")  # the files are read and compiled
    return {"import_ms": (cpu(f"import {module}") - cpu("")) * 1000}

"""Programs with heavy steps, for the tests of Ray. This module is of the program and not installed: it travels."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import weft


def mark(file: str, word: Any) -> int:
    """Helpers of the program's module travel with its steps."""
    with Path(file).open("a") as log:
        log.write(f"{word}\n")
    return len(Path(file).read_text().splitlines())


@dataclass
class Point:
    x: int


class Refused(Exception):
    """Not to be built by pickle alone."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.lock = threading.Lock()


@weft.step(executor="ray")
def where(point: Point) -> tuple[int, Point]:
    return os.getpid(), Point(point.x + 1)


@weft.step(resources={"cpu": 0, "memory": "10M", "gpu": 0.5, "custom": {"second": 1}})
async def where_async() -> dict[str, Any]:
    await asyncio.sleep(0.01)
    runtime = ray.get_runtime_context()
    return {"pid": os.getpid(), "node": runtime.get_node_id(), "got": runtime.get_assigned_resources()}


@weft.step(executor="ray", retries=weft.Retry(attempts=3, delay=0.01, on=(Refused,)))
def refuse(file: str, times: int) -> str:
    if mark(file, "try") <= times:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise Refused(17, reason="no") from inner
    return "yes"


@weft.step(executor="ray")
def talk() -> None:
    print("said aloud")
    logging.getLogger("heavy").info("said quietly")


@weft.step(executor="ray", timeout=0.5)
def stuck(file: str) -> None:
    mark(file, f"pid {os.getpid()}")
    try:
        time.sleep(60)
    finally:
        mark(file, "cleaned up")


@weft.step(executor="ray")
async def stuck_async(file: str) -> None:
    mark(file, f"pid {os.getpid()}")
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        mark(file, "cleaned up")


@weft.step(executor="ray", timeout=0.5)
def deaf(file: str) -> None:
    mark(file, os.getpid())
    while True:
        try:
            time.sleep(60)
        except BaseException:
            mark(file, "ignored")


@weft.step(resources={"cpu": 1, "custom": {"head": 1}})
def hold(file: str) -> None:
    """Keep the head's core busy until told."""
    mark(file, "held")
    while not Path(file + ".go").exists():
        time.sleep(0.02)


@weft.step(executor="ray")
def again(file: str) -> str:
    """Waits for its death the first time."""
    if mark(file, os.getpid()) == 1:
        time.sleep(60)
    return ray.get_runtime_context().get_node_id()


once = weft.step(effect="at_most_once", executor="ray", retries=3)(again.fn)


@weft.step(executor="ray")
def suicide(file: str) -> None:
    mark(file, "died")
    os.kill(os.getpid(), signal.SIGKILL)


@weft.workflow
async def call_where(x: int) -> Any:
    return await where(Point(x)), await where_async()


@weft.workflow
async def call_refuse(file: str, times: int) -> str:
    return await refuse(file, times)


@weft.workflow
async def call_stuck(file: str) -> None:
    await stuck(file)


@weft.workflow
async def call_stuck_async(file: str) -> None:
    await stuck_async(file)


@weft.workflow
async def call_deaf(file: str) -> None:
    await deaf(file)


@weft.workflow
async def call_again(file: str) -> str:
    return await again(file)


@weft.workflow
async def call_once(file: str) -> str:
    return await once(file)


@weft.workflow
async def call_suicide(file: str) -> None:
    await suicide(file)


@weft.workflow
async def call_talk() -> None:
    await talk()


@weft.step(executor="ray")
def spell(file: str, x: int) -> int:
    """Takes a while, and says when; the first is overtaken."""
    mark(file, f"in {time.monotonic_ns()}")
    while x == 0 and "out" not in Path(file).read_text():
        time.sleep(0.02)
    time.sleep(0.02)
    mark(file, f"out {time.monotonic_ns()}")
    return x * x


@weft.workflow
async def spread(file: str, count: int, ordered: bool) -> list[int]:
    async def call(x: int) -> int:
        return await spell(file, x)

    return [result async for result in weft.map(call, range(count), concurrency=3, ordered=ordered)]


@weft.step(executor="ray")
def linger(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@weft.workflow
async def call_linger(seconds: float) -> float:
    return await linger(seconds)

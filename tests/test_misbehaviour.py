"""Bodies that reach outside, steps that block, clocks that jump: what is noticed, and what it does not change."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, note, ran
from weft.core.errors import Nondeterminism
from weft.core.record import Started

__all__ = ["fresh"]


@weft.step
async def blocks() -> None:
    time.sleep(1.8)  # noqa: ASYNC251


@weft.workflow
async def blocking() -> None:
    await blocks()


def test_a_step_that_blocks_the_loop_is_named(store: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "weft"):
        drive(store, lambda r: r.run(blocking))
    assert "blocks" in caplog.text and "blocks the event loop" in caplog.text and "test_misbehaviour.py" in caplog.text


@weft.workflow
async def takes_long() -> str:
    await note_start()
    return "done"


@weft.step
async def note_start() -> None:
    while "seen" not in ran:
        await asyncio.sleep(0.02)


def test_a_long_step_is_seen_in_the_journal_while_it_runs(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(takes_long)
        while not (records := await runtime.recovery.records(run.id)):
            await asyncio.sleep(0.02)
        assert [type(r) for r in records] == [Started] and records[0].name.endswith("note_start")
        ran.append("seen")
        assert await run == "done"

    drive(store, use)


def test_a_clock_that_jumps_back_never_turns_a_body_back(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.runtime.guard import exempt

    offsets = iter([0, -3600, 7200, -86400] * 1000)
    real = time.time

    def jumping() -> float:
        with exempt():  # it stands for the runtime's own look at the clock
            return real() + next(offsets)

    async def use(runtime: weft.Runtime) -> None:
        monkeypatch.setattr(runtime, "clock", jumping)
        run = await runtime.start(ticking)
        times = await asyncio.wait_for(run.result(), 20)
        assert times == sorted(times)

    drive(store, use)


@weft.workflow
async def ticking() -> list[float]:
    times = []
    loop = asyncio.get_running_loop()
    for i in range(20):
        await note(i)
        times.append(loop.time())
    return times


@weft.workflow
async def reads_clock() -> float:
    return time.time()


@weft.workflow
async def draws() -> float:
    import random

    return random.random()


@weft.workflow
async def opens() -> str:
    return Path(__file__).read_text()  # noqa: ASYNC240


@weft.workflow
async def goes_outside() -> Any:
    return await asyncio.to_thread(print)


@weft.workflow
async def allowed() -> float:
    import random

    logging.getLogger("user").info("bodies may log")
    return random.Random(5).random()


def test_bodies_that_reach_outside_are_told_what_to_use(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        for body, words in (
            (reads_clock, r"weft\.now"),
            (draws, r"weft\.random"),
            (opens, r"@weft\.step"),
            (goes_outside, r"@weft\.step"),
        ):
            with pytest.raises(Nondeterminism, match=words):
                await runtime.run(body)
        assert await runtime.run(allowed) == await runtime.run(allowed)

    drive(store, use)

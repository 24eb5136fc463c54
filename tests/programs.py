"""What several files of tests share: how a program is run on a store, and steps whose executions can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import weft
from weft.core.record import Outcome

ran: list[Any] = []
"""What `note` was given, in the order of its executions."""


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing ran before. For each file that imports it."""
    ran.clear()


def drive(place: str, use: Callable[[weft.Runtime], Awaitable[Any]], **options: Any) -> Any:
    """What `use` makes of a runtime on the store at `place`."""

    async def main() -> Any:
        async with weft.Runtime(place, **options) as runtime:
            return await use(runtime)

    return asyncio.run(main())


@weft.step
async def note(value: Any) -> Any:
    ran.append(value)
    return value


@weft.step
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def parked(runtime: weft.Runtime, id: str) -> None:
    """Wait until a run has left memory."""
    while id in runtime.active:
        await asyncio.sleep(0.02)
    assert (await runtime.row(id)).state == "waiting"


def outcome(record: Outcome) -> tuple[Any, ...]:
    """What replays alike."""
    return (record.effect, record.kind, record.name, record.args, record.value, record.ok)


async def outcomes(runtime: weft.Runtime, id: str) -> list[tuple[Any, ...]]:
    return [outcome(r) for r in await runtime.recovery.records(id) if isinstance(r, Outcome)]

"""What several files of tests share: how a program is run on a store, and steps whose executions can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.record import Outcome
from weft.store import Durability, Store, open_store
from weft.store.base import FINISHED, QUEUED, RUNNING, WAITING
from weft.store.postgres import PostgresOptions

ran: list[Any] = []
"""What `note` was given, in the order of its executions."""


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing ran before. For each file that imports it."""
    ran.clear()


def drive(place: str | Store, use: Callable[[weft.Runtime], Awaitable[Any]], **options: Any) -> Any:
    """What `use` makes of a runtime on this store."""

    async def main() -> Any:
        async with weft.Runtime(place, **options) as runtime:
            return await use(runtime)

    return asyncio.run(main())


def impatient(place: str, durability: Durability = "full") -> Store:
    """The store at `place`, for programs that die: on a server, who is silent for 0.9 s is taken for dead."""
    return open_store(place, durability, PostgresOptions(heartbeat=0.5, patience=1))


def until_dead(place: str) -> None:
    """Return when whoever executed something at `place` is known to be dead. A file knows it at once; on a server the
    lease of a process that is there no more is ended, as the others would end it in their time."""

    async def main() -> None:
        store = open_store(place)
        try:
            rows = await store.rows(states=(RUNNING, WAITING, QUEUED))
            for owner in {row.owner for row in rows if row.owner is not None}:
                if "://" in place and not _lives(int(owner.rpartition("-")[2])):
                    await _end_lease(place, owner)
                while await store.alive(owner):
                    await asyncio.sleep(0.02)
        finally:
            await store.close()

    asyncio.run(main())


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _end_lease(place: str, owner: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(place)
    try:
        for table, column in (("tickets", "owner"), ("waits", "process"), ("owners", "owner")):
            await connection.execute(f"DELETE FROM weft.{table} WHERE {column} = $1", owner)
    finally:
        await connection.close()


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
    while id in runtime.active or (row := await runtime.row(id)).state != "waiting":
        assert id in runtime.active or row.state not in FINISHED, f"it is {row.state}, and never left before"
        await asyncio.sleep(0.02)


def outcome(record: Outcome) -> tuple[Any, ...]:
    """What replays alike."""
    return (record.effect, record.kind, record.name, record.args, record.value, record.ok)


async def outcomes(runtime: weft.Runtime, id: str) -> list[tuple[Any, ...]]:
    return [outcome(r) for r in await runtime.recovery.records(id) if isinstance(r, Outcome)]

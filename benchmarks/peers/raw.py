"""What the machine itself can do: the limits that no runtime passes. Not a peer, but measured in the same run."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.peers import Order, Result, main

PAYLOAD = b"x" * 100
SECONDS = 0.5
"""How long each limit is measured."""


def per_second(act: Callable[[], object], items: int = 1) -> float:
    """How many items a second, when each call of `act` does `items` of them."""
    act()
    calls = 0
    start = perf_counter()
    while (now := perf_counter()) - start < SECONDS:
        act()
        calls += 1
    return calls * items / (now - start)


def sync(call: Callable[[int], None]) -> Callable[[Order], Result]:
    """Append 4 KB to a file and sync it."""

    def job(order: Order) -> Result:
        file = os.open(order.dir / "raw", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

        def append() -> None:
            os.write(file, b"x" * 4096)
            call(file)

        return {"rate": per_second(append)}

    return job


def commits(synchronous: str, rows: int) -> Callable[[Order], Result]:
    """Transactions of `rows` rows of 100 bytes in SQLite's WAL mode; the figure is rows."""

    def job(order: Order) -> Result:
        db = open_db(order.dir / "raw.db", synchronous)
        batch = [(PAYLOAD,)] * rows

        def commit() -> None:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO log (payload) VALUES (?)", batch)
            db.execute("COMMIT")

        return {"rate": per_second(commit, rows)}

    return job


def open_db(path: Path, synchronous: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, payload BLOB)")
    return db


async def nothing() -> None:
    pass


def awaits(order: Order) -> Result:
    async def many() -> None:
        for _ in range(1000):
            await nothing()

    async def run() -> Result:
        start = perf_counter()
        calls = 0
        while (now := perf_counter()) - start < SECONDS:
            await many()
            calls += 1000
        return {"rate": calls / (now - start)}

    return asyncio.run(run())


def tasks(order: Order) -> Result:
    async def run() -> Result:
        start = perf_counter()
        calls = 0
        while (now := perf_counter()) - start < SECONDS:
            await asyncio.gather(*(nothing() for _ in range(100)))
            calls += 100
        return {"rate": calls / (now - start)}

    return asyncio.run(run())


if __name__ == "__main__":
    main(
        {
            "fsync": sync(os.fsync),
            "fdatasync": sync(getattr(os, "fdatasync", os.fsync)),  # macOS has only fsync
            "commit-full": commits("FULL", 1),
            "commit-normal": commits("NORMAL", 1),
            "rows-full": commits("FULL", 100),
            "rows-normal": commits("NORMAL", 100),
            "await": awaits,
            "task": tasks,
        },
        "",
    )

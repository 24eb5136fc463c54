"""What the PostgreSQL server itself can do through asyncpg, over one connection: the limits that no runtime passes.

The job `journal` writes `count` rows like a journal's: as large, and to be found by process and number. Variants:
`rows` (1,000 a statement, each statement a transaction) and `copy` (COPY, 1,000 a transaction).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.peers import STRICT, Clock, Job, Order, Result, check, main

if TYPE_CHECKING:
    import asyncpg

PAYLOAD = b"x" * 100
SECONDS = 1.0
"""How long each limit is measured."""
BATCH = 1000
"""Rows of a statement in the job `journal`."""

LOG = "CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)"
JOURNAL = """CREATE TABLE journal (
    process text NOT NULL, number bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (process, number))"""

Act = Callable[["asyncpg.Connection"], Awaitable[object]]


def limit(act: Act, items: int = 1) -> Job:
    """How many items a second, when each call of `act` does `items` of them."""

    async def run(order: Order) -> Result:
        import asyncpg

        connection = await asyncpg.connect(order.url)
        await connection.execute(LOG)
        for _ in range(20):
            await act(connection)
        calls = 0
        start = perf_counter()
        while (now := perf_counter()) - start < SECONDS:
            await act(connection)
            calls += 1
        return {"rate": calls * items / (now - start)}

    return lambda order: asyncio.run(run(order))


def rows(count: int) -> Job:
    """Inserts of `count` rows, each a transaction."""
    batch = [PAYLOAD] * count
    query = "INSERT INTO log (payload) SELECT * FROM unnest($1::bytea[])"
    return limit(lambda connection: connection.execute(query, batch), count)


def copy(count: int) -> Job:
    """COPY of `count` rows, each a transaction."""
    batch = [(PAYLOAD,)] * count
    return limit(lambda connection: connection.copy_records_to_table("log", records=batch, columns=["payload"]), count)


def records(count: int) -> Iterator[tuple[list[str], list[int], list[bytes]]]:
    """The columns of `count` rows by batches of 1,000: as many processes take turns, each with a record of a step."""
    from benchmarks.peers.weft_store import PROCESSES, encoded

    for first in range(0, count, BATCH):
        numbers = [number // BATCH for number in range(first, min(first + BATCH, count))]
        yield PROCESSES[: len(numbers)], numbers, [encoded(number) for number in numbers]


async def journal(order: Order) -> Result:
    import asyncpg

    connection = await asyncpg.connect(order.url)
    await connection.execute(JOURNAL)
    query = "INSERT INTO journal SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])"
    batches = list(records(order.count))
    with Clock(order.count) as clock:
        for columns in batches:
            if order.variant == "copy":
                await connection.copy_records_to_table("journal", records=zip(*columns, strict=True))
            else:
                await connection.execute(query, *columns)
    check(await connection.fetchval("SELECT count(*) FROM journal"), order.count)
    size = await connection.fetchval("SELECT avg(length(record))::float8 FROM journal")
    return clock.result(STRICT, note=f"{size:.0f} bytes a record")


if __name__ == "__main__":
    main(
        {
            "commit": limit(lambda connection: connection.execute("INSERT INTO log (payload) VALUES ($1)", PAYLOAD)),
            "round-trip": limit(lambda connection: connection.fetchval("SELECT 1")),
            "rows-100": rows(100),
            "rows-1000": rows(1000),
            "copy": copy(10_000),
            "journal": lambda order: asyncio.run(journal(order)),
        },
        "asyncpg",
    )

"""Prefect: tasks whose results are kept in files and whose states are kept by its own local server on SQLite.

The server is the one Prefect starts by itself for a script (no extra process to set up). It writes with
synchronous=NORMAL (no fsync per commit), result files are not synced, and task states are sent in the background.
Most of a small flow's time is spent waiting for the server (about 2 s a flow; a server of its own did not change it).
"""

from __future__ import annotations

import asyncio
import os

from benchmarks.peers import STEPS, UNSYNCED, WARM_UP, Clock, Order, Result, check, common, main


async def measure(job: str, order: Order) -> Result:
    os.environ |= {
        "PREFECT_HOME": str(order.dir),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    }
    from prefect import flow, task

    @task
    async def step(value: int) -> int:
        return value + 1

    @flow
    async def sequential(count: int) -> int:
        total = 0
        for i in range(count):
            total += await step(i) - i  # equal inputs would be answered from the cache
        return total

    @flow
    async def fanout(count: int) -> int:
        done = await asyncio.gather(*(step(i) for i in range(count)))
        total: int = sum(done) - sum(range(count))
        return total

    run = fanout if job == "fanout" else sequential
    await run(WARM_UP)
    with Clock(order.count) as clock:
        if job == "workflows":
            done = await asyncio.gather(*(run(STEPS) for _ in range(order.count)))
        else:
            done = [await run(order.count)]
    check(sum(done), order.count * (STEPS if job == "workflows" else 1))
    return clock.result(UNSYNCED)


if __name__ == "__main__":
    main(common(measure), "prefect")

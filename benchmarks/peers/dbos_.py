"""DBOS Transact on SQLite or PostgreSQL: a step's outcome is committed before the next one starts.

Its SQLite connection keeps the defaults: a rollback journal (journal_mode=DELETE) with synchronous=FULL, so a
commit is four fsyncs. On PostgreSQL it has a pool of 20 connections, its default too.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.peers import STEPS, STRICT, WARM_UP, Clock, Order, Result, check, common, main


async def measure(job: str, order: Order) -> Result:
    from dbos import DBOS

    config: Any = {
        "name": "bench",
        "system_database_url": order.url or f"sqlite:///{order.dir / 'dbos.db'}",
        "log_level": "ERROR",
    }
    DBOS(config=config)

    @DBOS.step()
    async def step(value: int) -> int:
        return value + 1

    @DBOS.workflow()
    async def sequential(count: int) -> int:
        total = 0
        for _ in range(count):
            total = await step(total)
        return total

    @DBOS.workflow()
    async def fanout(count: int) -> int:
        return sum(await asyncio.gather(*(step(0) for _ in range(count))))

    DBOS.launch()
    run = fanout if job == "fanout" else sequential
    await run(WARM_UP)
    with Clock(order.count) as clock:
        if job == "workflows":
            handles = [await DBOS.start_workflow_async(run, STEPS) for _ in range(order.count)]
            done = await asyncio.gather(*(handle.get_result() for handle in handles))
        else:
            done = [await run(order.count)]
    check(sum(done), order.count * (STEPS if job == "workflows" else 1))
    return clock.result(STRICT)


if __name__ == "__main__":
    main(common(measure), "dbos")

"""LangGraph on its SQLite or PostgreSQL saver: the functional interface (tasks) and the graph interface (nodes).

Variants: `functional` and `graph` with the default durability ("async": a step's outcome is saved while the next one
runs), and `graph-sync` (saved before the next one starts; tasks of the functional interface are saved in the
background in every mode). The SQLite saver commits in WAL mode with synchronous=FULL: one fsync per task, two per
node. The PostgreSQL saver is made as its documentation does, by `from_conn_string`; it uses one connection at a time,
with a pool of them too.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

from benchmarks.peers import PIPELINED, STEPS, STRICT, WARM_UP, Clock, Order, Result, check, common, main

Run = Callable[[int, str], Awaitable[int]]
"""Do a job of `count` steps as the thread of that name, and return the sum of what the steps returned."""


class State(TypedDict):
    count: int
    done: Annotated[int, operator.add]


def functional(saver: Any, durability: Any) -> tuple[Run, Run]:
    from langgraph.func import entrypoint, task

    @task
    async def step(value: int) -> int:
        return value + 1

    @entrypoint(checkpointer=saver)
    async def sequential(count: int) -> int:
        total = 0
        for _ in range(count):
            total = await step(total)
        return total

    @entrypoint(checkpointer=saver)
    async def fanout(count: int) -> int:
        return sum(await asyncio.gather(*(step(0) for _ in range(count))))

    def runner(program: Any) -> Run:
        async def run(count: int, thread: str) -> int:
            config = {"configurable": {"thread_id": thread}}
            result: int = await program.ainvoke(count, config, durability=durability)
            return result

        return run

    return runner(sequential), runner(fanout)


def graph(saver: Any, durability: Any) -> tuple[Run, Run]:
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    async def step(state: State) -> dict[str, int]:
        return {"done": 1}

    async def ignore(state: State) -> dict[str, int]:
        return {}

    loop = StateGraph(State)
    loop.add_node("step", step)
    loop.add_edge(START, "step")
    loop.add_conditional_edges("step", lambda state: "step" if state["done"] < state["count"] else END, ["step", END])

    fan = StateGraph(State)
    fan.add_node("begin", ignore)
    fan.add_node("step", step)
    fan.add_edge(START, "begin")
    fan.add_conditional_edges("begin", lambda s: [Send("step", {"count": 0, "done": 0})] * s["count"], ["step"])

    def runner(built: Any) -> Run:
        program = built.compile(checkpointer=saver)

        async def run(count: int, thread: str) -> int:
            config = {"configurable": {"thread_id": thread}, "recursion_limit": count + 10}
            state = await program.ainvoke({"count": count, "done": 0}, config, durability=durability)
            return int(state["done"])

        return run

    return runner(loop), runner(fan)


@asynccontextmanager
async def opened(order: Order) -> AsyncIterator[Any]:
    """The saver."""
    if order.url:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with AsyncPostgresSaver.from_conn_string(order.url) as saver:
            await saver.setup()
            yield saver
    else:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(order.dir / "langgraph.db")) as saver:
            yield saver


async def measure(job: str, order: Order) -> Result:
    kind, _, sync = order.variant.partition("-")
    async with opened(order) as saver:
        make = graph if kind == "graph" else functional
        sequential, fanout = make(saver, "sync" if sync else "async")
        run = fanout if job == "fanout" else sequential
        await run(WARM_UP, "warm-up")
        with Clock(order.count) as clock:
            if job == "workflows":
                done = await asyncio.gather(*(run(STEPS, f"thread-{i}") for i in range(order.count)))
            else:
                done = [await run(order.count, "timed")]
        check(sum(done), order.count * (STEPS if job == "workflows" else 1))
    return clock.result(STRICT if sync else PIPELINED)


if __name__ == "__main__":
    main(common(measure), "langgraph")

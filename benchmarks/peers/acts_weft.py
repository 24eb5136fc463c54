"""Weft: an agent as a run of its own, journaled: each generation and each call is an effect on the disk."""

from __future__ import annotations

import os

import weft
from benchmarks.peers import Order, main
from benchmarks.peers.acting import KEY, TASK, Run, jobs, look_up
from weft.agent import Agent
from weft.tool import tool


async def opened(order: Order) -> Run:
    os.environ["OPENAI_API_KEY"] = KEY
    agent: Agent[str] = Agent(weft.model.open(order.url, "any"), name="acts", tools=[tool(effect="pure")(look_up)])
    runtime = weft.Runtime(str(order.dir / "journal.db"), policy=weft.Policy(base="all"))
    await runtime.__aenter__()

    async def run() -> str:
        return (await runtime.run(agent, TASK)).output

    return run


if __name__ == "__main__":
    main(jobs(opened), "weft")

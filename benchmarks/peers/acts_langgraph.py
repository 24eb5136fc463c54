"""LangGraph: its prebuilt agent on `langchain-openai`; variant `sqlite`: its steps kept in SQLite."""

from __future__ import annotations

from itertools import count
from typing import Any

import aiosqlite
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.prebuilt import create_react_agent

from benchmarks.peers import Order, main
from benchmarks.peers.acting import KEY, TASK, TURNS, Run, jobs, look_up


async def opened(order: Order) -> Run:
    model = ChatOpenAI(model="any", base_url=order.url, api_key=KEY, max_retries=0, timeout=600)
    saver: Any = None
    if order.variant == "sqlite":
        saver = AsyncSqliteSaver(await aiosqlite.connect(order.dir / "graph.db"))
    agent = create_react_agent(model, [tool(look_up)], checkpointer=saver)
    threads = count()

    async def run() -> str:
        config = {"recursion_limit": 2 * TURNS + 2, "configurable": {"thread_id": str(next(threads))}}
        state = await agent.ainvoke({"messages": [("user", TASK)]}, config)
        return state["messages"][-1].content

    return run


if __name__ == "__main__":
    main(jobs(opened), "langgraph")

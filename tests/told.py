"""A program with one of each that exports tell of: steps that fail, a tool, generations, an agent as a child."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import weft
from weft.agent.agent import Agent
from weft.core.content import ToolCall
from weft.model.message import Message
from weft.model.request import Reply, Usage
from weft.model.scripted import register
from weft.tool.declare import tool

REPLIES = [
    Reply(
        message=Message(
            "assistant", ["Let me look.", ToolCall(id="c1", name="told_search", arguments={"query": "Hamlet"})]
        ),
        finish="tool_call", usage=Usage(input=10, output=5, cache_read=3), model="demo-1", id="r1", money=0.25,
    ),
    Reply(message=Message("assistant", "Shakespeare"), usage=Usage(input=20, output=2), model="demo-1"),
]  # fmt: skip


@tool(effect="pure")
def told_search(query: str) -> str:
    """Search the archive."""
    return f"found {query}, call 555-0100"


@weft.step
async def told_add(a: int, b: int) -> int:
    return a + b


@weft.step
async def told_broken() -> None:
    raise ValueError("it <broke> & fell")


agent = Agent("script:told", name="told.agent", instructions="Be brief.", tools=[told_search])


@weft.workflow(name="told.main")
async def main(n: int) -> str:
    await weft.sleep(0.001)
    await asyncio.gather(*(told_add(k, 1) for k in range(n)))
    with contextlib.suppress(ValueError):
        await told_broken()
    return (await agent("Who wrote Hamlet?")).output


def run(place: str, n: int = 2, **options: Any) -> str:
    """A run of it; returns its id."""

    async def go() -> str:
        register("told", REPLIES)
        async with weft.Runtime(place) as runtime:
            found = await runtime.start(main.options(**options), n)
            await found.result()
            return found.id

    return asyncio.run(go())

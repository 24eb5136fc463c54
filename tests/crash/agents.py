"""The process that gets killed: two agents at work, one asked and one watched, or what an earlier one left of them.

    python -m tests.crash.agents STORE LOG

Their models are scripted: what they say follows from how many turns they have had. Each execution of a tool is a line
of LOG.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import weft
from weft.agent import Agent, Ended
from weft.model import Request, script
from weft.tool import ToolCall, tool

TURNS, WIDTH = 5, 3


@tool
async def work(name: str, seconds: float) -> str:
    """Work on something."""
    descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name}\n".encode())
    os.close(descriptor)
    await asyncio.sleep(seconds)
    return f"{name} is done"


async def decide(request: Request) -> Any:
    """What both models say."""
    turn = sum(message.role == "assistant" for message in request.messages)
    who = request.messages[0].text
    await asyncio.sleep(0.02)
    if turn == TURNS:
        return "; ".join(result.text for message in request.messages for result in message.results)
    calls = [(f"{who}-{turn}-{n}", 0.01 * (n + 1)) for n in range(WIDTH)]
    return [f"Turn {turn}.", *(ToolCall(id=name, name="work", arguments={"name": name, "seconds": pause})
                               for name, pause in calls)]  # fmt: skip


asked: Agent[str] = Agent(script(decide, name="crash"), name="crash.asked", instructions="asked", tools=[work])
watched: Agent[str] = Agent(script(decide, name="crash"), name="crash.watched", instructions="watched", tools=[work])
parent: Agent[str] = Agent(
    script(
        lambda request: (
            next((r.text for m in request.messages for r in m.results), None)
            or ToolCall(id="sub", name="ask_crash_asked", arguments={"prompt": "Go."})
        ),
        name="parent",
    ),
    name="crash.parent",
    tools=[asked.as_tool()],
)


@weft.workflow(name="crash.watch")
async def watch() -> str:
    async for event in watched.conversation().events("Go."):
        if isinstance(event, Ended):
            return str(event.answer.output)
    raise AssertionError("no answer")


async def main() -> None:
    async with weft.Runtime(sys.argv[1]) as runtime:
        await runtime.resume_all()
        one = await runtime.start(parent.options(key="parent"), "Go.")
        other = await runtime.start(watch.options(key="watch"))
        print("started", flush=True)
        print(json.dumps([(await one).output, await other]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

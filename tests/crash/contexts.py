"""The process that gets killed: an agent in the middle of a subtask, some of whose turns are left out already.

    python -m tests.crash.contexts STORE LOG

It kills itself in the call for "thing 9", when it makes that for the first time. Each call and each summary is a line
of LOG. At its end it prints what it recalled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import weft
from weft.agent import Agent, Context
from weft.model import Request, script
from weft.tool import ToolCall, tool

THINGS = 10


def note(line: str) -> None:
    with Path(sys.argv[2]).open("a") as file:
        file.write(f"{line}\n")


@tool(effect="idempotent")
def look(at: str) -> str:
    """Look at something."""
    if at == "thing 9" and not Path(f"{sys.argv[2]}.killed").exists():
        Path(f"{sys.argv[2]}.killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    note(at)
    return f"{at} is blue. " * 20


def decide(request: Request) -> Any:
    """It looks at one thing after the other: the newest call that it sees tells which is next."""
    if request.messages[0].text.startswith("Sum up"):
        note(f"summary {request.messages[-1].text[-300:]!r}")
        return "A summary."
    told = [result for message in request.messages for result in message.results]
    if not told:
        return ToolCall(id="b", name="begin_subtask", arguments={"goal": "Which colour is it?"})
    id = told[-1].id
    if told[-1].name == "recall":
        return told[-1].text
    if id == "b" and "finished" in told[-1].text:
        return ToolCall(id="r", name="recall", arguments={"id": "s1"})
    number = 0 if id == "b" else int(id) + 1
    if number == THINGS:
        return ToolCall(id="e", name="conclude", arguments={"conclusion": "Blue."})
    return ToolCall(id=f"{number}", name="look", arguments={"at": f"thing {number}"})


helper: Agent[str] = Agent(
    script(decide, name="contexts"),
    name="crash.contexts",
    tools=[look],
    context=Context(subtasks=True, tokens=1500),
)


async def main() -> None:
    async with weft.Runtime(sys.argv[1]) as runtime:
        print((await runtime.run(helper.options(key="it"), "Look at all things.")).output)


if __name__ == "__main__":
    asyncio.run(main())

"""An agent with a limit of five turns, which is stuck in the call of its third turn until it is started anew.

`python -m tests.crash.turns STORE LOG`: each generation that is really made is a line of LOG.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import weft
from weft.agent import Agent, Fixed
from weft.model import Request, script
from weft.tool import ToolCall, tool

place, log = sys.argv[1:]
again = Path(log).exists()


@tool(effect="pure")
async def look(at: int) -> str:
    if at == 3 and not again:
        print("stuck", flush=True)
        await asyncio.Event().wait()
    return f"There is {at}."


def model(request: Request) -> Any:
    turn = 1 + sum(message.role == "assistant" for message in request.messages)
    with Path(log).open("a") as file:
        print(turn, file=file)
    if request.tool_choice == "none":
        return "As far as I came."
    return ToolCall(id=f"c{turn}", name="look", arguments={"at": turn})


agent = Agent(script(model), name="counted", tools=[look], turns=Fixed(5))


async def main() -> None:
    async with weft.Runtime(place) as runtime:
        answer = await runtime.run(agent.options(key="counted", budget=weft.Budget(turns=5)), "Go.")
    told = [int(m.text[2]) for m in answer.messages if m.text.startswith("\n[")]
    print(json.dumps({"ended": answer.ended, "turns": answer.turns, "output": answer.output, "told": told}))


asyncio.run(main())

"""The process that gets killed while it works with long results, or what an earlier one left of it.

    python -m tests.crash.folding STORE PROMPTS [KILL [OTHERWISE]]

Its model is scripted, and each prompt that it is really shown is a line of PROMPTS. In turn KILL, from 1, the process
kills itself when the calls have come back. OTHERWISE: it folds in another way than the one before, as a later version
of Weft might.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import weft
from weft.agent import Agent, Context
from weft.model import Request, script
from weft.tool import ToolCall, tool

TURNS = 4


@tool(effect="pure")
async def build(part: str) -> str:
    """Build a part."""
    lines = [f"Compiling /src/{part}/file{one}.c ({one} of 40)" for one in range(40)]
    return "\n".join([*lines, f"error: /src/{part}/main.c:7: no such file", f"exit status {len(part)}"])


def decide(request: Request) -> Any:
    """What the model says; what it was shown is written down."""
    turn = sum(message.role == "assistant" for message in request.messages) + 1
    texts = [result.text for message in request.messages for result in message.results]
    with Path(sys.argv[2]).open("a") as file:
        file.write(json.dumps([turn, texts]) + "\n")
    if len(sys.argv) > 3 and turn == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    if turn > TURNS:
        return texts[-1]
    return [ToolCall(id=f"{turn}{one}", name="build", arguments={"part": one * turn}) for one in "ab"]


agent: Agent[str] = Agent(
    script(decide, name="folding"), name="crash.folding", tools=[build], context=Context(folded=("build",))
)


async def main() -> None:
    if len(sys.argv) > 4:
        from weft.core.lines import Folder

        folds = Folder.fold
        Folder.fold = lambda self, text: f"otherwise\n{folds(self, text)}"  # type: ignore[method-assign]
    async with weft.Runtime(sys.argv[1]) as runtime:
        await runtime.resume_all()
        run = await runtime.start(agent.options(key="folding"), "Go.")
        print((await run).output, flush=True)


if __name__ == "__main__":
    asyncio.run(main())

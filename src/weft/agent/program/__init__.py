"""Programs that models write: checked against the tools that they call, run in the embedded Python, durable as a body.

Agent(model, tools=[RunProgram(search, fetch)])                     # the model writes it
done = await perform(text, Toolset(search, fetch))                  # in a body: somebody else wrote it
"""

from __future__ import annotations

from weft.agent.program.course import Granted, Performed, perform
from weft.agent.program.limits import Limits, ProgramFailed
from weft.agent.program.tool import RunProgram

__all__ = ["Granted", "Limits", "Performed", "ProgramFailed", "RunProgram", "perform"]

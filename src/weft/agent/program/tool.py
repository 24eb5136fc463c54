"""The tool by which a model runs a program that it wrote: one turn for what would take many calls.

    agent = Agent("anthropic:claude-sonnet-5", tools=[search, RunProgram(search, fetch, helper.as_tool())])

The model is shown what the granted tools look like as Python functions; a program that does not fit them comes back to
it, with the line and what is wrong there, before anything runs.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import cached_property
from typing import Any

from weft.agent.program.course import Granted, Performed, perform
from weft.agent.program.limits import Limits, ProgramFailed
from weft.core.boundary import require
from weft.core.content import ToolCall, ToolResult, ToolSpec
from weft.core.errors import OURS, BadInput, SandboxMissing
from weft.runtime.guard import exempt
from weft.tool.answering import approved, failed
from weft.tool.context import Report
from weft.tool.declare import Tool
from weft.tool.result import json_of, parts_of
from weft.tool.toolset import Toolset

ABOUT = """\
Run a Python program that calls these functions. It is the way to make many calls at once, or one after the other \
without looking at each result: only what it prints, and the value of its last expression, comes back.

Calls are awaited: `page = await fetch(url)`; several run at once with \
`await asyncio.gather(*[fetch(url) for url in urls])`. A call that fails raises RuntimeError. The text is checked \
against the declarations below before it runs.

It is a part of Python: functions, `async def`, comprehensions, dataclasses, try, match; the modules asyncio (gather, \
sleep, run), json, re, math, random, datetime, time, collections, itertools, functools. There are no other modules, no \
files, no network, no generators, no inheritance, no `async with`.

```python
{declarations}```"""
_TAKEN = ("name", "description", "approval", "before", "after", "limit")


async def run_program(program: str) -> Any:
    """Run a program.

    Args:
        program: The whole text of the program.
    """


class RunProgram(Tool[[str], Any]):
    """Give it among an agent's tools: ``RunProgram(search, fetch)``. A program may call these tools and no others, with
    the rights and the budget of the agent's process; an agent is called as the function that `agent.as_tool()` makes.

    `limits`: how far a program may go. `settings`: `name`, `description` (in place of what is said to the model; the
    declarations come after it), `approval` (a person sees each program first), `before` and `after` (hooks, which see
    the program and what comes of it), `limit`."""

    def __init__(self, *tools: Tool[..., Any] | Toolset, limits: Limits | None = None, **settings: Any) -> None:
        if unknown := settings.keys() - {*_TAKEN}:
            raise BadInput(f"RunProgram({sorted(unknown)[0]}=...): it takes {', '.join(_TAKEN)}, and limits")
        super().__init__(run_program, **settings)
        if not len(Toolset(*tools)):
            raise BadInput("RunProgram() was given no tool that a program could call")
        self.tools = tools
        self.bounds = limits or Limits()

    @cached_property
    def granted(self) -> Granted:
        """The tools as programs see them."""
        with exempt():
            return Granted(*self.tools)

    @cached_property
    def spec(self) -> ToolSpec:
        about = ABOUT if self.description is None else f"{self.description}\n\n```python\n{{declarations}}```"
        return ToolSpec(self.shown, about.replace("{declarations}", self.granted.text), self.parameters.schema)

    def options(self, **changes: Any) -> RunProgram:
        given = {name: self.given[name] for name in _TAKEN}
        made = type(self)(*self.tools, limits=changes.pop("limits", self.bounds), **{**given, **changes})
        made.shown = self.shown if "name" not in changes else made.name
        return made

    def __call__(self, program: str) -> Coroutine[Any, Any, Any]:
        """In a body: run a program, and return its value. Raises ProgramFailed."""
        require(f"the tool {self.name}")
        return self._value(program)

    async def _value(self, program: str) -> Any:
        await approved(self, (program,), {})
        return (await perform(program, self.granted, limits=self.bounds)).value

    async def work(self, call: ToolCall, deps: Any, report: Report | None, where: str) -> ToolResult:
        require(f"the tool {self.name}, which calls others,")
        try:
            arguments = self.parameters.read(call.arguments)
            await approved(self, (), arguments)
            done = await perform(
                arguments["program"], self.granted, limits=self.bounds, deps=deps, report=report, id=call.id
            )
        except ProgramFailed as failure:
            return ToolResult(id=call.id, name=call.name, response=parts_of(str(failure), self.limit), error=True)
        except (*OURS, SandboxMissing):
            raise
        except Exception as error:
            return failed(call, error)
        return ToolResult(id=call.id, name=call.name, response=parts_of(_told(done), self.limit))


def _told(done: Performed) -> str:
    """What the model sees of it."""
    value = done.value if isinstance(done.value, str) else json_of(done.value)
    if done.value is None:
        return done.printed or "[it ended well, printed nothing, and its last expression is None]"
    return f"{done.printed.rstrip()}\n\n{value}" if done.printed.strip() else value

"""The course of a program in a process: slices of its own work, and between them the calls that it makes.

    done = await perform(text, Toolset(search, fetch))
    print(done.value, done.printed)

It is plain code of the body that it runs in. Each slice is an effect, and so is each call, as if the model had made it:
hooks, approvals, rights, budget and order are the tool's. Calls that the program makes before it waits run beside each
other. What is journaled is enough to go on from, so a program outlives its process, and waits for a person for days.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

from weft.agent.program.limits import Limits, ProgramFailed
from weft.agent.program.plain import value_of
from weft.agent.program.slice import SLEEP, Called, Outcome, Slice, Spent, Text, begin, go_on
from weft.agent.program.stub import Declarations, Declared
from weft.agent.program.telling import NAME
from weft.core.boundary import place, require
from weft.core.content import ToolCall
from weft.core.errors import BadInput
from weft.runtime.effects import random, sleep
from weft.tool.context import Report
from weft.tool.declare import Tool
from weft.tool.toolset import Toolset

_MAIN = re.compile(r"^async def main\s*\(", re.M)
_STARTED = re.compile(r"^if __name__\b|^(?![\s#]|async def ).*\bmain\s*\(", re.M)


class Performed(NamedTuple):
    """What came of a program. `value`: of its last expression, or what its `main` returned, in JSON types; `printed`:
    what it printed; `calls`: how many it made."""

    value: Any
    printed: str
    calls: int


class Granted:
    """The tools of programs, as they see them. `text`: their declarations."""

    def __init__(self, *tools: Tool[..., Any] | Toolset) -> None:
        self.tools = Toolset(*tools)
        self.declarations = Declarations(self.tools)
        self.text = self.declarations.text


async def perform(
    text: str, tools: Granted | Toolset, *, inputs: dict[str, Any] | None = None, limits: Limits | None = None,
    deps: Any = None, report: Report | None = None, id: str = "program",
) -> Performed:  # fmt: skip
    """Run a program that calls these tools. Its text is a body: what stands at the top level runs, `await` too; if it
    defines `async def main`, that is called with `inputs`, which it otherwise finds as a dict of this name. `id`: what
    the ids of its calls begin with.

    Raises ProgramFailed, whose message is for the program's author; BudgetExceeded and whatever else ends a call of a
    tool for good; BadInput for a text that is none."""
    granted = tools if isinstance(tools, Granted) else Granted(tools)
    return await Course(text, granted, inputs, limits or Limits(), deps, report, id, place()).run()


class Course:
    """One program under way."""

    def __init__(
        self, text: str, granted: Granted, inputs: dict[str, Any] | None, limits: Limits, deps: Any,
        report: Report | None, id: str, where: str,
    ) -> None:  # fmt: skip
        self.process = require("a program")
        self.declared = granted.declarations.tools
        self.text = Text(_started(text, inputs, limits), tuple(self.declared), granted.text, limits, inputs)
        self.deps, self.report, self.id, self.where = deps, report, id, where
        self.slots = asyncio.Semaphore(limits.at_once)
        self.under_way: dict[asyncio.Task[Outcome], Called] = {}
        self.lanes: dict[str, asyncio.Task[Outcome]] = {}
        """The last call of each lane: those of one wait for each other."""
        self.printed: list[str] = []
        self.dropped = 0
        self.spent = Spent()

    async def run(self) -> Performed:
        """See `perform`."""
        try:
            slice = await self._slice(begin(self.text, random(), self._now()))
            while not slice.ended:
                outcomes = await self._first_outcomes()
                slice = await self._slice(go_on(self.text, slice, outcomes, self._now(), self.spent))
        finally:
            left = await self._given_up()
        return self._performed(slice, left)

    async def _slice(self, step: Any) -> Slice:
        """Carry one out, and begin the calls that it makes."""
        one, args = step
        slice: Slice = await self.process.step(one, args, {}, self.where)
        self.printed.append(slice.printed)
        self.dropped += slice.dropped
        calls, printed, kept = self.spent
        self.spent = Spent(calls + len(slice.calls), printed + len(slice.printed), kept + len(slice.state))
        if not slice.ended:
            for called in slice.calls:
                self._begin(called)
        return slice

    def _begin(self, called: Called) -> None:
        tool = self.declared.get(called.name)
        lane = tool.tool.lane if tool is not None else None
        task = asyncio.create_task(self._outcome(called, tool, self.lanes.get(lane) if lane is not None else None))
        self.under_way[task] = called
        if lane is not None:
            self.lanes[lane] = task

    async def _first_outcomes(self) -> dict[int, Outcome]:
        """What came of the calls that end first."""
        if not self.under_way:
            raise ProgramFailed("the program waits for what never comes: it awaits none of the calls that it made")
        done, _ = await asyncio.wait(self.under_way, return_when=asyncio.FIRST_COMPLETED)
        over = [task for task in self.under_way if task in done]
        return {self.under_way.pop(task).id: task.result() for task in over}

    async def _given_up(self) -> list[Called]:
        """End the calls that nobody waits for any more."""
        tasks, self.under_way = self.under_way, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [*tasks.values()]

    # --- calls ----------------------------------------------------------------------------------------------------

    async def _outcome(
        self, called: Called, declared: Declared | None, before: asyncio.Task[Outcome] | None
    ) -> Outcome:
        if before is not None:
            await asyncio.wait([before])
        if called.name == SLEEP:
            return await self._slept(called)
        assert declared is not None
        try:
            arguments = _by_name(declared, called)
        except TypeError as error:
            return "error", str(error)
        async with self.slots:
            return await self._call(declared, called, arguments)

    async def _call(self, declared: Declared, called: Called, arguments: dict[str, Any]) -> Outcome:
        tool = declared.tool
        call = ToolCall(id=f"{self.id}.{called.id}", name=tool.shown, arguments=arguments)
        result = await tool.answer(call, self.deps, self.report, f"{NAME}:{called.line}")
        if result.error:
            return "error", result.text
        return "value", value_of(result, declared.form)

    async def _slept(self, called: Called) -> Outcome:
        seconds, most = called.args[0], self.text.limits.sleep
        if not seconds <= most:
            return "error", f"asyncio.sleep({seconds:g}): a program sleeps for {most:g} seconds at most"
        await sleep(seconds)
        return "value", None

    def _now(self) -> float:
        """What the program's clock shows: when the last outcome came that the body has seen."""
        return asyncio.get_running_loop().time()

    # --- its end --------------------------------------------------------------------------------------------------

    def _performed(self, slice: Slice, left: list[Called]) -> Performed:
        printed = "".join(self.printed)
        if self.dropped:
            printed += f"\n[... {self.dropped:,} characters more were printed]\n"
        note = _of_left([*left, *slice.calls])
        if slice.ended != "done":
            raise ProgramFailed(
                "\n".join([slice.told, *([f"It had printed:\n{printed}"] if printed else []), note]).strip()
            )
        return Performed(slice.value, f"{printed}{note}", self.spent.calls)


def _of_left(left: list[Called]) -> str:
    """A word on calls that the program made, and did not wait for."""
    if not left:
        return ""
    where = ", ".join(dict.fromkeys(f"{one.name} in line {one.line}" for one in left[:10]))
    return f"[{len(left)} calls were not waited for, and were given up or never begun: {where}]\n"


def _by_name(declared: Declared, called: Called) -> dict[str, Any]:
    """Its arguments by name. Raises TypeError."""
    if len(called.args) > len(declared.parameters):
        raise TypeError(f"{declared.name}() takes {len(declared.parameters)} arguments by position, not more")
    arguments = dict(zip(declared.parameters, called.args, strict=False))
    if twice := arguments.keys() & called.kwargs.keys():
        raise TypeError(f"{declared.name}() was given {sorted(twice)[0]} twice")
    return {**arguments, **called.kwargs}


def _started(text: Any, inputs: dict[str, Any] | None, limits: Limits) -> str:
    """Its text, in which `main` is called, if it has one and does not do so itself. Raises BadInput."""
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"a program is a text of Python, not {text!r:.60}")
    if len(text) > limits.length:
        raise BadInput(f"the program has {len(text):,} characters: at most {limits.length:,}")
    if "\0" in text:
        raise BadInput("the program has a NUL character in it")
    program: str = text
    if _MAIN.search(program) and not _STARTED.search(program):
        program = f"{program.rstrip()}\n\nawait main({'**inputs' if inputs else ''})\n"
    return program

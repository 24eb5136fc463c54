"""Calls that outlast the turn in which they were asked for: each has a handle, and its result comes when it comes.

    h1  search     running since 12:00:03
    h2  summarise  waits for h1                 its argument is {"$result": "h1.items"}

Such a call is a task of the body, so it is journaled, replayed and recovered as any call is. The model gets the handle
at once and goes on; what has come is told in one message before its next turn, which only adds to the prompt and so
keeps the provider's cache of it. A call is made when what it needs is there: results that it refers to, and the calls
before it in its lane. What uses a result before that was told is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from weft.agent import latency
from weft.agent.controls import CONTROLS, control
from weft.agent.premature import premature
from weft.agent.reference import references, resolved
from weft.core.content import Content, Text, ToolCall, ToolResult
from weft.core.errors import BadInput, BudgetExceeded
from weft.model.message import Message
from weft.tool.declare import Tool
from weft.tool.parameters import Misfit, as_object

if TYPE_CHECKING:
    from weft.agent.agent import Agent

MOST = 64
"""Calls that may be under way at once; more are refused, in words."""


class Handle:
    """One call. `id` is empty for one whose result is waited for in its own turn."""

    def __init__(self, call: ToolCall, tool: Tool[..., Any] | None) -> None:
        self.id = ""
        self.call = call
        self.name = call.name
        self.tool = tool
        self.since = self.began = self.over = now()
        """When it was asked for, made, and ended."""
        self.needs: tuple[Handle, ...] = ()
        self.task: asyncio.Task[None] | None = None
        self.result: ToolResult | None = None
        self.warned = False
        """The model was told that handing in cancels it."""

    @property
    def state(self) -> str:
        """What it is doing, for the model."""
        if self.result is not None:
            return "failed" if self.result.error else "done"
        waits = [one.id for one in self.needs if one.result is None]
        return f"waits for {both(waits)}" if waits else "running"

    def end(self, text: str) -> None:
        """It comes to nothing."""
        self.over = now()
        self.result = ToolResult.of(self.call.id, text, name=self.name, error=True)

    def __repr__(self) -> str:
        return f"<handle {self.id or self.call.id} of {self.name}: {self.state}>"


class Handles:
    """Those of one conversation."""

    def __init__(self) -> None:
        self.known: dict[str, Handle] = {}
        """All that have an id."""
        self.open: list[Handle] = []
        """Those whose result was not told yet."""
        self.told: list[ToolResult] = []
        self._usual: dict[str, float] | None = None
        """Seconds that calls of a tool take, by past runs and the last call here; None: nobody has looked yet."""
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._warn: list[Handle] = []
        self._returned: list[ToolResult] = []
        self._ours: list[Message] = []

    # --- starting ---------------------------------------------------------------------------------------------------

    async def carry_out(
        self, calls: Sequence[ToolCall], agent: Agent[Any], said: Sequence[Message], spoken: asyncio.Future[Any]
    ) -> list[ToolResult]:
        """What one answer's calls come to now, in their order: results, and handles of those that take long. `said`:
        the conversation; `spoken`: somebody has said something, which ends any wait. Raises what ends a call for
        good."""
        if agent.asynchronous == "likely" and self._usual is None:
            self._usual = await latency.usual([tool.name for tool in agent.tools])
        begun = [None if call.name in CONTROLS else self._begin(call, agent, said) for call in calls]
        await asyncio.sleep(0)  # what is refused at once is over now
        await self._until_over([one for one in begun if one is not None and not one.id], spoken)
        return [
            self._answer(one) if one is not None else await control(self, call, spoken)
            for call, one in zip(calls, begun, strict=True)
        ]

    async def _until_over(self, waited: Sequence[Handle], spoken: asyncio.Future[Any]) -> None:
        """Wait for calls without a handle. When somebody speaks meanwhile, those that are not over get one, and go on.
        Raises what ends one for good."""
        tasks = [one.task for one in waited if one.task is not None]
        if tasks:
            work = asyncio.create_task(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
            await asyncio.wait({work, spoken}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
        for one in waited:
            if one.task is not None and one.task.done():
                one.task.result()
            elif one.result is None:
                self._name(one)

    def _name(self, one: Handle) -> None:
        one.id = f"h{len(self.known) + 1}"
        self.known[one.id] = one

    def _begin(self, call: ToolCall, agent: Agent[Any], said: Sequence[Message]) -> Handle:
        """A call is asked for."""
        tool = agent.tools.tools.get(call.name)
        one = Handle(_read(call, tool), tool)
        busy = sum(other.result is None for other in self.open)
        refusal = f"{busy} calls are under way, and no more can be: wait for some of them" if busy >= MOST else ""
        try:
            one.needs = self._needed(one.call)
        except BadInput as error:
            refusal = str(error)
        if self._slow(tool, agent) or any(need.result is None for need in one.needs):
            self._name(one)
        refusal = refusal or premature(one, self.open, self._words(said))
        self.open.append(one)
        if refusal:
            one.end(refusal)
            return one
        lane = None if tool is None else tool.lane
        before = None if lane is None else self._lanes.get(lane)
        one.task = asyncio.create_task(self._run(one, before, agent))
        if lane is not None:
            self._lanes[lane] = one.task
        return one

    def _slow(self, tool: Tool[..., Any] | None, agent: Agent[Any]) -> bool:
        """Whether calls of it get a handle."""
        if tool is None or tool.slow is not None:
            return tool is not None and bool(tool.slow)
        if agent.asynchronous == "likely":
            seconds = (self._usual or {}).get(tool.name)
            return seconds is not None and seconds >= latency.SLOW
        return agent.asynchronous

    def _needed(self, call: ToolCall) -> tuple[Handle, ...]:
        """The calls that this one refers to. Raises BadInput for what it can't."""
        ids = dict.fromkeys(one.handle for one in references(call.arguments))
        for id in ids:
            if id not in self.known:
                raise BadInput(f"there is no handle {id}; {self.listed()}")
        return tuple(self.known[id] for id in ids)

    def listed(self) -> str:
        """Which handles there are."""
        return f"the last one is h{len(self.known)}" if self.known else "no call has one yet"

    def _words(self, said: Sequence[Message]) -> Iterator[str]:
        """What the model was told, by people and by tools. An error repeats what was wrong: it tells nothing."""
        yield from (result.text for result in self.told if not result.error)
        for message in said:
            if message.role == "user" and not any(message is one for one in self._ours):
                yield message.text
            yield from (one.text for one in message.results if not one.error and one.name not in CONTROLS)

    async def _run(self, one: Handle, before: asyncio.Task[None] | None, agent: Agent[Any]) -> None:
        """Make the call when what it needs is there."""
        tasks = [need.task for need in one.needs if need.task is not None and need.result is None]
        for task in [*tasks, before] if before is not None else tasks:
            await asyncio.wait([task])
        one.began = now()
        failed = next((need.id for need in one.needs if need.result is None or need.result.error), None)
        if failed is not None:
            one.end(f"this call was not made: {failed}, which it needs, came to nothing")
            return
        try:
            call = self._filled(one)
        except BadInput as error:
            one.end(str(error))
            return
        try:
            result = await agent.tools.call(call, deps=agent.deps)
        except BudgetExceeded as error:
            one.end(f"not done, or not to its end: {error}")
            return
        one.result, one.over = result, now()

    def _filled(self, one: Handle) -> ToolCall:
        """The call with what its references stand for."""
        if not one.needs or one.tool is None or isinstance(one.call.arguments, str):
            return one.call
        texts = {need.id: need.result.text for need in one.needs if need.result is not None}
        return msgspec.structs.replace(one.call, arguments=resolved(one.call.arguments, one.tool.spec.schema, texts))

    # --- telling ----------------------------------------------------------------------------------------------------

    def _answer(self, one: Handle) -> ToolResult:
        """What the model is told in the turn in which it called."""
        if one.result is not None:
            self._tell(one)
            return one.result
        state = "" if one.state == "running" else f" ({one.state})"
        text = f"{one.id}: under way{state}. You will be told what comes of it: go on with other work, or wait for it."
        return ToolResult.of(one.call.id, text, name=one.name)

    def _tell(self, one: Handle) -> None:
        """Its result is told now."""
        self.open.remove(one)
        assert one.result is not None
        self.told.append(one.result)
        if self._usual is not None and one.tool is not None:
            self._usual[one.tool.name] = one.over - one.began

    def come(self) -> list[Handle]:
        """Those that are over and were not told, in the order in which they ended. Raises what ended one for good."""
        mine = [one for one in self.open if one.id]
        for one in mine:
            if one.result is None and one.task is not None and one.task.done():
                one.task.result()
        return sorted((one for one in mine if one.result is not None), key=lambda one: one.over)

    def of(self, result: ToolResult) -> str:
        """The id of the handle that it is the result of."""
        return next((id for id, one in self.known.items() if one.result is result), result.id)

    def under_way(self) -> list[Handle]:
        """Those that are not over, in the order in which they were asked for."""
        return [one for one in self.open if one.id and one.result is None]

    def news(self) -> tuple[Message | None, list[ToolResult]]:
        """What came since the last time, as a message for the model; and all that it was told since. Raises what ended
        a call for good."""
        come = self.come()
        warn, self._warn = [one.id for one in self._warn if one.result is None], []
        parts = [*self.parts(come)] if come or warn else []
        if warn:
            text = "\nHanding in cancels what is under way: wait for what you need, or hand in again."
            parts.append(Text(content=text))
        returned, self._returned = self._returned, []
        if not parts:
            return None, returned
        self._ours.append(Message("user", tuple(parts)))
        return self._ours[-1], returned

    def parts(self, come: Iterable[Handle]) -> Iterator[Content]:
        """Each of these results under a line that says whose it is and when it came; then what is under way. They are
        told by that."""
        for one in come:
            self._tell(one)
            assert one.result is not None
            self._returned.append(one.result)
            after = f"{one.over - one.since:.1f} s after the call"
            yield Text(content=f"[{one.id}] {one.name}: {one.state} at {_clock(one.over)}, {after}.\n")
            yield from one.result.response
            yield Text(content="\n\n")
        each = [f"{one.id} ({one.name}, {one.state}, since {_clock(one.since)})" for one in self.under_way()]
        yield Text(content=f"Under way: {', '.join(each)}." if each else "Nothing else is under way.")

    # --- ending -----------------------------------------------------------------------------------------------------

    def hold(self) -> bool:
        """The model hands in: whether it is told something first, of results that have come and of calls that this
        would cancel. It is told of each once."""
        self._warn = [one for one in self.under_way() if not one.warned]
        for one in self._warn:
            one.warned = True
        return bool(self._warn or self.come())

    def cancel(self, one: Handle) -> None:
        """Give a call up; what it has done by now is done."""
        if one.task is not None:
            one.task.cancel()
        one.end("cancelled")
        self._tell(one)

    async def close(self) -> None:
        """Give up all that is under way."""
        tasks = [one.task for one in self.open if one.task is not None]
        for task in tasks:
            task.cancel()
        self.open.clear()
        await asyncio.gather(*tasks, return_exceptions=True)


def now() -> float:
    """The body's clock, which the journal keeps: seconds since the epoch."""
    return asyncio.get_running_loop().time()


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def both(ids: Sequence[str]) -> str:
    """Ids in words."""
    return ", ".join(ids[:-1]) + " and " * (len(ids) > 1) + ids[-1]


def _read(call: ToolCall, tool: Tool[..., Any] | None) -> ToolCall:
    """With its arguments as an object, where they are one; what they are not, the tool tells."""
    if tool is None or not isinstance(call.arguments, str):
        return call
    try:
        return msgspec.structs.replace(call, arguments=as_object(call.arguments, tool.spec.schema))
    except Misfit:
        return call

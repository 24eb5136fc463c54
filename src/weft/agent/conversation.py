"""The loop: ask the model, carry out the calls that it makes, tell it what came of them, until it hands in.

    talk = agent.conversation()
    answer = await talk.say("Find the cheapest.")
    async for event in talk.events("And the fastest?"): ...

All of it is plain code of the body that it runs in; each generation and call is an effect. Whoever sends the process a
letter (`weft send RUN agent.said '"Stop, look at this first."'`, or `Run.send`) is heard at once: a generation under
way is left (what was read of a stream is kept), calls under way are given up, and the model goes on from what was said.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from weft.agent.answer import Answer, Ending
from weft.agent.context.compaction import fitted
from weft.agent.context.subtasks import control, follow
from weft.agent.context.window import Window
from weft.agent.event import AgentEvent, Compacted, Ended, Heard, Modelled, Returned, TurnStarted
from weft.agent.guard import Tripped, guarded_input, guarded_output
from weft.agent.handles import Handles
from weft.core.content import ToolCall, ToolResult
from weft.core.errors import AnswerMisfit
from weft.model.answer import parse
from weft.model.event import Finished, Restarted, TextDelta
from weft.model.message import Message, conversation
from weft.model.provider import request_of
from weft.model.request import Reply, Request, Usage
from weft.model.stream import Stream
from weft.runtime.effects import Mailbox

if TYPE_CHECKING:
    from weft.agent.agent import Agent, Prompt

T = TypeVar("T", default=str)

said: Mailbox[str] = Mailbox("agent.said", str)
"""Words to an agent that is at work."""
LAST = (
    "This is your last turn: no tool can be called any more. Hand in the best answer that you can give from what you "
    "have, and say what is missing."
)

MOST = 64
"""Calls of one reply that are carried out."""
TOO_MANY = f"not done: of one reply only the first {MOST} calls are carried out; ask again for what you still need"


class Conversation(Generic[T]):
    """One conversation with an agent. `messages`: all that was said; `window`: what of it the model is shown. One thing
    is said at a time."""

    def __init__(self, agent: Agent[T], history: Sequence[Message] = ()) -> None:
        self.agent: Agent[Any] = agent
        self.messages: list[Message] = [m for m in history if m.role != "system"]
        self.turns = 0
        self.usage = Usage()
        self.money: float | None = 0.0
        self.handles = Handles()
        self.window = Window()
        self._system: list[Message] = []
        self._instructed: Agent[Any] | None = None
        self._letter: asyncio.Task[str] | None = None
        if agent.context.subtasks:
            follow(self.window, self.messages)

    async def say(self, prompt: Prompt) -> Answer[T]:
        """Say something, and wait for what is handed in. Raises what a generation or a tool raises that the model can't
        be told: BudgetExceeded, ModelError, Tripped."""
        async with aclosing(self._events(prompt, watched=False)) as events:
            async for event in events:
                if isinstance(event, Ended):
                    return event.answer
        raise AssertionError("an agent ends with an answer")

    def events(self, prompt: Prompt) -> AsyncGenerator[AgentEvent]:
        """The same, event by event, generations word by word; the last one is `Ended`."""
        return self._events(prompt, watched=True)

    async def _events(self, prompt: Prompt, watched: bool) -> AsyncGenerator[AgentEvent]:
        self.messages += await guarded_input(self.agent.guards, conversation(prompt))
        try:
            async with aclosing(self._turns(watched)) as events:
                async for event in events:
                    yield event
        finally:
            await self.handles.close()
            await self._stop_listening()

    async def _turns(self, watched: bool) -> AsyncGenerator[AgentEvent]:
        number, mends = 0, self.agent.mends
        while True:
            if self._spoken():
                yield await self._heard()
            number += 1
            left = None if self.agent.turns is None else self.agent.turns - number
            self.turns += 1
            yield TurnStarted(number, self.agent.name, left)
            for result in self._come():
                yield Returned(result)
            reply: Reply | None = None
            last = left == 0
            await self._instruct()
            async with aclosing(self._streamed(last) if watched else self._asked(last)) as events:
                async for event in events:
                    if isinstance(event, Reply):
                        reply = event
                    else:
                        yield event
            if reply is None:  # somebody said something: that was no turn
                number -= 1
                continue
            self._count(reply)
            self.messages.append(reply.message)
            calls = [call for call in reply.calls if left != 0]
            if calls:
                for result in await self._carried_out(calls):
                    yield Returned(result)
                continue
            if left != 0 and not reply.refusal and self._held():
                continue
            try:
                output = await self._output(reply)
            except (AnswerMisfit, Tripped) as misfit:
                told = misfit.told if isinstance(misfit, Tripped) else str(misfit)
                if mends < 1 or left == 0 or not told or reply.finish == "length":
                    raise
                mends -= 1
                self._note(Message("user", f"That can't be handed in: {told}"))
                continue
            if self._spoken() and left != 0:
                continue
            yield Ended(self._answer(output, "refused" if reply.refusal else "limit" if left == 0 else "done"))
            return

    # --- the model --------------------------------------------------------------------------------------------------

    def _request(self, last: bool) -> Request:
        """What the model is asked in this turn."""
        agent = self.agent
        settings: dict[str, Any] = {**agent.settings}
        messages = [*self._system, *self.window.shown(self.messages)]
        tools = (*agent.specs, *agent.context.tools(self.window).specs)
        if last and tools:
            messages.append(Message("user", LAST))
            settings["tool_choice"] = "none"
        schema = None if agent.output is str else agent.output
        return request_of(messages, schema=schema, tools=tools, **settings)

    async def _asked(self, last: bool) -> AsyncGenerator[AgentEvent | Reply]:
        """The reply to it; or what somebody said meanwhile."""
        asked = asyncio.create_task(fitted(self, partial(self._request, last)))
        if await self._first(asked):
            for event in self._compacted():
                yield event
            yield asked.result()
        else:
            yield await self._heard()

    async def _streamed(self, last: bool) -> AsyncGenerator[AgentEvent | Reply]:
        """The same, event by event."""
        words: list[str] = []
        request = partial(self._request, last)
        async with Stream(lambda key: fitted(self, request, key), lambda reply: reply) as stream:
            events = aiter(stream)
            try:
                while await self._first(following := asyncio.ensure_future(anext(events))):
                    event = following.result()
                    for told in self._compacted():
                        yield told
                    if isinstance(event, Finished):
                        yield event.reply
                        return
                    if isinstance(event, TextDelta):
                        words.append(event.text)
                    if isinstance(event, Restarted):
                        words.clear()
                    yield Modelled(event)
            except (asyncio.CancelledError, GeneratorExit):  # who left has read them
                self._keep(words)
                raise
            self._keep(words)
            yield await self._heard()

    async def _first(self, work: asyncio.Future[Any]) -> bool:
        """Whether this ends before somebody says something; else it is given up."""
        try:
            await asyncio.wait({work, self._listening()}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _given_up(work)
            raise
        if not work.done():
            await _given_up(work)
            return False
        return True

    async def _instruct(self) -> None:
        """Make the instructions, once for each agent that speaks here: prompts keep their beginning."""
        if self._instructed is not self.agent:
            given = self.agent.instructions
            text = given() if callable(given) else given
            text = await text if inspect.isawaitable(text) else text
            self._instructed, self._system = self.agent, [Message("system", text)] if text else []

    async def ask_besides(self, request: Request) -> Reply:
        """Ask the model something that is no turn of the conversation. It counts."""
        reply = await self.agent.model.ask(request)
        self._count(reply)
        return reply

    def _compacted(self) -> list[Compacted]:
        """What was taken out of the prompt since the last time."""
        news, self.window.news = self.window.news, []
        return [Compacted(fold.id, fold.start, fold.end, fold.shown) for fold in news]

    def _count(self, reply: Reply) -> None:
        self.usage += reply.usage
        self.money = None if self.money is None or reply.money is None else self.money + reply.money

    # --- letters ----------------------------------------------------------------------------------------------------

    def _listening(self) -> asyncio.Task[str]:
        if self._letter is None:
            self._letter = asyncio.create_task(said.receive())
        return self._letter

    def _spoken(self) -> bool:
        """Whether a letter waits to be heard."""
        return self._letter is not None and self._letter.done()

    async def _heard(self) -> Heard:
        assert self._letter is not None
        letter, self._letter = self._letter, None
        message = Message("user", letter.result())
        self.messages += await guarded_input(self.agent.guards, [message])
        return Heard(message)

    def _keep(self, words: list[str]) -> None:
        """What the model had said when it was interrupted stays said."""
        if any(words):
            self.messages.append(Message("assistant", "".join(words)))

    async def _stop_listening(self) -> None:
        """A letter that came too late to be heard is heard when the next thing is said."""
        letter = self._letter
        if letter is not None and not letter.done():
            self._letter = None
            await _given_up(letter)

    # --- tools ------------------------------------------------------------------------------------------------------

    async def _carried_out(self, calls: list[ToolCall]) -> list[ToolResult]:
        """What the calls of one reply come to, in their order; the model is told."""
        mine = control(self.window, self.agent, calls, self.messages)
        others = await self._by_tools([call for at, call in enumerate(calls) if at not in mine])
        results = [mine[at] if at in mine else others.pop(0) for at in range(len(calls))]
        self.messages.append(Message("tool", tuple(results)))
        if self.agent.context.subtasks:
            follow(self.window, self.messages)
        return results

    async def _by_tools(self, calls: list[ToolCall]) -> list[ToolResult]:
        over = next((call for call in calls if call.name in self.agent.handoffs), None)
        if over is not None:
            results = [self._handed_over(call, over) for call in calls]
        elif self.agent.outlasts:
            results = await self.handles.carry_out(calls, self.agent, self.messages, self._listening())
        else:
            made, refused = calls[:MOST], calls[MOST:]
            results = await self.agent.tools.call_all(made, deps=self.agent.deps, until=self._listening())
            results += [ToolResult.of(call.id, TOO_MANY, name=call.name, error=True) for call in refused]
        return results

    def _come(self) -> list[ToolResult]:
        """What came of calls that outlast their turn, told to the model."""
        message, results = self.handles.news()
        if message is not None:
            self._note(message)
        for result in results:
            self.window.came(len(self.messages), self.handles.of(result), result)
        return results

    def _note(self, message: Message) -> None:
        """Tell the model something that no person says."""
        self.messages.append(self.window.ours(message))

    def _handed_over(self, call: ToolCall, over: ToolCall) -> ToolResult:
        if call is not over:
            return ToolResult.of(call.id, "not done: the conversation was handed over", name=call.name, error=True)
        self.agent = self.agent.handoffs[over.name]
        return ToolResult.of(call.id, f"{self.agent.name} goes on from here.", name=call.name)

    # --- handing in -------------------------------------------------------------------------------------------------

    def _held(self) -> bool:
        """The model hands in: whether it is told something first, of calls under way and of subtasks that are open."""
        open = self.window.hold()
        if open is not None:
            self._note(open)
        return self.handles.hold() or open is not None

    def undo(self, length: int) -> None:
        """Forget all but the first so many messages."""
        del self.messages[length:]
        self.window.undone(length)
        if self.agent.context.subtasks:
            follow(self.window, self.messages)

    async def _output(self, reply: Reply) -> Any:
        """What is handed in. Raises AnswerMisfit, Tripped."""
        agent = self.agent
        if reply.refusal:
            return None
        value = reply.text
        if agent.output is not str:
            value = parse(reply.text, agent.output, agent.name, reply.finish)
        return await guarded_output(agent.checks, value)

    def _answer(self, output: Any, ended: Ending) -> Answer[T]:
        return Answer(
            output=output,
            messages=[*self.messages],
            ended=ended,
            agent=self.agent.name,
            turns=self.turns,
            usage=self.usage,
            money=self.money,
        )


async def _given_up(work: asyncio.Future[Any]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

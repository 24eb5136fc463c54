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
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from weft.agent.answer import Answer, Ending
from weft.agent.context.compaction import fitted
from weft.agent.context.repeats import Repeats
from weft.agent.context.subtasks import control, follow
from weft.agent.context.window import Window, without_results
from weft.agent.course import Course, Turn, now
from weft.agent.event import AgentEvent, Compacted, Ended, Heard, Modelled, Returned, TurnStarted
from weft.agent.guard import Tripped, guarded_input, guarded_output
from weft.agent.handles import Handles
from weft.agent.sub import SubAgent, share
from weft.core.content import ToolCall, ToolResult
from weft.core.errors import AnswerMisfit, BudgetExceeded, ModelError
from weft.model.answer import parse
from weft.model.event import Finished, Restarted, TextDelta
from weft.model.message import Message, conversation
from weft.model.provider import request_of
from weft.model.request import Reply, Request, Usage
from weft.model.stream import Stream
from weft.runtime.effects import Mailbox
from weft.tool.toolset import GIVEN_UP

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


class _OutOfTime(Exception):
    """The time of a turn is over, and its generation is not."""


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
        self.repeats = Repeats()
        self._system: list[Message] = []
        self._instructed: Agent[Any] | None = None
        self._letter: asyncio.Task[str] | None = None
        self._before = 0
        """How many messages there were when the last thing was said."""
        self._deadline: float | None = None
        """When the generation under way must be over, by the body's clock."""
        self._bounded = False
        """Whether the turn under way may cost no more than it was reckoned to."""
        if agent.context.subtasks:
            follow(self.window, self.messages)

    async def say(self, prompt: Prompt) -> Answer[T]:
        """Say something, and wait for what is handed in. Raises what a generation or a tool raises that the model can't
        be told: ModelError, Tripped."""
        async with aclosing(self._events(prompt, watched=False)) as events:
            async for event in events:
                if isinstance(event, Ended):
                    return event.answer
        raise AssertionError("an agent ends with an answer")

    def events(self, prompt: Prompt) -> AsyncGenerator[AgentEvent]:
        """The same, event by event, generations word by word; the last one is `Ended`."""
        return self._events(prompt, watched=True)

    async def _events(self, prompt: Prompt, watched: bool) -> AsyncGenerator[AgentEvent]:
        self._before = len(self.messages)
        self.messages += await guarded_input(self.agent.guards, conversation(prompt))
        try:
            async with aclosing(self._turns(watched)) as events:
                async for event in events:
                    yield event
        finally:
            await self.handles.close()
            await self._stop_listening()

    async def _turns(self, watched: bool) -> AsyncGenerator[AgentEvent]:
        course, mends = Course(), self.agent.mends
        while True:
            if self._spoken():
                yield await self._heard()
            come = self._come()
            await self.repeats.fold(self.window, self.messages, self.agent.context.folded)
            await self._instruct()
            turn = await course.next(self.agent, self._request)
            if turn is None:
                yield Ended(self._answer(self._words() if self.agent.output is str else None, "limit"))
                return
            if turn.note:
                self._note(Message("user", turn.note))
            yield TurnStarted(turn.number, self.agent.name, turn.left)
            for result in come:
                yield Returned(result)
            reply: Reply | None = None
            async with aclosing(self._generated(turn, course, watched)) as events:
                async for event in events:
                    if isinstance(event, Reply):
                        reply = event
                    else:
                        yield event
            if reply is None:  # somebody said something, or it could not be paid or waited for: that was no turn
                continue
            self.turns += 1
            self._count(reply)
            self.messages.append(reply.message)
            agent, calls = self.agent, [] if turn.last else [*reply.calls]
            results = await self._carried_out(calls, turn, course) if calls else []
            course.over(agent, calls, [*come, *results])
            for result in results:
                yield Returned(result)
            if calls:
                continue
            if not turn.last and not reply.refusal and self._held():
                continue
            try:
                output = await self._output(reply)
            except (AnswerMisfit, Tripped) as misfit:
                told = misfit.told if isinstance(misfit, Tripped) else str(misfit)
                if mends < 1 or turn.last or not told or reply.finish == "length":
                    raise
                mends -= 1
                self._note(Message("user", f"That can't be handed in: {told}"))
                continue
            if self._spoken() and not turn.last:
                continue
            yield Ended(self._answer(output, "refused" if reply.refusal else "limit" if turn.last else "done"))
            return

    # --- the model --------------------------------------------------------------------------------------------------

    def _request(self, last: bool, short: bool = False, tokens: int | None = None) -> Request:
        """What the model is asked in a turn: see `weft.agent.course.Ask`. `tokens`: the most that it may answer."""
        agent = self.agent
        settings: dict[str, Any] = {**agent.settings} | ({"max_tokens": tokens} if tokens else {})
        said = self.window.shown(self.messages)
        messages = [*self._system, *(without_results(said) if short else said)]
        tools = (*agent.specs, *agent.context.tools(self.window).specs)
        if last and tools:
            messages.append(Message("user", LAST))
            settings["tool_choice"] = "none"
        schema = None if agent.output is str else agent.output
        return request_of(messages, schema=schema, tools=tools, **settings)

    async def _generated(self, turn: Turn, course: Course, watched: bool) -> AsyncGenerator[AgentEvent | Reply]:
        """The reply to what is asked in this turn, and what is to be seen of it; or what keeps it from being there."""
        request = partial(self._request, turn.last, turn.short, turn.tokens)
        seconds = turn.seconds()
        self._deadline = None if seconds is None else now() + seconds
        self._bounded = turn.tokens is not None or turn.calls < math.inf
        try:
            async with aclosing(self._streamed(request) if watched else self._asked(request)) as events:
                async for event in events:
                    if isinstance(event, Reply):
                        course.answered(event)
                    elif isinstance(event, Heard):
                        course.interrupted()
                    yield event
        except BudgetExceeded:
            course.refused()
        except _OutOfTime:
            course.interrupted()
            course.over(self.agent, (), ())
            course.refused()

    async def _asked(self, request: Callable[[], Request]) -> AsyncGenerator[AgentEvent | Reply]:
        """The reply to it; or what somebody said meanwhile."""
        asked = asyncio.create_task(fitted(self, request))
        if await self._first(asked):
            for event in self._compacted():
                yield event
            yield asked.result()
        else:
            yield await self._heard()

    async def _streamed(self, request: Callable[[], Request]) -> AsyncGenerator[AgentEvent | Reply]:
        """The same, event by event."""
        words: list[str] = []
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
        """Whether this ends before somebody says something; else it is given up. Raises _OutOfTime."""
        try:
            seconds = None if self._deadline is None else max(0.0, self._deadline - now())
            await asyncio.wait({work, self._listening()}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _given_up(work)
            raise
        if not work.done():
            await _given_up(work)
            if not self._spoken():
                raise _OutOfTime
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
        """Ask the model something that is no turn of the conversation. It counts. Raises ModelError if there is a limit
        that was reckoned without it."""
        if self._bounded:
            raise ModelError("tokens, money or effects are limited: nothing is asked besides the turns")
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

    async def _carried_out(self, calls: list[ToolCall], turn: Turn, course: Course) -> list[ToolResult]:
        """What the calls of one reply come to, in their order; the model is told."""
        mine = control(self.window, self.agent, calls, self.messages)
        rest = [call for at, call in enumerate(calls) if at not in mine]
        others = await self._by_tools(rest, turn, course) if rest else []
        results = [mine[at] if at in mine else others.pop(0) for at in range(len(calls))]
        self.messages.append(Message("tool", tuple(results)))
        if self.agent.context.subtasks:
            follow(self.window, self.messages)
        return results

    async def _by_tools(self, calls: list[ToolCall], turn: Turn, course: Course) -> list[ToolResult]:
        over = next((call for call in calls if call.name in self.agent.handoffs), None)
        if over is not None:
            results = [self._handed_over(call, over) for call in calls]
        else:
            most = int(min(turn.calls, len(calls) if self.agent.outlasts else MOST))
            results = await self._called(calls[:most], turn, course)
            results += [ToolResult.of(call.id, TOO_MANY, name=call.name, error=True) for call in calls[most:]]
        return results

    async def _called(self, calls: list[ToolCall], turn: Turn, course: Course) -> list[ToolResult]:
        """What comes of these calls until somebody says something, or the time of the turn is over."""
        agent, halt = self.agent, self._halt(turn.seconds(len(calls)))
        children = sum(isinstance(agent.tools.tools.get(call.name), SubAgent) for call in calls)
        share.set(turn.share_of(max(1, children)))
        try:
            if agent.outlasts:
                return await self.handles.carry_out(calls, agent, self.messages, halt)
            return await agent.tools.call_all(calls, deps=agent.deps, until=halt)
        except BudgetExceeded as error:
            return [ToolResult.of(call.id, f"{GIVEN_UP}: {error}", name=call.name, error=True) for call in calls]
        finally:
            if halt is not self._letter:
                if halt.done() and not self._spoken():
                    course.given_up(turn)
                halt.cancel()

    def _halt(self, seconds: float | None) -> asyncio.Future[Any]:
        """Done when somebody says something, or when so many seconds have passed."""
        listening = self._listening()
        return listening if seconds is None else asyncio.create_task(asyncio.wait({listening}, timeout=seconds))

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

    def _words(self) -> str:
        """What it said last, for want of an answer; nothing of what was before it was asked."""
        said = reversed(self.messages[self._before :])
        return next((one.text for one in said if one.role == "assistant" and one.text), "")

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

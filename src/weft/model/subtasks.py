"""Reasoning as a tree of subtasks, by the embedded engine inside a workflow: `await model.subtasks(prompt, tools)`.

The text is written by one inference that goes on across the tool calls in its middle. Each stretch up to a call, or to
the end, is one effect, journaled with the tokens that were drawn in it; the body calls the tool, another effect, and
the next stretch is told the result. After a crash the tokens are computed again, not drawn again. The method is in
`weft.model.engine.subtasks`.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from weft.core.boundary import boundary
from weft.core.errors import OURS, BadInput
from weft.core.step import primitive
from weft.model.engine.protocol import Sampling
from weft.model.engine.subtasks import Limits, Solved, Tool, solve
from weft.model.spec import Local, where
from weft.model.threads import engine_of
from weft.runtime.effects import charge, uuid


class Asked(msgspec.Struct, frozen=True):
    """What is to be solved, and how."""

    prompt: str
    limits: Limits
    stack: int
    room: int | None
    sampling: Sampling


class Called(msgspec.Struct, frozen=True, tag="called"):
    """A stretch ended with a tool call."""

    drawn: list[int]
    name: str
    arguments: dict[str, Any]


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A stretch ended with the text."""

    drawn: list[int]
    solved: Solved


class Result(msgspec.Struct, frozen=True):
    """What a tool gave: its value, or what it raised, in words."""

    value: Any = None
    error: str = ""


class _Session:
    """One text as this process knows it."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.results: list[Result] = []
        """What the body has seen and said, in this life and in those before."""
        self.task: asyncio.Task[Solved] | None = None
        self.number = 0
        """How many stretches the task has behind it."""
        self.log: list[int] = []
        self.waiting: asyncio.Future[Result] | None = None
        self.calls: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()


sessions: dict[str, _Session] = {}
"""The texts of this interpreter, by key."""


def _needs(spec: str, **_: object) -> Iterator[tuple[str, str]]:
    found = where(spec)
    yield "model.generate", found.resource
    if isinstance(found, Local) and found.file:
        yield "file.read", found.name


def _cost(spec: str, key: str, number: int, asked: Asked, **_: object) -> dict[str, float]:
    """A stretch has no end that is known: its tokens are those of one task, about."""
    begin = 0 if number else len(asked.prompt.encode()) // 3 + 8
    return {"tokens": begin + 4 * asked.limits.words}


@primitive(name="subtasks", role="generation", effect="pure", needs=_needs, cost=_cost)
async def stretch(
    spec: str, key: str, number: int, asked: Asked, tools: tuple[tuple[str, dict[str, Any]], ...], result: Result | None
) -> Called | Ended:
    """Write on to the next tool call, or to the end: stretch number `number`, after this result. `solved` calls it."""
    session = sessions.setdefault(key, _Session())
    loop = asyncio.get_running_loop()
    if session.task is None or session.number != number or session.task.get_loop() is not loop or session.task.done():
        _end(session)
        await _begin(session, spec, asked, tools)
    elif session.waiting is not None and result is not None:
        session.waiting.set_result(result)
    assert session.task is not None
    session.number = -1  # what is cut off on the way is begun anew
    call = asyncio.ensure_future(session.calls.get())
    try:
        await asyncio.wait({session.task, call}, return_when=asyncio.FIRST_COMPLETED)
        drawn = session.log[len(session.drawn) :]
        charge(tokens=len(drawn), money=0)
        if not call.done():
            return Ended(drawn, session.task.result())
        session.number = number + 1
        return Called(drawn, *call.result())
    finally:
        call.cancel()


async def _begin(session: _Session, spec: str, asked: Asked, tools: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    """Write what is known already once more, up to where nothing is known."""
    found = where(spec)
    if not isinstance(found, Local):
        raise BadInput(f"the model {spec!r} is none of the embedded engine, and no other has subtasks")
    engine = await engine_of(found)
    begin = [] if engine.hello.begin is None else [engine.hello.begin]
    prompt = begin + await engine.tokenize(asked.prompt, special=True)
    known, session.log, session.calls = iter([*session.results]), [*session.drawn], asyncio.Queue()

    def tool(name: str, parameters: dict[str, Any]) -> Tool:
        async def run(arguments: dict[str, Any]) -> Any:
            result = next(known, None)
            if result is None:
                session.waiting = asyncio.get_running_loop().create_future()
                session.calls.put_nowait((name, arguments))
                result = await session.waiting
            return {"error": result.error} if result.error else result.value

        return Tool(name, parameters, run)

    work = solve(
        engine, prompt, [tool(*each) for each in tools], limits=asked.limits, stack=asked.stack, room=asked.room,
        sampling=asked.sampling, log=session.log,
    )  # fmt: skip
    session.task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def _end(session: _Session) -> None:
    if session.task is not None and not session.task.get_loop().is_closed():
        session.task.cancel()
    session.task = None


_numbers = itertools.count()


async def solved(spec: str, asked: Asked, tools: Sequence[Tool], **options: Any) -> Solved:
    """The whole text. `options`: of the steps (queue, retries)."""
    step: Any = stretch.options(**options)
    key = f"{next(_numbers)}" if boundary() is None else str(uuid())
    session = sessions.setdefault(key, _Session())
    named, result = {tool.name: tool for tool in tools}, None
    if len(named) < len(tools):
        raise BadInput("two tools have the same name; rename one")
    declared = tuple((tool.name, tool.parameters) for tool in tools)
    try:
        for number in itertools.count():
            outcome: Called | Ended = await step(spec, key, number, asked, declared, result)
            session.drawn += outcome.drawn
            if isinstance(outcome, Ended):
                return outcome.solved
            result = await _result(named[outcome.name], outcome.arguments)
            session.results.append(result)
        raise AssertionError
    finally:
        sessions.pop(key, None)
        _end(session)


async def _result(tool: Tool, arguments: dict[str, Any]) -> Result:
    try:
        return Result(json.loads(json.dumps(await tool.run(arguments))))
    except OURS:
        raise
    except Exception as error:
        return Result(error=f"{type(error).__name__}: {error}"[:500])

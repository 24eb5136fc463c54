"""Scripted replies: a model whose decisions are fixed, for tests and for studies of what surrounds a model.

    model = weft.model.scripted(["Let me look.", ToolCall(id="1", name="look"), "Done."])

The reply to a request is chosen by how many turns of the assistant it holds, so that conversations at once, replays and
crashes all see the same. A function from the request to a reply decides otherwise; a coroutine may sleep first.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from weft.core.content import ToolCall
from weft.core.errors import BadInput, ModelError
from weft.model.message import Message, Part
from weft.model.request import Reply, Request

Line = str | Part | Sequence[str | Part] | Message | Reply | BaseException
"""One reply: its text, its parts, or all of it; or the error that is raised instead."""
Script = Sequence[Line] | Callable[[Request], Line | Awaitable[Line]]

scripts: dict[str, Script] = {}
"""The scripts of this interpreter, by name."""


def register(name: str, script: Script) -> None:
    """Let the spec `script:NAME` mean this script from now on. Raises BadInput if it is none."""
    if not name:
        raise BadInput("a script needs a name")
    if not callable(script) and (isinstance(script, str) or not script):
        raise BadInput(f"the script {name!r} is {script!r}; give a list of replies, or a function of the request")
    scripts[name] = script


async def answer(name: str, request: Request) -> Reply:
    """The scripted reply. Raises ModelError for a script that is not there or has come to its end."""
    script = scripts.get(name)
    if script is None:
        raise ModelError(
            f"no script named {name!r} in this process; make it with weft.model.scripted(..., name={name!r})"
        )
    if callable(script):
        line = script(request)
        if inspect.isawaitable(line):
            line = await line
    else:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn >= len(script):
            raise ModelError(f"the script {name!r} has {len(script)} replies, and was asked for number {turn + 1}")
        line = script[turn]
    return _reply(line)


def _reply(line: Any) -> Reply:
    if isinstance(line, BaseException):
        raise line
    if isinstance(line, Reply):
        return line
    message = line if isinstance(line, Message) else Message("assistant", line)
    called = any(isinstance(part, ToolCall) for part in message.parts)
    return Reply(message=message, finish="tool_call" if called else "stop")

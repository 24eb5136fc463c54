"""What a model has to deal with calls that outlast their turn: the tools `wait`, `poll` and `cancel`.

They are carried out by the conversation itself, on its handles; only the time that a wait may take is an effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from weft.core.content import Content, Text, ToolCall, ToolResult
from weft.core.errors import BadInput
from weft.tool.declare import Tool
from weft.tool.toolset import Toolset

if TYPE_CHECKING:
    from weft.agent.handles import Handle, Handles


async def wait(ids: list[str] | None = None, until: Literal["any", "all"] = "any", seconds: float | None = None) -> str:
    """Wait for results of calls that are under way. A tool that takes long answers with a handle (h1, h2, ... in the
    order of the calls) in place of a result; the result is told to you when it comes. Go on with other work meanwhile,
    and wait only when there is nothing else to do. To use a result that is not there yet as an argument of another
    call, write {"$result": "h1"} in its place, or a part of it: {"$result": "h1.items[0].id"}; that call is made by
    itself when the result is there.

    Args:
        ids: The handles to wait for; all that are under way if left out.
        until: Whether the first of them is enough, or all must have come.
        seconds: The longest to wait.
    """
    raise NotImplementedError


async def poll() -> str:
    """See which calls are under way, and the results that have come, without waiting."""
    raise NotImplementedError


async def cancel(ids: list[str]) -> str:
    """Give up calls that are under way. What they have done by then is not undone.

    Args:
        ids: Their handles.
    """
    raise NotImplementedError


CONTROLS = Toolset(Tool(wait), Tool(poll), Tool(cancel))


async def control(handles: Handles, call: ToolCall, spoken: asyncio.Future[Any]) -> ToolResult:
    """Answer a call of one of them. `spoken`: ends a wait."""
    try:
        given = CONTROLS[call.name].parameters.read(call.arguments)
        chosen = [_handle(handles, id) for id in given.get("ids") or ()]
        if call.name == "wait":
            parts = await _wait(handles, chosen, given.get("until", "any"), given.get("seconds"), spoken)
        elif call.name == "cancel":
            parts = [Text(content=_cancelled(handles, chosen)), *handles.parts(handles.come())]
        else:
            parts = [*handles.parts(handles.come())]
    except BadInput as error:
        return ToolResult.of(call.id, str(error), name=call.name, error=True)
    return ToolResult(id=call.id, name=call.name, response=tuple(parts))


def _handle(handles: Handles, id: str) -> Handle:
    if id not in handles.known:
        raise BadInput(f"there is no handle {id}; {handles.listed()}")
    return handles.known[id]


async def _wait(
    handles: Handles, chosen: Sequence[Handle], until: str, seconds: float | None, spoken: asyncio.Future[Any]
) -> list[Content]:
    """What has come when the wait is over."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise BadInput(f"seconds={seconds}: give a number above 0, or leave it out")
    loop = asyncio.get_running_loop()  # whose clock is the journal's
    since = loop.time()
    awaited = [one for one in chosen or handles.open if one.id and one in handles.open]
    tasks = [one.task for one in awaited if one.result is None and one.task is not None]
    enough = len(tasks) < len(awaited) if until == "any" else not tasks
    if tasks and not enough:
        how = asyncio.FIRST_COMPLETED if until == "any" else asyncio.ALL_COMPLETED
        work = asyncio.create_task(asyncio.wait(tasks, return_when=how))
        await asyncio.wait({work, spoken}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
    come = handles.come()
    parts = [*handles.parts(come)]
    if come:
        return parts
    if not awaited:
        asked = f"{', '.join(one.id for one in chosen)}: told before. " if chosen else ""
        return [Text(content=asked), *parts]
    why = (
        "Somebody has said something"
        if spoken.done()
        else f"{loop.time() - since:.1f} s have passed, and nothing has come"
    )
    return [Text(content=f"{why}. "), *parts]


def _cancelled(handles: Handles, chosen: Sequence[Handle]) -> str:
    """Give these up; what came of it in words."""
    lines = []
    for one in chosen:
        if one.result is not None:
            lines.append(f"{one.id} was over already.\n")
        else:
            handles.cancel(one)
            lines.append(f"{one.id} ({one.name}) is cancelled.\n")
    return "".join(lines)

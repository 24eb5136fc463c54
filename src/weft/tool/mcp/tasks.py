"""Calls that a server carries out as a task: it gives a handle, and is asked until the task has ended.

The extension `io.modelcontextprotocol/tasks` of revision 2026-07-28 (SEP-2663): `tasks/get`, `tasks/update`,
`tasks/cancel`. It is the server that decides which calls are tasks. All of it happens within the call's time; when that
is over, or the call is cancelled, the task is cancelled too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal

import mcp_types as types
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.session import ClientSession

from weft.tool.mcp.errors import ServerFailed, ServerMisfit

LEAST, MOST = 0.05, 10.0
"""Seconds between two questions for a task, whatever the server would like."""


class Handle(types.Result):
    """A call has become a task."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str = "working"
    poll_interval_ms: int | None = None


class State(types.Result):
    """How a task is getting on; with its `result` when it has ended well."""

    task_id: str
    status: str
    status_message: str | None = None
    poll_interval_ms: int | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class _Of(types.RequestParams):
    task_id: str


class _Update(_Of):
    input_responses: dict[str, Any]


class _Get(types.Request[_Of, Literal["tasks/get"]]):
    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/get"] = "tasks/get"
    params: _Of


class _Answer(types.Request[_Update, Literal["tasks/update"]]):
    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/update"] = "tasks/update"
    params: _Update


class _Cancel(types.Request[_Of, Literal["tasks/cancel"]]):
    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: _Of


async def _unclaimed(result: Handle, context: Any) -> types.CallToolResult:
    raise ServerMisfit(f"the task {result.task_id} was not asked for")


class Tasks(ClientExtension):
    """Says to the server that its calls may be tasks."""

    identifier = "io.modelcontextprotocol/tasks"

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=_unclaimed)]


async def finished(
    handle: Handle,
    session: ClientSession,
    answer: Callable[[Any], Awaitable[dict[str, Any]]],
    progress: Callable[[float, float | None, str | None], Awaitable[None]] | None,
) -> types.CallToolResult:
    """What comes of the task. `answer` answers what it asks. Raises ServerFailed, ServerMisfit."""
    of = _Of(task_id=handle.task_id)
    wait, answered = handle.poll_interval_ms, set[str]()
    try:
        for count in range(1, 1_000_000):
            await asyncio.sleep(min(max((wait or 1000) / 1000, LEAST), MOST))
            state = await session.send_request(_Get(params=of), State)
            wait = state.poll_interval_ms or wait
            match state.status:
                case "completed":
                    return types.CallToolResult.model_validate(state.result, by_name=False)
                case "failed" | "cancelled":
                    told = (state.error or {}).get("message") or state.status_message or "it does not say why"
                    raise ServerFailed(f"the task {handle.task_id} {state.status}: {told}")
                case "input_required":
                    asked = {k: v for k, v in (state.input_requests or {}).items() if k not in answered}
                    if asked:
                        said = {key: await answer(request) for key, request in asked.items()}
                        answered |= said.keys()
                        update = _Update(task_id=handle.task_id, input_responses=said)
                        await session.send_request(_Answer(params=update), types.EmptyResult)
            if progress is not None and state.status_message:
                await progress(count, None, state.status_message)
        raise ServerMisfit(f"the task {handle.task_id} does not end")
    except asyncio.CancelledError:
        with contextlib.suppress(BaseException):
            await asyncio.shield(session.send_request(_Cancel(params=of), types.EmptyResult, 1.0))
        raise

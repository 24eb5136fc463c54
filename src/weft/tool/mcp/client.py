"""The official SDK at work for a connection: what is asked of a server, and what it asks. Runs on the hub's thread.

This is the only file that imports the SDK when it is imported, which takes a second: `weft.tool.mcp.connect` does so
when the first connection is made.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.client.client import Client
from pydantic import FileUrl

from weft.tool.mcp.content import Argument, Prompt, Reply, Resource, Said, contents_of, parts_of, reply_of
from weft.tool.mcp.errors import ServerMisfit
from weft.tool.mcp.questions import Asking, Question, by_function
from weft.tool.mcp.tasks import Tasks, finished
from weft.tool.mcp.text import cleaned

if TYPE_CHECKING:
    from weft.tool.mcp.connection import Connection

logging.getLogger("mcp").addHandler(logging.NullHandler())  # what a server says is not printed unasked

MOST = 2_000
"""Tools, resources or prompts that are taken from a server."""
PAGES = 200
"""Pages of a list that are asked for."""

Progress = Callable[[float, float | None, str | None], Awaitable[None]]


def client_of(connection: Connection, transport: Any) -> Client:
    """The client of a connection, not yet entered."""
    server, plan = connection.server, connection.plan

    async def elicited(context: Any, params: Any) -> Any:
        return types.ElicitResult(**await by_function(server, question_of(server.name, "", params)))

    async def heard(message: Any) -> None:
        if isinstance(
            message,
            types.ToolListChangedNotification
            | types.PromptListChangedNotification
            | types.ResourceListChangedNotification,
        ):
            connection.changed()

    async def rooted(context: Any) -> Any:
        return roots((*plan.read, *plan.write))

    places = bool(plan.read or plan.write)
    return Client(
        transport,
        mode="legacy" if server.revision == "2025-11-25" else "auto",
        client_info=types.Implementation(name="weft", version="0.1.0"),
        elicitation_callback=elicited,
        list_roots_callback=rooted if places else None,
        message_handler=heard,
        cache=None,
        extensions=[Tasks()],
    )


def roots(places: tuple[str, ...]) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri=FileUrl(Path(place).as_uri())) for place in places])


def question_of(server: str, tool: str, asked: Any) -> Question:
    """From the parameters of an elicitation."""
    if asked.mode == "url":
        return Question(server=server, tool=tool, message=cleaned(asked.message), url=cleaned(str(asked.url)))
    return Question(server=server, tool=tool, message=cleaned(asked.message), schema=asked.requested_schema)


# --- lists --------------------------------------------------------------------------------------------------------


async def pages(server: str, what: str, ask: Callable[..., Awaitable[Any]]) -> list[Any]:
    """All of a list, page by page. Raises ServerMisfit for one without end."""
    found: list[Any] = []
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(PAGES):
        page = await ask(cursor=cursor)
        found += getattr(page, what)
        cursor = page.next_cursor
        if len(found) > MOST:
            raise ServerMisfit(f"the MCP server {server!r} offers more than {MOST} {what.replace('_', ' ')}")
        if cursor is None:
            return found
        if cursor in seen:
            break
        seen.add(cursor)
    raise ServerMisfit(f"the MCP server {server!r} has a list of {what.replace('_', ' ')} that does not end")


async def list_tools(connection: Connection) -> list[types.Tool]:
    found = await pages(connection.server.name, "tools", connection.client.list_tools)
    connection.listed = True
    return found


async def list_resources(connection: Connection) -> list[Resource]:
    name, client = connection.server.name, connection.client
    fixed = await pages(name, "resources", client.list_resources)
    try:
        templates = await pages(name, "resource_templates", client.list_resource_templates)
    except Exception as error:
        if getattr(error, "code", None) != types.METHOD_NOT_FOUND:
            raise
        templates = []
    return [
        *(_resource(one, str(one.uri), False) for one in fixed),
        *(_resource(one, one.uri_template, True) for one in templates),
    ]


def _resource(one: Any, uri: str, template: bool) -> Resource:
    return Resource(
        uri=uri,
        name=cleaned(one.name, 200),
        description=cleaned(one.description or ""),
        mime_type=one.mime_type or "",
        size=getattr(one, "size", None),
        template=template,
    )


async def list_prompts(connection: Connection) -> list[Prompt]:
    found = await pages(connection.server.name, "prompts", connection.client.list_prompts)
    return [
        Prompt(
            name=one.name,
            description=cleaned(one.description or ""),
            arguments=tuple(
                Argument(name=each.name, description=cleaned(each.description or ""), required=bool(each.required))
                for each in one.arguments or ()
            ),
        )
        for one in found
    ]


# --- requests that may come back with a question ------------------------------------------------------------------


async def call_tool(
    connection: Connection, tool: str, arguments: Mapping[str, Any], answers: Mapping[str, Any] | None,
    state: str | None, progress: Progress | None, trace: str | None,
) -> tuple[Reply, bool] | Asking:  # fmt: skip
    """One round of a call: what it answered and whether that is an error, or what it asks. `trace`: its traceparent."""
    if not connection.listed:
        await list_tools(connection)
    client, name = connection.client, connection.server.name
    for _ in range(PAGES):
        result = await client.session.call_tool(
            tool,
            dict(arguments),
            progress_callback=progress,
            input_responses=_responses(answers),
            request_state=state,
            meta=None if trace is None else {"traceparent": trace},
            allow_input_required=True,
            allow_claimed=True,
        )
        if isinstance(result, types.InputRequiredResult):
            asking = _asking(connection, tool, result)
            if asking.questions and connection.server.answer is None:
                return asking
            said = {key: await by_function(connection.server, one) for key, one in asking.questions.items()}
            answers, state = {**asking.given, **said}, asking.state
            continue
        if not isinstance(result, types.CallToolResult):
            result = await finished(result, client.session, partial(_in_task, connection, tool), progress)
            if not result.is_error:
                await client.session.validate_tool_result(tool, result)
        return reply_of(result), result.is_error
    raise ServerMisfit(f"the MCP server {name!r} asks for round after round of {tool!r}, without a question")


def _asking(connection: Connection, tool: str, result: types.InputRequiredResult) -> Asking:
    questions, given = {}, {}
    for key, request in (result.input_requests or {}).items():
        if isinstance(request, types.ElicitRequest):
            questions[key] = question_of(connection.server.name, tool, request.params)
        elif isinstance(request, types.ListRootsRequest):
            places = (*connection.plan.read, *connection.plan.write)
            given[key] = json.loads(roots(places).model_dump_json(by_alias=True, exclude_none=True))
        else:
            raise ServerMisfit(f"the MCP server {connection.server.name!r} wants a model to answer, and none is given")
    return Asking(questions=questions, given=given, state=result.request_state)


async def _in_task(connection: Connection, tool: str, request: Any) -> dict[str, Any]:
    """The answer to what a task asks, which waits for it."""
    if request.get("method") == "roots/list":
        return roots((*connection.plan.read, *connection.plan.write)).model_dump(by_alias=True, mode="json")
    asked = types.ElicitRequest.model_validate(request, by_name=False)
    return await by_function(connection.server, question_of(connection.server.name, tool, asked.params))


def _responses(answers: Mapping[str, Any] | None) -> Any:
    if answers is None:
        return None
    return {
        key: types.ListRootsResult.model_validate(value) if "roots" in value else types.ElicitResult(**value)
        for key, value in answers.items()
    }


async def read_resource(connection: Connection, uri: str) -> tuple[Any, ...]:
    result = await connection.client.read_resource(uri)
    return tuple(contents_of(each) for each in result.contents)


async def get_prompt(connection: Connection, name: str, arguments: Mapping[str, str]) -> tuple[Said, ...]:
    result = await connection.client.get_prompt(name, dict(arguments))
    return tuple(Said(role=each.role, parts=parts_of([each.content])) for each in result.messages)

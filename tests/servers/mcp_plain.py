"""A well-behaved server on the official SDK, of either revision, over pipes or (`--http`) on a port of this machine.

With `--http` it prints its URL as its first line. Its tools show one thing each: see `TOOLS`.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}
TOOLS = {
    "add": ("Add two numbers.", NUMBER),
    "picture": ("A picture, a sound, a link and a document.", {"type": "object"}),
    "steps": ("Takes its time, and says how far it is.", {"type": "object"}),
    "wait": ("Never ends.", {"type": "object"}),
    "book": ("Asks who travels, and then whether to pay.", {"type": "object"}),
    "where": ("The folders that the client gave.", {"type": "object"}),
    "grow": ("Adds a tool.", {"type": "object"}),
    "count": ("How many calls of this came.", {"type": "object"}),
    "later": ("Becomes a task.", {"type": "object"}),
    "fail": ("Fails.", {"type": "object"}),
}
DOT = b"\x89PNG\r\n\x1a\n"
FORM = {"type": "object", "properties": {"name": {"type": "string"}, "class": {"enum": ["first", "second"]}},
        "required": ["name"]}  # fmt: skip
bus = InMemorySubscriptionBus()
calls = {"count": 0, "task": 0}
cancelled = 0


def text(words: str, **more: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=words)], **more)


async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name,
                description=description,
                input_schema=schema,
                output_schema=(
                    {"type": "object", "properties": {"sum": {"type": "integer"}}} if name == "add" else None
                ),
            )
            for name, (description, schema) in reversed(TOOLS.items())
        ]
    )


async def call_tool(context: Any, params: types.CallToolRequestParams) -> Any:
    global cancelled
    given = params.arguments or {}
    match params.name:
        case "add":
            total = given["a"] + given.get("b", 0)
            return text(str(total), structured_content={"sum": total})
        case "picture":
            data = base64.b64encode(DOT).decode()
            document = types.BlobResourceContents(uri="memo:pdf", mime_type="application/pdf", blob=data)
            return types.CallToolResult(
                content=[
                    types.ImageContent(data=data, mime_type="image/png"),
                    types.AudioContent(data=data, mime_type="audio/wav"),
                    types.ResourceLink(name="page", uri="https://example.com/x.html", mime_type="text/html"),
                    types.EmbeddedResource(resource=document),
                    types.EmbeddedResource(resource=types.TextResourceContents(uri="memo:text", text="a note")),
                ]
            )
        case "steps":
            for step in range(3):
                await context.session.report_progress(step + 1, 3, f"step {step + 1}")
            return text("done")
        case "wait":
            try:
                await asyncio.sleep(3600)
            finally:
                cancelled += 1
        case "book":
            return await book(context, params)
        case "where":
            return await where(context, params)
        case "grow":
            TOOLS["grown"] = ("New.", {"type": "object"})
            if context.protocol_version >= "2026":
                await bus.publish(ToolsListChanged())
            else:
                await context.session.send_tool_list_changed()
            return text("grown")
        case "count":
            calls["count"] += 1
            return text(f"{calls['count']} calls, {cancelled} cancelled")
        case "later":
            return {
                "resultType": "task",
                "taskId": "t1",
                "status": "working",
                "pollIntervalMs": 50,
                "createdAt": "2026-11-26T00:00:00Z",
                "lastUpdatedAt": "2026-11-26T00:00:00Z",
                "ttlMs": 60000,
            }
        case "fail":
            return text("the disk is full", is_error=True)
    return text(f"there is no {params.name}", is_error=True)


async def book(context: Any, params: types.CallToolRequestParams) -> Any:
    if context.protocol_version < "2026":
        first = await context.session.elicit_form("Who travels?", FORM)
        return text(f"{first.action}: {first.content}")
    answers = params.input_responses or {}
    if params.request_state is None:
        asked = types.ElicitRequest(params=types.ElicitRequestFormParams(message="Who travels?", requested_schema=FORM))
        return types.InputRequiredResult(input_requests={"who": asked}, request_state="asked who")
    if params.request_state == "asked who":
        if answers["who"].action != "accept":
            return text(f"nobody travels: {answers['who'].action}")
        schema = {"type": "object", "properties": {}}
        asked = types.ElicitRequest(params=types.ElicitRequestFormParams(message="Pay?", requested_schema=schema))
        return types.InputRequiredResult(
            input_requests={"pay": asked}, request_state=f"{answers['who'].content['name']}"
        )
    return text(f"{params.request_state} travels: {answers['pay'].action}")


async def where(context: Any, params: types.CallToolRequestParams) -> Any:
    if context.protocol_version < "2026":
        found = await context.session.list_roots()
    elif not params.input_responses:
        return types.InputRequiredResult(input_requests={"roots": types.ListRootsRequest()}, request_state="r")
    else:
        found = params.input_responses["roots"]
    return text(" ".join(str(root.uri) for root in found.roots))


async def list_resources(context: Any, params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(name="note", uri="memo:note", mime_type="text/plain")])


async def list_templates(context: Any, params: Any) -> types.ListResourceTemplatesResult:
    one = types.ResourceTemplate(name="notes", uri_template="memo:{name}")
    return types.ListResourceTemplatesResult(resource_templates=[one])


async def read_resource(context: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    held = types.TextResourceContents(uri=params.uri, text=f"what {params.uri} holds")
    return types.ReadResourceResult(contents=[held])


async def list_prompts(context: Any, params: Any) -> types.ListPromptsResult:
    argument = types.PromptArgument(name="topic", required=True)
    return types.ListPromptsResult(prompts=[types.Prompt(name="ask", description="Asks.", arguments=[argument])])


async def get_prompt(context: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    words = types.TextContent(text=f"What of {(params.arguments or {})['topic']}?")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=words)])


class TaskParams(types.RequestParams):
    task_id: str


async def get_task(context: Any, params: TaskParams) -> dict[str, Any]:
    calls["task"] += 1
    state: dict[str, Any] = {
        "taskId": params.task_id,
        "status": "working",
        "statusMessage": "at it",
        "createdAt": "2026-11-26T00:00:00Z",
        "lastUpdatedAt": "2026-11-26T00:00:00Z",
        "ttlMs": 60000,
    }
    if calls["task"] >= 3:
        done = {"content": [{"type": "text", "text": f"asked {calls['task']} times"}], "isError": False}
        state |= {"status": "completed", "result": done}
    return state


server: Server[Any] = Server(
    "plain", version="1", on_list_tools=list_tools, on_call_tool=call_tool, on_list_resources=list_resources,
    on_list_resource_templates=list_templates, on_read_resource=read_resource, on_list_prompts=list_prompts,
    on_get_prompt=get_prompt, on_subscriptions_listen=ListenHandler(bus),
)  # fmt: skip
server.extensions = {"io.modelcontextprotocol/tasks": {}}
server.add_request_handler("tasks/get", TaskParams, get_task)


async def over_pipes() -> None:
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (received, sent):
        options = server.create_initialization_options(NotificationOptions(tools_changed=True))
        await server.run(received, sent, options)


def over_http() -> None:
    import socket

    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    app = server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


if "--http" in sys.argv:
    over_http()
else:
    asyncio.run(over_pipes())

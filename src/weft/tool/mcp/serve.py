"""This program as a server: tools, workflows and agents of a file, for whoever speaks the Model Context Protocol.

Each call is a run: durable, within the rights of the runtime's policy, with a journal that shows what it did. A caller
that gives an idempotency key (`_meta: {"weft/idempotency-key": "..."}`) may ask again, after a crash or a lost
connection, and gets the same run's result; with a `traceparent` in its `_meta` the run belongs to that trace. A call
that is cancelled, or whose connection breaks off, cancels its run; the end of the server does not: `weft resume`, or
the same call with its key, goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from weft.core.codec import to_plain
from weft.core.content import Blob, Content, Text, ToolCall, ToolResult, ToolSpec, Uri
from weft.core.errors import BadInput, KeyConflict, MissingExtra
from weft.core.traceparent import told_by
from weft.core.workflow import Workflow, workflow
from weft.tool.declare import Tool
from weft.tool.failure import told
from weft.tool.mcp.text import cleaned, model_names
from weft.tool.parameters import Hinted, Misfit
from weft.tool.result import json_of

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server as LowServer

    from weft.core.record import AnyRecord
    from weft.runtime.runtime import Runtime

KEY = "weft/idempotency-key"
EVERY = 0.2
"""Seconds between two words of progress."""

_tools: dict[str, Tool[..., Any]] = {}
"""Those that are served by this process, by the name that their runs know."""


@workflow(name="weft.mcp.call")
async def call_tool(name: str, arguments: dict[str, Any]) -> ToolResult:
    """One call of a tool, as a run."""
    if name not in _tools:
        raise BadInput(f"the tool {name!r} is not served here: start `weft serve-mcp` with the file that declares it")
    return await _tools[name].call(ToolCall(id=name, name=name, arguments=arguments))


class Served:
    """A tool or a workflow under the name that callers know."""

    def __init__(self, name: str, what: Tool[..., Any] | Workflow[..., Any]) -> None:
        self.name = name
        self.what = what
        if isinstance(what, Tool):
            _tools[what.name] = what
            self.spec = ToolSpec(name, what.spec.description, what.spec.schema)
            self.parameters = what.parameters
        else:
            self.parameters = Hinted(what.fn, None, {})
            self.spec = ToolSpec(name, self.parameters.description, self.parameters.schema)

    def started(
        self, arguments: Mapping[str, Any], key: str | None, caller: str | None
    ) -> tuple[Workflow[..., Any], dict[str, Any]]:
        """What to run, and with which arguments. Raises Misfit."""
        key = None if key is None else f"mcp:{self.name}:{key}"
        if isinstance(self.what, Tool):
            self.parameters.read(arguments)  # a misfit is told before there is a run
            given = {"name": self.what.name, "arguments": dict(arguments)}
            return call_tool.options(key=key, caller=caller), given
        return self.what.options(key=key, caller=caller), self.parameters.read(arguments)

    @property
    def hints(self) -> dict[str, bool]:
        """What it does, as far as that is declared."""
        if not isinstance(self.what, Tool):
            return {}
        match self.what.impact:
            case "none":
                return {"read_only_hint": True}
            case "repeatable":
                return {"read_only_hint": False, "idempotent_hint": True}
            case "reversible":
                return {"read_only_hint": False, "destructive_hint": False}
        return {"read_only_hint": False, "destructive_hint": True}


def served(what: Iterable[Tool[..., Any] | Workflow[..., Any]]) -> list[Served]:
    """Each under its name, in the order of the names. Raises BadInput for two of one name."""
    found: dict[str, Tool[..., Any] | Workflow[..., Any]] = {}
    for one in what:
        name = one.shown if isinstance(one, Tool) else one.name.rpartition(".")[2]
        if name in found and found[name] is not one:
            raise BadInput(f"two of what is to be served are named {name!r}: name the ones to serve, FILE:NAME,...")
        found[name] = one
    names = model_names(list(found))
    return [Served(names[name], found[name]) for name in sorted(found)]


def prepare() -> None:
    """Import the SDK, which takes a second, while nothing runs yet. Raises MissingExtra."""
    try:
        import mcp.server.lowlevel  # noqa: F401
    except ImportError as error:
        raise MissingExtra("MCP needs the extra `mcp`: pip install 'weft[mcp]'") from error


def server(name: str, offered: list[Served], runtime: Runtime, version: str = "") -> LowServer[Any]:
    """The official SDK's server for these, whose calls are runs of `runtime`. Raises MissingExtra."""
    prepare()
    import mcp_types as types
    from mcp.server.lowlevel import Server

    by_name = {one.name: one for one in offered}
    listed = [
        types.Tool(
            name=one.name,
            description=one.spec.description,
            input_schema=one.spec.schema,
            annotations=types.ToolAnnotations.model_validate(one.hints) if one.hints else None,
        )
        for one in offered
    ]

    async def on_list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def on_call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        one = by_name.get(params.name)
        if one is None:
            from mcp.shared.exceptions import MCPError

            raise MCPError(types.INVALID_PARAMS, f"there is no tool {cleaned(params.name, 100)!r}")
        meta: Mapping[str, Any] = params.meta or {}
        result = await carried_out(one, params.arguments or {}, runtime, meta, context.session.report_progress)
        content = [_block(part) for part in result.response]
        plain = _structured(result)
        return types.CallToolResult(content=content, is_error=result.error, structured_content=plain)

    return Server(name, version=version, on_list_tools=on_list_tools, on_call_tool=on_call_tool)


async def carried_out(
    one: Served, arguments: Mapping[str, Any], runtime: Runtime, meta: Mapping[str, Any], report: Any
) -> ToolResult:
    """A call as a run, from its arguments to its result; what goes wrong is a result too. `report` is told the number
    of effects that the run has made, and the last one's name."""
    key = meta.get(KEY)
    if key is not None and (not isinstance(key, str) or not 1 <= len(key) <= 200):
        return _failed(one, BadInput(f"_meta {KEY!r} is a text of up to 200 characters"))
    try:
        chosen, given = one.started(arguments, key, told_by(meta.get("traceparent")))
        run = await runtime.start(chosen, **given)
    except (Misfit, BadInput, KeyConflict) as error:
        return _failed(one, error)
    except TypeError as error:
        return _failed(one, BadInput(f"the arguments do not fit: {error}"))
    watching = asyncio.create_task(_watched(runtime, run.id, report))
    try:
        value = await run.result()
    except asyncio.CancelledError:
        if not runtime.closing:
            with contextlib.suppress(Exception):
                await asyncio.shield(run.cancel())
        raise
    except Exception as error:
        return _failed(one, error)
    finally:
        watching.cancel()
    if isinstance(value, ToolResult):
        return value
    from weft.tool.declare import LIMIT
    from weft.tool.result import parts_of

    return ToolResult(id=run.id, name=one.name, response=parts_of(value, LIMIT))


def _failed(one: Served, error: Exception) -> ToolResult:
    return ToolResult.of("", told(error), name=one.name, error=True)


async def _watched(runtime: Runtime, id: str, report: Any) -> None:
    """Tell of the run's effects as they are recorded, not more often than one reads."""
    count, last, told_of = 0, "", 0

    def observe(process: str, record: AnyRecord) -> None:
        nonlocal count, last
        if process == id and (name := getattr(record, "name", None)):
            count, last = count + 1, str(name)

    runtime.observe(observe)
    try:
        while True:
            await asyncio.sleep(EVERY)
            if count != told_of:
                told_of = count
                with contextlib.suppress(Exception):  # whoever asked may be gone
                    await report(float(count), None, cleaned(last, 200))
    finally:
        runtime.observers.remove(observe)


def _block(part: Content) -> Any:
    """A part of content as the protocol has it."""
    import base64

    import mcp_types as types

    match part:
        case Text():
            return types.TextContent(text=part.content)
        case Blob(modality="image"):
            return types.ImageContent(data=base64.b64encode(part.content).decode(), mime_type=part.mime_type)
        case Blob(modality="audio"):
            return types.AudioContent(data=base64.b64encode(part.content).decode(), mime_type=part.mime_type)
        case Blob():
            data = base64.b64encode(part.content).decode()
            digest = hashlib.sha256(part.content).hexdigest()[:16]
            held = types.BlobResourceContents(uri=f"weft:blob/{digest}", mime_type=part.mime_type, blob=data)
            return types.EmbeddedResource(resource=held)
        case Uri():
            return types.ResourceLink(name=part.uri[:200], uri=part.uri, mime_type=part.mime_type or None)
    return types.TextContent(text=json_of(to_plain(part)))


def _structured(result: ToolResult) -> dict[str, Any] | None:
    """The value, where the words are a JSON object."""
    import json

    if result.error or len(result.response) != 1 or not isinstance(result.response[0], Text):
        return None
    text = result.response[0].content
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

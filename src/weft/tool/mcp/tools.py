"""A server's tools as tools of this platform: each call is one journaled effect, `tool.call` of `SERVER/TOOL`.

    clock = Server("time", command=["mcp-server-time"])

    @weft.workflow
    async def agent() -> str:
        tools = await clock.tools()                       # a Toolset, in the order of the names
        reply = await tools["get_current_time"](timezone="Europe/Paris")
        return reply.text

A call that ends with a question goes on with the answer, in an effect of its own: see `weft.tool.mcp.questions`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import cached_property
from typing import Any, cast

import msgspec

from weft.core.boundary import boundary, place
from weft.core.content import ToolCall, ToolResult
from weft.core.crossing import crossing, executing, traceparent, workspace
from weft.core.errors import BadInput, InputNeeded
from weft.core.retry import Retry
from weft.core.step import Effect, Primitive
from weft.tool.context import Report, ToolContext
from weft.tool.declare import LIMIT, Tool
from weft.tool.mcp import pins
from weft.tool.mcp.connect import use
from weft.tool.mcp.connection import Connection
from weft.tool.mcp.content import Reply
from weft.tool.mcp.errors import ServerFailed, ServerMisfit, ToolFailed, ToolsChanged
from weft.tool.mcp.pins import Offer
from weft.tool.mcp.questions import Asking, by_person
from weft.tool.mcp.server import Server
from weft.tool.mcp.text import cleaned, cleaned_schema, model_names
from weft.tool.result import parts_of
from weft.tool.toolset import Toolset

LARGEST_SCHEMA = 100_000
"""Characters of a tool's schema."""
ROUNDS = 10
"""Times that one call may come back with questions."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers, and what nobody approved of it."""

    offers: tuple[Offer, ...]
    changes: tuple[str, ...] = ()


async def toolset(server: Server) -> Toolset:
    """See `Server.tools`."""
    listing = await _listed(server)
    if listing.changes and boundary() is None:
        raise ToolsChanged(server.name, listing.changes)  # nobody is there to ask
    if listing.changes:
        await _approved_by_person(server, listing)
    names = model_names([offer.name for offer in listing.offers])
    return Toolset(*(tool_of(server, offer, names[offer.name]) for offer in listing.offers))


async def approve(server: Server) -> tuple[str, ...]:
    """See `Server.approve`."""
    if boundary() is not None or crossing() is not None:
        raise BadInput(f"a run can't approve of {server.name!r} for itself: use `weft mcp approve {server.name}`")

    async def looked(name: str) -> tuple[str, ...]:
        found = await offers(server)
        lines = await asyncio.to_thread(pins.changes, workspace(), name, found)
        await asyncio.to_thread(pins.approve, workspace(), name, found)
        return tuple(lines)

    return cast("tuple[str, ...]", await _effect(server, "mcp.approve", looked)(server.name))


async def _listed(server: Server) -> Listing:
    async def tools(name: str) -> Listing:
        found = await offers(server)
        place = workspace()
        first = not await asyncio.to_thread(pins.known, place, name)
        changes = await asyncio.to_thread(pins.changes, place, name, found)
        what = server.first if first else server.changed
        if changes and what == "approve":
            await asyncio.to_thread(pins.approve, place, name, found)
            return Listing(offers=tuple(found))
        if changes and what == "fail":
            raise ToolsChanged(name, changes)
        return Listing(offers=tuple(found), changes=tuple(changes))

    return cast(Listing, await _effect(server, "mcp.tools", tools)(server.name))


async def _approved_by_person(server: Server, listing: Listing) -> None:
    from weft.runtime.effects import ask

    what = "\n".join(f"- {line}" for line in listing.changes)
    question = f"The MCP server {server.name!r} offers what nobody approved:\n{what}\nMay an agent follow it?"
    if not await ask(question, bool):
        raise ToolsChanged(server.name, listing.changes)

    async def pinned(name: str) -> None:
        await asyncio.to_thread(pins.approve, workspace(), name, listing.offers)

    await _effect(server, "mcp.approve", pinned)(server.name)


def _effect(server: Server, name: str, work: Any, effect: Effect = "idempotent") -> Primitive[Any, Any]:
    """A step that uses the server, and needs what that needs."""
    return Primitive(work, name=name, effect=effect, needs=lambda **_: server.reach())


# --- what is offered ----------------------------------------------------------------------------------------------


async def offers(server: Server) -> list[Offer]:
    """The tools to use of it, by name. Raises ServerMisfit for what no model could be shown, and McpError."""

    async def ask(connection: Connection) -> list[Offer]:
        from weft.tool.mcp import client

        wanted = None if server.only is None else set(server.only)
        found = await client.list_tools(connection)
        return [_offer(server, tool) for tool in found if wanted is None or tool.name in wanted]

    found = sorted(await use(server, ask), key=lambda offer: offer.name)
    names = [offer.name for offer in found]
    if twice := {name for name in names if names.count(name) > 1} if len(names) != len(set(names)) else set():
        raise ServerMisfit(f"the MCP server {server.name!r} has two tools named {sorted(twice)[0]!r}")
    if lacking := set(server.only or ()) - set(names):
        raise ServerMisfit(f"the MCP server {server.name!r} has no tool {sorted(lacking)[0]!r}, which only= names")
    return found


def _offer(server: Server, tool: Any) -> Offer:
    if not re.fullmatch(r"[^\x00-\x20\x7f-\x9f]{1,128}", tool.name) or tool.name != cleaned(tool.name):
        raise ServerMisfit(f"the MCP server {server.name!r} names a tool {tool.name[:140]!r}: leave it out with only=")
    said = tool.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"meta", "icons"})
    schema = tool.input_schema
    size = len(json.dumps(schema))
    if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), dict) or size > LARGEST_SCHEMA:
        what = f"of {size} characters" if size > LARGEST_SCHEMA else "that describes no object"
        raise ServerMisfit(
            f"the MCP server {server.name!r} has for its tool {tool.name!r} a schema {what}: leave it out with only="
        )
    hints = tool.annotations.model_dump(by_alias=True, exclude_none=True) if tool.annotations is not None else {}
    return Offer(
        name=tool.name,
        description=cleaned(tool.description or ""),
        schema=cleaned_schema(schema),
        hints={key: value for key, value in hints.items() if isinstance(value, bool)},
        digest=pins.digest_of(said),
    )


def effect_of(server: Server, offer: Offer) -> Effect:
    """What its calls are: what the declaration says, or less where the server says that it does more."""
    if offer.name in server.effects:
        return server.effects[offer.name]
    again: Effect = "idempotent" if offer.hints.get("idempotentHint") else "at_most_once"
    changes = offer.hints.get("readOnlyHint") is False
    destroys = offer.hints.get("destructiveHint") is True and not offer.hints.get("readOnlyHint")
    if server.effect == "at_most_once" or not (destroys or (changes and server.effect == "pure")):
        return server.effect
    return again


# --- one tool -----------------------------------------------------------------------------------------------------


class McpTool(Tool[..., Any]):
    """A tool of a server. Called in a program it gives a `Reply`, or raises ToolFailed."""

    watched = False  # what happens, happens in the server
    server: Server
    offer: Offer

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        where = place()

        def begin(tool: McpTool) -> Coroutine[Any, Any, Any]:
            process = boundary()
            if process is None:
                return tool._directly(args, kwargs)
            return tool._once_approved(process, args, kwargs, where)

        return self._to_its_end(_replied, begin)

    def answer(self, call: ToolCall, deps: Any, report: Report | None, where: str) -> Coroutine[Any, Any, ToolResult]:
        return self._to_its_end(_shown, lambda tool: Tool.answer(tool, call, deps, report, where))

    async def _directly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """In a step that calls it, what its server needs is decided in that step's name, as for a primitive."""
        outer = crossing()
        if outer is None:
            return await super()._directly(args, kwargs)
        token = executing.set(outer.within(self.needs, {}))
        try:
            return await super()._directly(args, kwargs)
        finally:
            executing.reset(token)

    async def _to_its_end(self, form: Form, begin: Callable[[McpTool], Awaitable[Any]]) -> Any:
        """Rounds of the call, each with the answers to the questions of the one before."""
        tool = self if form is _replied else self.as_shown
        for _ in range(ROUNDS):
            try:
                return await begin(tool)
            except InputNeeded as needed:
                asking = cast(Asking, needed.asking)
            if boundary() is None:
                answers = {key: {"action": "cancel"} for key in asking.questions}  # nobody is there to ask
            else:
                answers = {key: await by_person(question) for key, question in asking.questions.items()}
            going_on = form(_round(self.server, self.offer, {**asking.given, **answers}, asking.state))
            tool = self._saying(going_on, approval=False, before=())  # approved, and seen, in the first round
        raise ServerMisfit(f"the MCP server {self.server.name!r} came back with questions {ROUNDS} times")

    @cached_property
    def as_shown(self) -> McpTool:
        """The same tool, as it answers a model."""
        return self._saying(_shown(_round(self.server, self.offer)))

    def _saying(self, fn: Callable[..., Any], **changes: Any) -> McpTool:
        """The same tool, by this function."""
        made = type(self)(fn, **{**self.given, **changes})
        made.shown, made.server, made.offer = self.shown, self.server, self.offer
        return made

    def options(self, **changes: Any) -> McpTool:
        return self._saying(self.written, **changes)


def tool_of(server: Server, offer: Offer, shown: str) -> McpTool:
    """The tool, under the name `shown` for models."""
    effect = effect_of(server, offer)
    made = McpTool(
        _replied(_round(server, offer)),
        name=f"{server.name}/{offer.name}",
        description=offer.description,
        schema=offer.schema,
        effect=effect,
        needs=lambda **_: server.reach(),
        retries=None if effect == "at_most_once" else Retry(attempts=2, delay=0.2, on=(ServerFailed,)),
    )
    made.shown, made.server, made.offer = shown, server, offer
    return made


# --- one round of a call, as a function ---------------------------------------------------------------------------

Round = Callable[[ToolContext[Any], Mapping[str, Any]], Awaitable[tuple[Reply, bool]]]
Form = Callable[[Round], Callable[..., Any]]


def _round(server: Server, offer: Offer, answers: Mapping[str, Any] | None = None, state: str | None = None) -> Round:
    """What it answered, and whether that is a failure. Raises InputNeeded, McpError."""

    async def ask(context: ToolContext[Any], arguments: Mapping[str, Any]) -> tuple[Reply, bool]:
        async def progress(done: float, total: float | None, message: str | None) -> None:
            context.progress(done, total, cleaned(message or "", 500))

        async def work(connection: Connection) -> tuple[Reply, bool] | Asking:
            from weft.tool.mcp import client

            return await client.call_tool(connection, offer.name, arguments, answers, state, progress, trace)

        trace = await traceparent()
        outcome = await use(server, work)
        if isinstance(outcome, Asking):
            raise InputNeeded(f"the MCP server {server.name!r} asks before {offer.name!r} goes on", outcome)
        return outcome

    return ask


def _replied(ask: Round) -> Callable[..., Any]:
    async def call(weft_context: ToolContext[Any], **arguments: Any) -> Reply:
        reply, failed = await ask(weft_context, arguments)
        if failed:
            raise ToolFailed(reply.text or "the tool failed, and does not say why")
        return reply

    return call


def _shown(ask: Round) -> Callable[..., Any]:
    async def call(weft_context: ToolContext[Any], **arguments: Any) -> Any:
        reply, failed = await ask(weft_context, arguments)
        if failed:
            return ToolResult(id="", response=parts_of(reply.parts, LIMIT), error=True)
        return [*reply.parts] or None  # cut where it is too long, as any tool's result

    return call

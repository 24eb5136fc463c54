"""One connection to a server, kept open by a task of its own until the server ends or nobody has called for long.

What goes wrong on it becomes an error in this platform's words: how the server ended, its last words, no secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from weft.core.errors import MissingExtra, WeftError
from weft.core.resources import Resources
from weft.core.secret import Redactor
from weft.tool.mcp import reached
from weft.tool.mcp.errors import McpError, ServerFailed, ServerMisfit, ServerRefused, ServerSilent
from weft.tool.mcp.plan import Plan
from weft.tool.mcp.server import DEFAULT
from weft.tool.mcp.stdio import GRACE, Bare, Lines, Walled, job_of

if TYPE_CHECKING:
    from weft.tool.mcp.connect import Hub

T = TypeVar("T")

LISTEN = 1.0
"""Seconds that a server gets to say that it will tell of changes."""


class Connection:
    """Kept open by a task of its own."""

    def __init__(self, plan: Plan, hub: Hub) -> None:
        self.plan, self.server, self._hub = plan, plan.server, hub
        self.client: Any = None
        self.lines: Lines | None = None
        self.changes = 0
        """How often the server said that what it offers has changed."""
        self.listed = False
        """Whether its tools were listed: the SDK checks results by that list."""
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._closing = False
        self._calls = 0
        self._fault: BaseException | None = None
        self._task = asyncio.get_running_loop().create_task(self._keep(), context=contextvars.Context())

    @property
    def over(self) -> bool:
        return self._task.done() or self._closing or (self.lines is not None and self.lines.over.is_set())

    # --- keeping it -----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(self.server.start) as clock:
                        await self._open(stack)
                except TimeoutError:
                    if not clock.expired():
                        raise
                    raise ServerSilent(
                        f"the MCP server {self.server.name!r} did not start within {self.server.start:g} s; give it a "
                        f"longer start{self._last_words()}"
                    ) from None
                await self._begin_listening(stack)
                self._ready.set()
                await self._stay()
        except BaseException as error:
            self._fault = _first(error)
        finally:
            self._closing = True
            self._ready.set()
            if self._hub.connections.get(self.plan.key) is self:
                del self._hub.connections[self.plan.key]

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        client_of = _sdk()
        transport = await self._transport(stack)
        self.client = await stack.enter_async_context(client_of(self, transport))
        wanted, spoken = self.server.revision, self.client.protocol_version
        if wanted not in ("newest", spoken):
            raise ServerMisfit(f"the MCP server {self.server.name!r} speaks revision {spoken}, not {wanted}")

    async def _transport(self, stack: contextlib.AsyncExitStack) -> Any:
        server, plan = self.server, self.plan
        if server.url:
            from mcp.client.streamable_http import streamable_http_client

            http = reached.http_client(server.name, plan.address, plan.headers, server.start)
            await stack.enter_async_context(http)
            return streamable_http_client(server.url, http_client=http, max_sse_event_size=reached.LARGEST)
        try:
            if server.sandbox:
                resources = server.limits if isinstance(server.limits, Resources) else DEFAULT
                job = job_of(server.command, plan.env, plan.read, plan.write, plan.folder, server.network, resources)
                process: Walled | Bare = await Walled.begin(job, server.name)
            else:
                process = await Bare.begin(server.command, plan.env, plan.folder or plan.workspace)
        except OSError as error:
            raise ServerFailed(f"the MCP server {server.name!r} could not be started: {error}") from None
        self.lines = Lines(server.name, process)
        return self.lines.streams()

    async def _stay(self) -> None:
        """Until the server ends, or nobody has called for long."""
        ended = asyncio.create_task(self.lines.over.wait()) if self.lines is not None else None
        try:
            while not self._closing:
                wake = asyncio.create_task(self._wake.wait())
                waits = {wake} if ended is None else {wake, ended}
                idle = None if self._calls else self.server.idle
                done, _ = await asyncio.wait(waits, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
                self._wake.clear()
                wake.cancel()
                if ended in done or (not done and not self._calls):
                    return
        finally:
            if ended is not None:
                ended.cancel()

    async def _begin_listening(self, stack: contextlib.AsyncExitStack) -> None:
        """Hear of changes (2026-07-28; before, a server tells them unasked) from before the first call."""
        heard = asyncio.Event()
        listening = asyncio.create_task(self._listen(heard))
        stack.push_async_callback(_stopped, listening)
        listening.add_done_callback(lambda _: heard.set())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), LISTEN)

    async def _listen(self, heard: asyncio.Event) -> None:
        told = self.client.server_capabilities
        kinds = {
            f"{kind}_list_changed": True
            for kind in ("tools", "prompts", "resources")
            if getattr(getattr(told, kind, None), "list_changed", False)
        }
        if kinds and self.client.protocol_version >= "2026-07-28":
            with contextlib.suppress(Exception):
                async with self.client.listen(**kinds) as changes:
                    heard.set()
                    async for _ in changes:
                        """The client's handler of messages hears it too, and counts."""

    def changed(self) -> None:
        self.changes += 1
        self.listed = False

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task], timeout=3 * GRACE)

    # --- using it -------------------------------------------------------------------------------------------------

    async def use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        self._calls += 1
        self._wake.set()
        try:
            await self._ready.wait()
            if self._fault is not None:
                raise self._told(self._fault)
            return await self._in_time(work)
        finally:
            self._calls -= 1
            self._wake.set()

    async def _in_time(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self.lines is not None:
            self.lines.begin_call()
        clock = asyncio.timeout(self.server.timeout)
        try:
            async with clock:
                return await work(self)
        except Exception as error:
            if isinstance(error, TimeoutError) and clock.expired():
                raise self._silent() from None
            raise await self._understood(error) from None

    def _silent(self) -> ServerSilent:
        return ServerSilent(
            f"the MCP server {self.server.name!r} did not answer within {self.server.timeout:g} s; give it a longer "
            f"timeout{self._last_words()}"
        )

    async def _understood(self, error: Exception) -> BaseException:
        """The same, in this platform's words."""
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT
        from pydantic import ValidationError

        name = self.server.name
        if isinstance(error, McpError):
            return error
        if isinstance(error, MCPError) and error.code == REQUEST_TIMEOUT:
            return self._silent()
        broken = isinstance(error, MCPError) and (error.code, error.message) == (CONNECTION_CLOSED, "Connection closed")
        if isinstance(error, MCPError) and not broken:
            return ServerRefused(_clean(f"the MCP server {name!r} refused: {error.message} ({error.code})"), error.code)
        if isinstance(error, ValidationError | RuntimeError):
            return ServerMisfit(_clean(f"the MCP server {name!r} answered what does not fit: {error}"))
        await asyncio.wait([self._task], timeout=2 * GRACE)  # then it is known how it ended
        fault = self._fault or (self.lines.fault if self.lines is not None else None)
        return self._told(fault or error)

    def _told(self, fault: BaseException) -> BaseException:
        """Why there is no connection."""
        if self.lines is not None and isinstance(self.lines.fault, ServerMisfit):
            fault = self.lines.fault
        if isinstance(fault, WeftError) and not isinstance(fault, ServerFailed):
            return fault
        if isinstance(fault, ServerFailed) and self.lines is None:
            return fault
        how = self.lines.fault if self.lines is not None and self.lines.fault is not None else fault
        what = str(how) if isinstance(how, ServerFailed) else f"{type(how).__name__}: {how}"
        name = f"the MCP server {self.server.name!r}"
        return ServerFailed(_clean(what if name in what else f"{name} can't be reached: {what}") + self._last_words())

    def _last_words(self) -> str:
        return _clean(self.lines.last_words()) if self.lines is not None else ""


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(BaseException):
        await task


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _clean(text: str) -> str:
    """Without secrets, and not longer than one reads."""
    return Redactor().redact_text(text[:2000])


def _sdk() -> Callable[[Connection, Any], Any]:
    """The official client, imported only now: it takes a second."""
    try:
        import mcp.client.client  # noqa: F401
    except ImportError as error:
        raise MissingExtra("MCP needs the extra `mcp`: pip install 'weft[mcp]'") from error
    from weft.tool.mcp.client import client_of

    return client_of

"""The connections of this process to its servers: made when first needed, shared, made again after a server's end.

They live on one thread with an event loop of its own, so that any loop of this process can use them, one after another
or at once, and none has to open or close them. A connection belongs to a server as it was declared, with its secrets,
and to a workspace.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from weft.tool.mcp.connection import Connection
from weft.tool.mcp.plan import Plan, plan
from weft.tool.mcp.server import Server
from weft.tool.mcp.stdio import GRACE

T = TypeVar("T")


class Hub:
    """The thread, and the connections on it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.connections: dict[str, Connection] = {}
        self._thread = threading.Thread(target=self.loop.run_forever, name="weft-mcp", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry it out there, for a caller on any loop. Cancelling this cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        return await asyncio.wrap_future(future)

    async def connection(self, plan: Plan) -> Connection:
        found = self.connections.get(plan.key)
        if found is None or found.over:
            found = self.connections[plan.key] = Connection(plan, self)
        return found

    async def close(self, name: str | None = None) -> None:
        """End the connections to this server, or to all."""
        mine = [one for one in self.connections.values() if name is None or one.server.name == name]
        await asyncio.gather(*(one.close() for one in mine))


_hub: Hub | None = None
_making = threading.Lock()


def hub() -> Hub:
    """This process's; a fork has none of its parent's."""
    global _hub
    with _making:
        if _hub is None or _hub.pid != os.getpid():
            _hub = Hub()
            atexit.register(_leave, _hub)
        return _hub


def _leave(ended: Hub) -> None:
    if ended.pid == os.getpid() and ended.connections:
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(ended.close(), ended.loop).result(3 * GRACE)


async def close(name: str | None = None) -> None:
    """End the servers of this name, or all, that this process has started, and its connections to others."""
    if _hub is not None and _hub.pid == os.getpid():
        await _hub.run(_hub.close(name))


async def use(server: Server, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do something with a connection to the server, for at most its `timeout`, in a step. Raises McpError, Denied."""
    planned, here = await plan(server), hub()
    return await here.run(_use(here, planned, work))


async def _use(here: Hub, planned: Plan, work: Callable[[Connection], Awaitable[T]]) -> T:
    connection = await here.connection(planned)
    return await connection.use(work)

"""Where this program serves: on its standard input and output, or over HTTP on an address of this machine.

Over HTTP it listens on loopback, and answers only requests that name it so (a page in a browser can send requests to
loopback under a name of its own) and that come from no page of another origin. On any other address it needs a token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server as LowServer

SHORTEST = 16
"""Characters of a token."""


async def over_pipes(server: LowServer[Any]) -> None:
    """Serve whoever started this process, until its input ends. What else is printed goes to the standard error."""
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


async def over_http(
    server: LowServer[Any],
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    names: Sequence[str] = (),
    origins: Sequence[str] = (),
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve on this address, at `/mcp`, until cancelled; port 0 is any free one, and `ready` is told the URL. `names`:
    what else this machine is called in requests; `origins`: pages that may send some. `token`: what they must carry as
    `Authorization: Bearer`. Raises BadInput without one on an address that others reach, and for an address that can't
    be listened on."""
    import uvicorn

    if token is not None and len(token) < SHORTEST:
        raise BadInput(f"a token has at least {SHORTEST} characters; make one with: python -m secrets")
    if token is None and not _loopback(host):
        raise BadInput(f"others reach {host}: set WEFT_MCP_TOKEN to a token that callers must give, or use 127.0.0.1")
    config = uvicorn.Config(
        app_of(server, host, token, names, origins), host=host, port=port, log_level="critical", lifespan="on",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    running = _server_class()(config)
    running.ready = ready
    serving = asyncio.create_task(_served(running))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        running.should_exit = True  # answers under way get a moment
        await serving
        raise
    except _Taken:
        raise BadInput(f"{host}:{port} can't be listened on; choose another port") from None


class _Taken(Exception):
    """The address can't be listened on."""


async def _served(running: Any) -> None:
    try:
        await running.serve()
    except SystemExit:  # an exit from a task would end the loop
        raise _Taken from None


def app_of(
    server: LowServer[Any], host: str, token: str | None, names: Sequence[str] = (), origins: Sequence[str] = ()
) -> Any:
    """The ASGI application."""
    from mcp.server.transport_security import TransportSecuritySettings

    known = ["127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host, *names]
    allowed = [form for name in dict.fromkeys(known) for form in (name, f"{name}:*")]
    settings = TransportSecuritySettings(allowed_hosts=allowed, allowed_origins=[*origins])
    app = server.streamable_http_app(transport_security=settings, host=host)
    return app if token is None else _Guarded(app, token)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Guarded:
    """Lets through who gives the token."""

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or self._knows(scope["headers"]):
            await self.app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"give the token as Authorization: Bearer TOKEN\n"})

    def _knows(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self.expected)


def _server_class() -> Any:
    import uvicorn

    class Running(uvicorn.Server):
        """Tells its address, and leaves signals to the program."""

        ready: Callable[[str], None] | None = None

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            if self.ready is not None and self.servers:
                address = self.servers[0].sockets[0].getsockname()
                place = f"[{address[0]}]" if ":" in address[0] else address[0]
                self.ready(f"http://{place}:{address[1]}/mcp")

        def capture_signals(self) -> Any:
            import contextlib

            return contextlib.nullcontext()

    return Running

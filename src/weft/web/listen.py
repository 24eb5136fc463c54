"""An HTTP server on this event loop, as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING

import uvicorn

from weft.core.errors import BadInput

if TYPE_CHECKING:
    from starlette.applications import Starlette


class Listener(uvicorn.Server):
    """One that leaves signals to those who started it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextlib.asynccontextmanager
async def listening(
    application: Starlette, host: str, port: int, *, grace: float, what: str
) -> AsyncIterator[tuple[str, Listener]]:
    """Answer at this place while the body runs (`port` 0: any that is free), then end what is under way within `grace`
    seconds. Gives the address. Raises BadInput, about `what`, if the place is not to be had."""
    taken = _taken(host, port, what)
    config = uvicorn.Config(
        application,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    listener = Listener(config)
    answering = asyncio.create_task(listener.serve(sockets=[taken]))
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{taken.getsockname()[1]}", listener
    finally:
        listener.should_exit = True
        await answering


def of_this_machine(host: str) -> bool:
    """Whether a Host header (or a place to listen at) means this machine, seen from itself."""
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _taken(host: str, port: int, what: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        taken = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise BadInput(f"{what} can't listen on {host} port {port}: {error}; choose another host or port") from None
    # asyncio does it for sockets of its own only, and without it an answer waits 40 ms for the client's next word.
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return taken

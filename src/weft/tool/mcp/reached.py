"""Talking to a server over HTTP: only to the address that was decided about, and never more than is bearable.

The name is looked up once, in the step that opens the connection, and each address decided on there, as in
`weft.tool.http`; the connection then goes to that address and to no other, whatever name a redirect or a second
look-up would lead to. Nothing of the environment is used: no proxy, no .netrc, no cookies of others.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from weft.core.crossing import closer
from weft.core.errors import Denied, MissingExtra
from weft.core.pattern import net_resource, url_resource
from weft.tool.mcp.errors import ServerFailed, ServerMisfit

LARGEST = 64 * 2**20
"""Bytes of one answer."""


async def address_of(name: str, url: str) -> str:
    """An address of the URL's host that may be connected to. Raises Denied, ServerFailed."""
    host = urlsplit(url).hostname or ""
    port = int(url_resource(url).rpartition(":")[2])
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerFailed(f"the MCP server {name!r} is at {host}, which has no address: {error}") from None
    refused: Denied | None = None
    for address in dict.fromkeys(str(each[4][0]) for each in found):
        try:
            closer("net.connect", net_resource(address, port, [host]), "give its address in the URL")
            return address
        except Denied as error:
            refused = error
    if refused is not None:
        raise refused
    raise ServerFailed(f"the MCP server {name!r} is at {host}, which has no address")


def http_client(name: str, address: str, headers: Mapping[str, str], seconds: float) -> Any:
    """The HTTP client of a connection."""
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtra("MCP needs the extra `mcp`: pip install 'weft[mcp]'") from error

    class Pinned(httpx2.AsyncBaseTransport):
        def __init__(self) -> None:
            self.lines = httpx2.AsyncHTTPTransport(trust_env=False)

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            host = request.url.host
            request.url = request.url.copy_with(host=address)  # its header still names the host
            request.extensions = {**request.extensions, "sni_hostname": host}
            answer = await self.lines.handle_async_request(request)
            answer.stream = Bounded(answer.stream)
            return answer

        async def aclose(self) -> None:
            await self.lines.aclose()

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for piece in self.inner:
                size += len(piece)
                if size > LARGEST:
                    raise ServerMisfit(f"the MCP server {name!r} sent more than {LARGEST >> 20} MB and was cut off")
                yield piece

        async def aclose(self) -> None:
            await self.inner.aclose()

    return httpx2.AsyncClient(
        transport=Pinned(),
        headers=dict(headers),
        timeout=httpx2.Timeout(seconds, read=None),
        trust_env=False,
        follow_redirects=False,
    )

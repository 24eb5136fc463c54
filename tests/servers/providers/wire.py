"""HTTP/1.1 by hand: every byte and every chunk goes out when it is told to, so that each fault can be made."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.servers.providers.rules import Received

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close by RST
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Cut(Exception):
    """The connection ends here, on purpose."""


async def receive(reader: asyncio.StreamReader) -> Received | None:
    """The next request on this connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    body = await _body(reader, headers)
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    split = urlsplit(target)
    return Received(method, unquote(split.path), dict(parse_qsl(split.query)), headers, body, data)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


class Answer:
    """What is said on a connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def head(self, status: int, headers: Mapping[str, str], pause: float = 0.0) -> None:
        """The headers, byte by byte if there is a pause."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join([*lines, "", ""]).encode("latin-1")
        for piece in [text] if not pause else [text[at : at + 1] for at in range(len(text))]:
            await self._out(piece)
            if pause:
                await asyncio.sleep(pause)

    async def plain(self, status: int, data: Any, headers: Mapping[str, str] | None = None, pause: float = 0.0) -> None:
        """A whole answer: JSON, or bytes as they are."""
        body = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
        own = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        await self.head(status, own, pause)
        await self._out(body)

    async def chunk(self, data: bytes) -> None:
        """One chunk of a stream."""
        if data:
            await self._out(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The proper end of a stream."""
        await self._out(b"0\r\n\r\n")

    def reset(self) -> None:
        """The connection ends by RST."""
        line: socket.socket = self.writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _out(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

"""TLS in front of a PostgreSQL server that has none, with a certificate of our own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from tests.servers.postgres import Unavailable

_ASK = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")  # the protocol's SSLRequest


def certificate(folder: Path, address: str) -> Path:
    """A self-signed certificate for `address`, with its key in the same file."""
    made = folder / f"{address}.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=weft-test",
        "-addext", f"subjectAltName=IP:{address}", "-keyout", "key.pem", "-out", "certificate.pem",
    ]  # fmt: skip
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError as error:
        raise Unavailable("there is no `openssl` on this machine to make a certificate with") from error
    made.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return made


class Front:
    """Takes connections on `port` and passes them on; those that ask for TLS get it."""

    def __init__(self, pem: Path, target: int) -> None:
        self.target = target
        self.encrypted = self.plain = 0
        """Connections so far."""
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Front]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            if first == _ASK:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                self.encrypted += 1
                first = b""
            else:
                self.plain += 1
            up, down = await asyncio.open_connection("127.0.0.1", self.target)
            down.write(first)
            await asyncio.gather(_pass(reader, down), _pass(up, writer))


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()

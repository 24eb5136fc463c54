"""A wire that can be broken: a TCP relay in a thread of its own, with every fault a network has.

with Relay("127.0.0.1", server.port) as relay:
    store = open_store(relay.url(server.create()))
    relay.freeze()               # from any thread, at any time; in effect when the call returns
    relay.heal()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers import free_port

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close by RST


class Relay:
    """Listens on `127.0.0.1:port` (a free one) and forwards each connection to the target."""

    port: int

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.opened = 0
        """Connections taken so far."""
        self.delayed = 0.0
        self.allowance: int | None = None
        self.up = asyncio.Event()  # client to server: set is open
        self.down = asyncio.Event()  # server to client
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen. Returns when connections are taken."""
        self._bind(free_port())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self.heal()

    def close(self) -> None:
        """Reset every connection and stop listening. Idempotent."""
        if self._loop is None or self._thread is None or self._listener is None:
            return
        self.refuse()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()
        self._loop = self._thread = self._listener = None

    def url(self, url: str) -> str:
        """The same URL, but through this relay."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    # Faults ---------------------------------------------------------------------------------------------------------

    def delay(self, seconds: float) -> None:
        """Hold each chunk for so long, each way: a round trip takes `2 * seconds` more. 0 ends it."""
        self._do(lambda: setattr(self, "delayed", seconds))

    def freeze(self) -> None:
        """Forward nothing, neither bytes nor ends of connections, and keep all open, until `thaw`."""
        self._gates(up=False, down=False)

    def half_close(self) -> None:
        """Forward requests but no answers, and keep all open, until `thaw`."""
        self._gates(up=True, down=False)

    def thaw(self) -> None:
        """End `freeze` and `half_close`: what was held goes on its way."""
        self._gates(up=True, down=True)

    def cut(self) -> None:
        """Reset (RST) all connections of this moment, to both ends. New ones are taken."""

        async def reset() -> None:
            tasks = [link.task for link in self._links]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._wait(reset())

    def drop_after(self, size: int | None) -> None:
        """Let `size` bytes more from the client pass on each connection, open or new, then reset it. None ends it."""

        def drop() -> None:
            self.allowance = size
            for link in self._links:
                link.allowance = size

        self._do(drop)

    def refuse(self) -> None:
        """Take no new connections: they are refused (ECONNREFUSED). Open ones go on."""

        async def refuse() -> None:
            if self._accepting is not None and self._listener is not None:
                self._accepting.cancel()
                await asyncio.gather(self._accepting, return_exceptions=True)
                self._accepting = None
                self._listener.close()
                self._bind(self.port)  # bound but not listening: refuses, and the port stays ours

        self._wait(refuse())

    def accept(self) -> None:
        """End `refuse`."""

        async def accept() -> None:
            if self._accepting is None and self._listener is not None:
                self._listener.listen(256)
                self._accepting = asyncio.create_task(self._accept(self._listener))

        self._wait(accept())

    def heal(self) -> None:
        """End every fault. Connections that were reset stay so."""
        self.delay(0)
        self.drop_after(None)
        self.thaw()
        self.accept()

    # In the relay's thread ------------------------------------------------------------------------------------------

    def _bind(self, port: int) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        self._listener.bind(("127.0.0.1", port))
        self.port = port

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.opened += 1
            self._links.add(_Link(self, client))

    def forget(self, link: _Link) -> None:
        """This connection is over."""
        self._links.discard(link)

    def _gates(self, *, up: bool, down: bool) -> None:
        def turn() -> None:
            for gate, is_open in ((self.up, up), (self.down, down)):
                if is_open:
                    gate.set()
                else:
                    gate.clear()

        self._do(turn)

    def _do(self, change: Callable[[], object]) -> None:
        async def run() -> None:
            change()

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("The relay isn't running. Start it first.")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class _Link:
    """One connection: two ways, each a reader and a writer with a line of chunks between them."""

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        self.allowance = relay.allowance
        self._relay = relay
        self._client = client
        self._server = socket.socket()
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._close)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for end in (self._client, self._server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(self._server, self._relay.target)
        up: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(maxsize=64)
        down: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(maxsize=64)
        async with asyncio.TaskGroup() as group:  # the first that raises ends all four, and the link by reset
            group.create_task(self._read(self._client, up))
            group.create_task(self._write(up, self._relay.up, self._server))
            group.create_task(self._read(self._server, down))
            group.create_task(self._write(down, self._relay.down, self._client))

    async def _read(self, source: socket.socket, line: asyncio.Queue[tuple[float, bytes | None]]) -> None:
        loop = asyncio.get_running_loop()
        data: bytes | None = b"?"
        while data:
            try:
                data = await loop.sock_recv(source, _CHUNK)
            except ConnectionError:
                data = None  # a reset, that waits its turn as everything does
            await line.put((loop.time() + self._relay.delayed, data))

    async def _write(
        self, line: asyncio.Queue[tuple[float, bytes | None]], gate: asyncio.Event, sink: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await line.get()
            await asyncio.sleep(due - loop.time())
            await gate.wait()
            if data is None:
                raise ConnectionResetError
            if not data:
                return sink.shutdown(socket.SHUT_WR)
            if sink is self._server and self.allowance is not None:
                data = data[: self.allowance]
                self.allowance -= len(data)
            await loop.sock_sendall(sink, data)
            if sink is self._server and self.allowance == 0:
                raise ConnectionAbortedError

    def _close(self, task: asyncio.Task[None]) -> None:
        self._relay.forget(self)  # first: who sees the end of a connection must see it gone
        reset = task.cancelled() or task.exception() is not None
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

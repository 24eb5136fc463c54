"""One server for all providers: which of them is asked, whether it takes the request, and what it says or fails by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

import msgspec

from tests.servers.providers.anthropic import Anthropic
from tests.servers.providers.chat import Chat
from tests.servers.providers.fault import (
    Broken,
    Fails,
    Fault,
    Faults,
    Flood,
    Foreign,
    Garbage,
    Joined,
    Refuse,
    Silent,
    SlowHeaders,
    Unended,
    chunks,
)
from tests.servers.providers.gemini import Gemini
from tests.servers.providers.ollama import Ollama
from tests.servers.providers.responses import Responses
from tests.servers.providers.rules import Received, Refused, need
from tests.servers.providers.script import Turn
from tests.servers.providers.wire import Answer, Cut, receive

PROVIDERS = (Chat(), Responses(), Anthropic(), Gemini(), Ollama())
Provider = Chat | Responses | Anthropic | Gemini | Ollama
NAMES = tuple(provider.name for provider in PROVIDERS)
KEY = "key-of-the-loopback-providers"


def base_of(provider: str) -> str:
    """What follows the host in the base URL of a provider."""
    return next(each.base for each in PROVIDERS if each.name == provider)


class Providers:
    """All five, in a thread of their own. `turns` may be set anew at any time. `faults`: each request takes the first
    one, or several as a tuple; `None` is a request without fault. `models`: those there are; all, if empty."""

    def __init__(
        self, *turns: Turn, faults: Sequence[Fault | Faults | None] = (), key: str = KEY, models: Sequence[str] = ()
    ) -> None:
        self.turns = [*turns] or [Turn(text=["Hello"])]
        self.faults: deque[Fault | Faults | None] = deque(faults)
        self.key = key
        self.models = [*models]
        self.requests: list[Received] = []
        self.open = 0
        """Requests that are being answered."""
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def base(self, provider: str) -> str:
        """The base URL as users of this provider write it."""
        return self.url + base_of(provider)

    def __enter__(self) -> Self:
        ready = threading.Event()

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            async with self.listening():
                ready.set()
                await self._stop.wait()

        self._thread = threading.Thread(target=asyncio.run, args=(main(),), name="providers", daemon=True)
        self._thread.start()
        ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve in the loop that runs."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=4096, limit=1 << 26)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one connection ---

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (got := await receive(reader)) is not None:
                self.open += 1
                try:
                    await self._answer(got, Answer(writer))
                finally:
                    self.open -= 1
        except (Cut, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, got: Received, answer: Answer) -> None:
        if got.path == "/-/requests":
            await answer.plain(200, msgspec.json.encode(self.requests))
            return
        provider = next((each for each in PROVIDERS if each.serves(got.path)), None)
        if provider is None or got.method != "POST":
            self.requests.append(msgspec.structs.replace(got, refused="no such path"))
            await answer.plain(404, {"error": {"message": f"Invalid URL ({got.method} {got.path})"}})
            return
        planned = self.faults.popleft() if self.faults else None
        faults = planned if isinstance(planned, tuple) else () if planned is None else (planned,)
        try:
            provider.check(got, self.key, self.turns)
            model = provider.model(got)
            need(not self.models or model in self.models, f"The model `{model}` does not exist", status=404)
        except (Refused, TypeError, AttributeError, KeyError) as error:  # what is not even of the right form
            refused = error if isinstance(error, Refused) else Refused(f"Invalid request: {error!r}")
            self.requests.append(msgspec.structs.replace(got, refused=refused.message))
            await answer.plain(refused.status, provider.refusal(refused))
            return
        self.requests.append(got)
        turn = self.turns[min(provider.answered(got), len(self.turns) - 1)]
        if not await _instead(provider, faults, answer):
            await _say(provider, turn, got, faults, answer)


async def _instead(provider: Provider, faults: Faults, answer: Answer) -> bool:
    """A fault that comes instead of an answer; whether there was one."""
    for fault in faults:
        if isinstance(fault, Refuse):
            headers = {"retry-after": fault.retry_after} if fault.retry_after else {}
            refused = Refused("You asked too much of this server.", status=fault.status)
            await answer.plain(fault.status, provider.refusal(refused), {**headers, **fault.headers})
            return True
        if isinstance(fault, Foreign):
            await answer.plain(200, fault.body.encode(), {"content-type": fault.content_type})
            return True
        if isinstance(fault, Silent) and fault.frames is None:
            await asyncio.Event().wait()
    return False


async def _say(provider: Provider, turn: Turn, got: Received, faults: Faults, answer: Answer) -> None:
    pause = next((fault.pause for fault in faults if isinstance(fault, SlowHeaders)), 0.0)
    if provider.streams(got):
        await answer.head(200, {"content-type": provider.media, "transfer-encoding": "chunked"}, pause)
        await _stream(provider, turn, got, faults, answer)
        return
    body = json.dumps(provider.whole(turn, got), ensure_ascii=False).encode()
    if any(isinstance(fault, Garbage) for fault in faults):
        body = body[: len(body) // 2]
    length = str(len(body))
    for fault in faults:
        if isinstance(fault, Broken | Silent):
            await answer.head(200, {"content-type": "application/json", "content-length": length}, pause)
            answer.writer.write(body[: len(body) // 2])
            await answer.writer.drain()
            await _cut(answer, fault)
        if isinstance(fault, Flood):
            await answer.head(200, {"content-type": "application/json", "transfer-encoding": "chunked"})
            await _flood(answer, b'{"flood": "', fault.size)
    await answer.plain(200, body, {"content-type": "application/json"}, pause)


async def _cut(answer: Answer, fault: Broken | Silent) -> None:
    if isinstance(fault, Silent):
        await asyncio.Event().wait()
    elif fault.reset:
        answer.reset()
    raise Cut


async def _flood(answer: Answer, begin: bytes, size: int) -> None:
    await answer.chunk(begin)
    for _ in range(0, size, 65536):
        await answer.chunk(b"x" * 65536)
    raise Cut


async def _stream(provider: Provider, turn: Turn, got: Received, faults: Faults, answer: Answer) -> None:
    frames: Iterator[bytes] | list[bytes] = provider.frames(turn, got)
    if any(isinstance(fault, Unended) for fault in faults):
        frames = [*frames][:-1]
    if any(isinstance(fault, Joined) for fault in faults):
        frames = [b"".join(frames)]
    for at, frame in enumerate(frames):
        for fault in faults:
            await _fault_of_stream(provider, fault, at, frame, answer)
        for chunk in chunks(frame, faults):
            await answer.chunk(chunk)
        if turn.pause:
            await asyncio.sleep(turn.pause)
    await answer.end()


async def _fault_of_stream(provider: Provider, fault: Fault, at: int, frame: bytes, answer: Answer) -> None:
    """What goes wrong before this frame, if its turn has come."""
    match fault:
        case Broken(frames=frames) if frames == at:
            await answer.chunk(frame[: len(frame) // 2])
            await _cut(answer, fault)
        case Silent(frames=frames) if frames == at:
            await _cut(answer, fault)
        case Fails(frames=frames, kind=kind) if frames == at:
            await answer.chunk(provider.fails(kind))
            await answer.end()
            raise Cut
        case Garbage(frames=frames) if frames == at:
            head = b"data: " if b"data: " in frame else b""
            await answer.chunk(head + b'{"id": "broken, "choi' + (b"\n\n" if head else b"\n"))
        case Flood(size=size) if at == 1:
            await _flood(answer, b"data: " if b"data: " in frame else b'{"flood": "', size)

"""A small server of Chat Completions on loopback, in a thread: it answers as a function of the request says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Answer = tuple[int, Mapping[str, str], Any] | list[Any]
"""Status, headers and JSON; or the chunks of a stream, in which a number is a pause in seconds."""


class ChatServer:
    """`requests` holds the bodies it got, `left` counts the streams whose reader went away."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Answer]) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.left = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(
            next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
        )
        body = json.loads(await reader.readexactly(length))
        self.requests.append(body)
        answer = self.answer(body, len(self.requests))
        if isinstance(answer, tuple):
            status, headers, content = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(data)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            await writer.drain()
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for piece in answer:
            if isinstance(piece, int | float):
                await writer.drain()
                await asyncio.sleep(piece)
                if reader.at_eof():
                    raise ConnectionError
            elif piece is ConnectionError:
                writer.transport.abort()
                return False
            else:
                writer.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
                await writer.drain()
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        return False


@contextmanager
def chat_server(answer: Callable[[dict[str, Any], int], Answer]) -> Iterator[ChatServer]:
    """One that answers so until the block ends."""
    server = ChatServer(answer)
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        listening.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    ready.wait(30)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def said(text: str = "", calls: list[tuple[str, str, dict[str, Any]]] = [], finish: str = "") -> Answer:  # noqa: B006
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for id, name, arguments in calls
        ]
    finish = finish or ("tool_calls" if calls else "stop")
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return (
        200,
        {},
        {"id": "1", "model": "m", "choices": [{"message": message, "finish_reason": finish}], "usage": usage},
    )


def piece(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One chunk of a stream."""
    return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def calling(index: int, id: str, name: str, arguments: str) -> dict[str, Any]:
    """A chunk that holds a whole tool call."""
    call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return piece(tool_calls=[call])

"""Talking to a server that is a process: lines of JSON on its input and output, its complaints kept for errors.

The process runs behind the process wall (`Walled`), or as an ordinary child of this one where its declaration says so
(`Bare`). What it sends is bounded: a line, and what comes between two calls; a server that floods is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from weft.core.errors import WeftError
from weft.core.resources import Resources
from weft.runtime.governor import Group, open_group
from weft.runtime.sandbox import Chunk, Job, Running, Streams, choose
from weft.runtime.sandbox.streams import plain
from weft.tool.mcp.errors import ServerFailed, ServerMisfit

LONGEST_LINE = 64 * 2**20
"""Bytes of one message."""
FLOOD = 256 * 2**20
"""Bytes that a server may send between the beginnings of two calls."""
FLOOD_LINES = 100_000
"""Messages that it may send in that time."""
LAST_WORDS = 2_000
"""Bytes of its standard error that are kept."""
GRACE = 2.0
"""Seconds between the end of its input and its own end."""


class Process(Protocol):
    """A server's process."""

    last_words: str
    """The end of what it wrote to its standard error."""

    def stream(self) -> AsyncIterator[Chunk]: ...

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> str:
        """Let it end, else end it; how it ended, in words."""
        ...


class Walled:
    """In the process wall."""

    def __init__(self, running: Running, group: Group) -> None:
        self._running, self._group = running, group
        self.last_words = ""

    @classmethod
    async def begin(cls, job: Job, name: str) -> Walled:
        """Raises SandboxMissing, BadInput."""
        group = await asyncio.to_thread(open_group, job.resources, f"mcp-{name}")
        try:
            return cls(await choose("process").start(job, group), group)
        except BaseException:
            await asyncio.to_thread(group.close)
            raise

    def stream(self) -> AsyncIterator[Chunk]:
        return self._running.stream()

    async def write(self, data: bytes) -> None:
        await self._running.write(data)

    async def end(self) -> str:
        self._running.close_input()
        try:
            try:
                done = await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self._running.wait())), GRACE)
            except TimeoutError:
                await self._running.kill()
                done = await self._running.wait()
        finally:
            await asyncio.to_thread(self._group.close)
        await asyncio.to_thread(done.drop)
        if (over := done.error()) is not None:
            return str(over)
        return f"ended by signal {done.signal}" if done.signal else f"ended with status {done.status}"


class Bare:
    """As an ordinary child, in a group of processes of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.last_words = ""

    @classmethod
    async def begin(cls, argv: Sequence[str], env: Mapping[str, str], folder: str) -> Bare:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        made = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**kept, **env},
            cwd=folder,
            start_new_session=True,
        )
        return cls(made)

    async def stream(self) -> AsyncIterator[Chunk]:
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue(16)

        async def read(number: int, pipe: asyncio.StreamReader) -> None:
            while data := await pipe.read(1 << 16):
                await chunks.put(Chunk(number, data))
            await chunks.put(None)

        outputs = [pipe for pipe in (self._process.stdout, self._process.stderr) if pipe is not None]
        readers = [asyncio.create_task(read(number, pipe)) for number, pipe in enumerate(outputs, 1)]
        try:
            for _ in readers:
                while (chunk := await chunks.get()) is not None:
                    yield chunk
        finally:
            for reader in readers:
                reader.cancel()

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def end(self) -> str:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = await self._process.wait()
        return f"ended by signal {-code}" if code < 0 else f"ended with status {code}"


def job_of(
    argv: Sequence[str], env: Mapping[str, str], read: Sequence[str], write: Sequence[str], folder: str | None,
    network: bool, resources: Resources,
) -> Job:  # fmt: skip
    """What runs in the wall. Raises BadInput."""
    return Job(
        argv=[*argv],
        env=env,
        read=[*read, *_environment_of(argv[0])],
        write=[*write],
        cwd=folder,
        interactive=True,
        network=network,
        streams=Streams(keep=LAST_WORDS, whole=0),
        resources=resources,
    )


def _environment_of(program: str) -> list[str]:
    """The virtual environment that a program is of: without it, it would not start."""
    place = Path(os.path.abspath(program)).parent.parent  # noqa: PTH100 (a link leads out of it)
    inside = "/" in program and (place / "pyvenv.cfg").is_file()
    return [str(place)] if inside and not Path(sys.prefix).absolute().is_relative_to(place) else []


class Lines:
    """A transport of the official SDK over a process: an async context manager that gives two streams."""

    def __init__(self, name: str, process: Process) -> None:
        self._name, self._process = name, process
        self.fault: WeftError | None = None
        """Why nothing more comes, once nothing does."""
        self.over = asyncio.Event()
        self.odd = 0
        """Lines that were no messages."""
        self._bytes = self._lines = 0

    def begin_call(self) -> None:
        """A call begins: what it may send is counted anew."""
        self._bytes = self._lines = 0

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Any, Any]]:
        import anyio

        to_session, from_server = anyio.create_memory_object_stream[Any](0)
        to_server, from_session = anyio.create_memory_object_stream[Any](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, to_session)
            tasks.start_soon(self._write, from_session)
            try:
                yield from_server, to_server
            finally:
                with anyio.CancelScope(shield=True):
                    how = await self._process.end()
                    self.over.set()
                    self.fault = self.fault or ServerFailed(f"the MCP server {self._name!r} {how}")
                    for stream in (to_session, from_server, to_server, from_session):
                        stream.close()
                tasks.cancel_scope.cancel()

    async def _read(self, to_session: Any) -> None:
        import anyio

        begun: list[bytes] = []  # of the line that has not ended yet
        size = 0
        async with to_session:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                async for chunk in self._process.stream():
                    if chunk.fd == 2:
                        self._hear(chunk.data)
                        continue
                    self._bytes += len(chunk.data)
                    ended, newline, rest = chunk.data.rpartition(b"\n")
                    lines: list[bytes] = []
                    if newline:
                        lines = b"".join([*begun, ended]).split(b"\n")
                        begun, size = [], 0
                    begun.append(rest)
                    size += len(rest)
                    self._lines += len(lines)
                    if self._flooded(size):
                        break
                    for line in lines:
                        if (message := self._message(line)) is not None:
                            await to_session.send(message)
            self.over.set()

    def _hear(self, data: bytes) -> None:
        said = data[-LAST_WORDS:].decode("utf-8", "replace")
        self._process.last_words = plain((self._process.last_words + said)[-LAST_WORDS:])

    def _flooded(self, open_line: int) -> bool:
        if open_line > LONGEST_LINE:
            what = f"a message of more than {LONGEST_LINE >> 20} MB"
        elif self._bytes > FLOOD:
            what = f"more than {FLOOD >> 20} MB in one call"
        elif self._lines > FLOOD_LINES:
            what = f"more than {FLOOD_LINES} messages in one call"
        else:
            return False
        self.fault = ServerMisfit(f"the MCP server {self._name!r} sent {what} and was ended")
        return True

    def _message(self, line: bytes) -> Any:
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        if not line.strip():
            return None
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:  # a program that prints to the wrong stream
            self.odd += 1
            return None

    async def _write(self, from_session: Any) -> None:
        import anyio

        async with from_session:
            try:
                async for message in from_session:
                    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await self._process.write(text.encode() + b"\n")
            except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
                self.over.set()

    def last_words(self) -> str:
        """For an error: what it complained of, if it did."""
        said = self._process.last_words.strip()
        odd = f"; {self.odd} lines that it wrote were no messages" if self.odd else ""
        return odd + (f"; its last words: {said[-500:]!r}" if said else "")

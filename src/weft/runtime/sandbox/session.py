"""A shell or a Python that stays: commands one after another, each with its status and its outputs.

    async with await Session.open(choose("process"), Job(argv=["/bin/sh"], read=[folder], cwd=folder)) as shell:
        await shell.run("cd src; export LEVEL=3")
        reply = await shell.run("ls | wc -l")

Where one command ends and the next begins is told by marks that the session draws by chance for each command. What runs
in a session can spoil that session, as it can kill its shell; it can spoil no other.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal

import msgspec

from weft.core.errors import BadInput, OverTime
from weft.runtime.governor import Group
from weft.runtime.sandbox.job import Job, Streams
from weft.runtime.sandbox.live import Live
from weft.runtime.sandbox.streams import Kept, Output
from weft.runtime.sandbox.wall import Chunk, Finished, Wall

_SHELL = "command . {file} </dev/null; printf '\\n{mark} %d\\n' $?; printf '\\n{mark} 0\\n' >&2\n"
_PYTHON = """\
import os, sys, traceback
commands = os.fdopen(os.dup(0), "r")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
names = {"__name__": "__main__"}
for line in commands:
    file, mark = line.split()
    status = 0
    try:
        with open(file) as source:
            code = compile(source.read(), "<command>", "exec")
        exec(code, names)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        stream.write(f"\\n{mark} {status}\\n")
        stream.flush()
"""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of one command. `status`: its exit status (of a Python command: 1 if it raised)."""

    status: int
    stdout: Output
    stderr: Output

    def drop(self) -> None:
        """Forget the outputs kept on disk."""
        self.stdout.forget()
        self.stderr.forget()


class Session:
    """Made by `open`. One command at a time."""

    def __init__(
        self, running: Live, kind: Literal["shell", "python"], seconds: float | None, streams: Streams
    ) -> None:
        self._running, self._kind, self._seconds, self._streams = running, kind, seconds, streams
        self._chunks = running.stream()
        self._turn = asyncio.Lock()
        self._count = 0
        self._over = False

    @classmethod
    async def open(cls, wall: Wall, job: Job, group: Group | None = None) -> Session:
        """Start it. The job's command is the shell (`argv`); with `python=""` it is a Python instead, and what text
        there is runs first. `resources.seconds` limits each command, not the session.

        Raises BadInput where the wall has no processes to stay, and what `Wall.start` raises.
        """
        kind: Literal["shell", "python"] = "shell" if job.python is None else "python"
        first, seconds = job.python, job.resources.seconds
        job = replace(job, interactive=True, resources=msgspec.structs.replace(job.resources, seconds=None))
        if kind == "python":
            job = replace(job, python=_PYTHON)
        streams, job = job.streams, replace(job, streams=Streams(keep=2000, whole=0))  # each command's are kept
        running = await wall.start(job, group)
        if not isinstance(running, Live):
            await running.kill()
            raise BadInput(f"the {wall.name} wall has no sessions of processes")
        session = cls(running, kind, seconds, streams)
        try:
            await session.run(first or "")  # its end shows that the session is ready
        except EOFError:
            ended = await session.close()
            ended.drop()
            raise EOFError(f"the session ended at once: {ended.stderr.text[-500:]}") from None
        except BaseException:
            (await session.close()).drop()
            raise
        return session

    @property
    def alive(self) -> bool:
        return self._running.process.poll() is None

    async def run(
        self,
        text: str,
        seconds: float | None = None,
        limit: Callable[[Chunk], None] | None = None,
        streams: Streams | None = None,
    ) -> Reply:
        """Run a command of the shell, or a piece of Python, and wait for its end. `limit` sees the outputs as they
        come; `streams` is what is kept of them (else what the job says).

        Raises OverTime if it takes longer than `seconds` (else the job's), and EOFError if the session ended with it or
        had ended: it is of no use then, and must be closed.
        """
        async with self._turn:
            self._count += 1
            mark = f"weft-{secrets.token_hex(16)}"
            name = f"command{self._count}"
            if self._over or not self.alive:
                raise EOFError("the session has ended: open another")
            (self._running.scratch.inside / name).write_text(text, "utf-8", "surrogateescape")
            file = f"{self._running.launch.inside}/{name}"
            line = _SHELL.format(file=file, mark=mark) if self._kind == "shell" else f"{file} {mark}\n"
            seconds = self._seconds if seconds is None else seconds
            try:
                async with asyncio.timeout(seconds):
                    await self._running.write(line.encode())
                    return await self._reply(mark.encode(), limit, streams or self._streams)
            except TimeoutError:
                await self._running.kill()
                raise OverTime(seconds or 0, seconds or 0, "the session was ended with it; open another") from None
            except BrokenPipeError:
                raise EOFError("the session has ended: open another") from None
            except asyncio.CancelledError:
                await self._running.kill()
                raise
            finally:
                (self._running.scratch.inside / name).unlink(missing_ok=True)

    async def _reply(self, mark: bytes, limit: Callable[[Chunk], None] | None, streams: Streams) -> Reply:
        readers = {
            fd: _Reader(Kept(streams, self._running.scratch.output(f"{self._count}-{fd}")), mark) for fd in (1, 2)
        }
        async for chunk in _tail(self._chunks):
            readers[chunk.fd].add(chunk.data)
            if limit is not None:
                limit(chunk)
            if all(reader.status is not None for reader in readers.values()):
                return Reply(
                    status=readers[1].status or 0, stdout=readers[1].kept.done(), stderr=readers[2].kept.done()
                )
        self._over = True
        raise EOFError("the session ended with this command: open another")

    async def close(self) -> Finished:
        """End it, with all that it started. What it changed in its copies is to be taken from the result, before the
        session's block ends."""
        if self.alive and not self._over:
            await self._running.kill()
        return await self._running.wait()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (await self.close()).drop()


class _Reader:
    """One output of one command, up to its mark."""

    def __init__(self, kept: Kept, mark: bytes) -> None:
        self.kept = kept
        self.status: int | None = None
        self._mark = re.compile(rb"\n" + mark + rb" (-?\d+)\n")
        self._room = len(mark) + 16
        self._held = b""

    def add(self, data: bytes) -> None:
        self._held += data
        if found := self._mark.search(self._held):
            self.kept.add(self._held[: found.start()])
            self.status = int(found[1])
        elif len(self._held) > self._room:
            self.kept.add(self._held[: -self._room])
            self._held = self._held[-self._room :]


async def _tail(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """The same stream, that goes on after this reader has had enough of it."""
    while True:
        try:
            yield await anext(chunks)
        except StopAsyncIteration:
            return

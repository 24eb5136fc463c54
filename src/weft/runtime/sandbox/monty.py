"""The wall of the embedded Python: pydantic-monty, an interpreter of its own that has no way out but the functions it
is given.

Not CPython: a part of the language and few modules, made for programs that a model writes to call functions. It starts
in under a millisecond, and a program that waits for a function can be put into bytes and gone on with elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput, SandboxMissing
from weft.core.resources import Usage
from weft.runtime.governor import Group
from weft.runtime.sandbox.copy import Copies
from weft.runtime.sandbox.disk import DiskWatch
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.launch import hidden_in
from weft.runtime.sandbox.live import copied, watched
from weft.runtime.sandbox.scratch import Scratch
from weft.runtime.sandbox.streams import Kept
from weft.runtime.sandbox.wall import Availability, Chunk, Finished, Limit

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, AsyncMontySession, MountDir

MEMORY = 256 * 2**20
"""Bytes of a program's heap if its resources say nothing."""
_GRACE = 1.0
_WINDOW = 1000
"""Chunks that a reader of the stream may be behind before it misses some."""


class Monty:
    """A wall with its own pool of worker processes, which live from the first job until `close`."""

    name = "monty"
    grouped = False

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._pool: AsyncMonty | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def available(self) -> Availability:
        if importlib.util.find_spec("pydantic_monty") is None:
            return Availability(False, "pydantic-monty is not installed", fix="pip install 'weft[sandbox]'")
        version = importlib.metadata.version("pydantic-monty")
        weaker = "a part of Python: few modules, no packages, no commands; resource groups do not reach its workers"
        return Availability(True, f"pydantic-monty {version}", (weaker,))

    async def pool(self) -> AsyncMonty:
        found = self.available()
        if not found.ok:
            raise SandboxMissing(f"no embedded Python: {found.found}; {found.fix}")
        from pydantic_monty import AsyncMonty

        if self._pool is None or self._loop is not asyncio.get_running_loop():
            self._pool, self._loop = (
                AsyncMonty(min_processes=self._workers, max_processes=64),
                asyncio.get_running_loop(),
            )
            await self._pool.__aenter__()
        return self._pool

    async def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.__aexit__(None, None, None)

    async def start(self, job: Job, group: Group | None = None) -> Program:
        if job.python is None or job.interactive or job.stdin or job.network:
            raise BadInput(
                "the embedded Python runs Job(python=...), and no command, and has no input, nor network, but its "
                "functions"
            )
        for place in (*job.read, *job.write):
            if hidden := hidden_in(Path(place), job):
                raise SandboxMissing(f"the embedded Python can't hide {hidden[0]}: give the folder as copy=")
        if files := [str(place) for place in job.places if not place.is_dir()]:
            raise BadInput(f"the embedded Python is given folders, not single files: {files[0]}")
        pool = await self.pool()
        with Scratch.begun() as scratch:
            copies = await copied(job, scratch, None)
            return Program(pool, job, scratch, copies, await watched(job, scratch, copies))

    @contextlib.asynccontextmanager
    async def session(
        self, job: Job, *, rounds: int | None = None, **settings: Any
    ) -> AsyncIterator[AsyncMontySession]:
        """The interpreter itself, under the job's limits, for programs that are stopped at each call of a function: see
        pydantic-monty's `feed_start`, `dump` and `load_snapshot`. `rounds`: how often it may turn to its host;
        `settings`: of pydantic-monty's `checkout`."""
        pool = await self.pool()
        limits: Any = _limits(job) if rounds is None else {**_limits(job), "max_suspensions": rounds}
        async with pool.checkout(limits=limits, **settings) as session:
            yield session


def _limits(job: Job) -> Any:
    asked = job.resources
    limits: dict[str, Any] = {"max_memory": MEMORY if asked.memory is None else asked.memory}
    return limits if asked.seconds is None else {**limits, "max_feed_duration_secs": asked.seconds}


class Program:
    """Implements `Running`."""

    def __init__(self, pool: AsyncMonty, job: Job, scratch: Scratch, copies: Copies, disk: DiskWatch) -> None:
        self.job, self._pool, self._scratch, self._copies, self._disk = job, pool, scratch, copies, disk
        self._kept = {fd: Kept(job.streams, scratch.output(name)) for fd, name in ((1, "stdout"), (2, "stderr"))}
        self._chunks: asyncio.Queue[Chunk | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._stopped: Limit | None = None
        self._began = monotonic()
        self._task = asyncio.create_task(self._run())
        self._watching = asyncio.create_task(self._watch())

    def _print(self, stream: str, text: str) -> None:
        self._loop.call_soon_threadsafe(self._add, 2 if stream == "stderr" else 1, text.encode("utf-8", "replace"))

    def _add(self, fd: int, data: bytes) -> None:
        self._kept[fd].add(data)
        if self._chunks is not None and self._chunks.qsize() < _WINDOW:
            self._chunks.put_nowait(Chunk(fd, data))

    async def stream(self) -> AsyncIterator[Chunk]:
        self._chunks = asyncio.Queue()
        self._task.add_done_callback(
            lambda _: self._loop.call_soon(self._chunks.put_nowait, None) if self._chunks else None
        )
        if self._task.done():
            return
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    async def write(self, data: bytes) -> None:
        raise BrokenPipeError("the embedded Python has no input")

    def close_input(self) -> None:
        pass

    async def kill(self) -> None:
        self._stop("killed")
        await self.wait()

    def _stop(self, limit: Limit) -> None:
        self._stopped = self._stopped or limit
        self._task.cancel()

    async def _watch(self) -> None:
        """Ends it for what it writes."""
        while not self._task.done():
            with contextlib.suppress(OSError):  # its folder goes with its end
                if await self._disk.over():
                    self._stop("disk")
                    return
            await asyncio.wait({self._task}, timeout=self._disk.pause)

    async def wait(self) -> Finished:
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._stopped and self._task.cancelled():
                return await self._end(None, None, self._stopped)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            (await self._end(None, None, "killed")).drop()
            raise

    async def _run(self) -> Finished:
        from pydantic_monty import MontyCrashedError, MontyError, MontyRuntimeError, MontySyntaxError

        job, seconds = self.job, self.job.resources.seconds
        assert job.python is not None
        try:
            with contextlib.ExitStack() as stack:
                mounts = [stack.enter_context(mount) for mount in self._mounts()]
                async with asyncio.timeout(None if seconds is None else seconds + _GRACE):
                    async with self._pool.checkout(limits=_limits(job)) as session:
                        value = await session.feed_run(
                            job.python,
                            external_lookup=dict(job.functions),
                            print_callback=self._print,
                            mount=mounts,
                            cwd=str(job.cwd) if job.cwd else None,
                        )
            return await self._end(0, value, None)
        except TimeoutError:
            return await self._end(None, None, "time")
        except MontyCrashedError as error:
            self._add(2, f"{error}\n".encode())
            return await self._end(None, None, "time" if error.timed_out else "killed")
        except (MontyRuntimeError, MontySyntaxError) as error:
            self._add(2, f"{error.display()}\n".encode())
            return await self._end(1, None, *_limit(str(error)))
        except MontyError as error:
            self._add(2, f"{error}\n".encode())
            return await self._end(1, None, None)

    def _mounts(self) -> list[MountDir]:
        from pydantic_monty import MountDir

        places = {copy.source: copy.target for copy in self._copies.made}
        return [
            MountDir(virtual_path=str(path), host_path=path, mode="read-only") for path in map(Path, self.job.read)
        ] + [
            MountDir(virtual_path=str(path), host_path=places.get(path, path), mode="read-write")
            for path in map(Path, (*self.job.write, *self.job.copy))
        ]

    async def _end(self, status: int | None, value: object, limit: Limit | None, peak: int = 0) -> Finished:
        await asyncio.sleep(0)  # what was printed last is on its way here
        if limit is None and await self._disk.over(last=True):
            limit = "disk"
        if limit == "disk":
            self._copies.broken = "it wrote too much"
        elif self._copies.made:
            await asyncio.to_thread(self._copies.compare)
        if not self._copies.made:
            await asyncio.to_thread(self._scratch.remove)
        return Finished(
            status=status,
            signal=None,
            stdout=self._kept[1].done(),
            stderr=self._kept[2].done(),
            limit=limit,
            usage=Usage(seconds=monotonic() - self._began, memory_peak=peak, written_bytes=self._disk.written),
            resources=self.job.resources,
            value=value,
            copies=self._copies,
        )


def _limit(text: str) -> tuple[Limit | None, int]:
    """Which limit an error of the interpreter is about, and the bytes it tells of."""
    if text.startswith("TimeoutError: feed time limit exceeded"):
        return "time", 0
    memory = re.match(r"MemoryError: memory limit exceeded: (\d+)", text)
    return ("memory", int(memory[1])) if memory else (None, 0)

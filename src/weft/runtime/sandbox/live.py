"""A job that is processes of this machine: its streams, its limits and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import msgspec

from weft.core.errors import BadInput, SandboxMissing
from weft.core.resources import Usage
from weft.runtime.governor import Group
from weft.runtime.sandbox.copy import Copies, Copy
from weft.runtime.sandbox.disk import DiskWatch
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.scratch import Scratch, started
from weft.runtime.sandbox.streams import Kept
from weft.runtime.sandbox.wall import Chunk, Finished, Limit

_WINDOW = 4_000_000
"""Bytes that a reader of the stream may be behind before the job waits for it."""
_LAST = 5.0
"""Seconds that a killed tree of processes is waited for."""


@dataclass
class Launch:
    """How to start it: `words`, all of the command with what goes before it, the descriptors it inherits, how the wall
    ends it, with all in it, and where the wall writes `begun` in case it could be built."""

    name: str
    words: Sequence[str]
    inherit: Sequence[int]
    kill: Callable[[Live], None]
    status: int
    begun: bytes
    disk: DiskWatch
    inside: str
    """Where the job sees the scratch folder's `in`."""
    copies: Copies = field(default_factory=Copies)
    ended: Callable[[], None] = lambda: None
    """Called when nothing of it runs any more."""


class Live:
    """Implements `Running`."""

    def __init__(self, job: Job, group: Group | None, scratch: Scratch, launch: Launch) -> None:
        self.job, self.group, self.scratch, self.launch = job, group, scratch, launch
        self._kept = {
            1: Kept(job.streams, scratch.output("stdout")),
            2: Kept(job.streams, scratch.output("stderr")),
        }
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._news = asyncio.Event()
        self._streaming: list[Chunk] | None = None
        self._behind = 0
        self._paused = False
        self._limit: Limit | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self.began = monotonic()
        try:
            self.process = subprocess.Popen(
                [*launch.words],
                stdin=subprocess.PIPE if job.stdin or job.interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                pass_fds=launch.inherit,
                start_new_session=True,
            )
            self.pid = self.process.pid
            scratch.note(f"{self.pid} {started(self.pid)}")
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            os.close(launch.status)
            if hasattr(self, "pid"):
                launch.kill(self)
            raise
        self._loop.add_reader(self._pidfd, self._exited)
        assert self.process.stdout and self.process.stderr
        self._open = {self.process.stdout.fileno(): 1, self.process.stderr.fileno(): 2}
        for descriptor in self._open:
            os.set_blocking(descriptor, False)
            self._loop.add_reader(descriptor, self._read, descriptor)
        self._feeding = asyncio.create_task(self._feed(job.stdin)) if job.stdin else None
        self._watching = asyncio.create_task(self._watch())
        self._finished = asyncio.create_task(self._end())

    # --- streams ---------------------------------------------------------------------------------------------

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, 1 << 18)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(descriptor)
            del self._open[descriptor]
            if not self._open:
                self._silent.set()
            self._news.set()
            return
        fd = self._open[descriptor]
        self._kept[fd].add(data)
        if self._streaming is not None:
            self._streaming.append(Chunk(fd, data))
            self._behind += len(data)
            self._news.set()
            if self._behind > _WINDOW and not self._paused:
                self._paused = True
                for each in self._open:
                    self._loop.remove_reader(each)

    async def stream(self) -> AsyncIterator[Chunk]:
        self._streaming = []
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                chunks, self._streaming, self._behind = self._streaming, [], 0
                for chunk in chunks:
                    yield chunk
                self._go_on()
                if not self._open and not self._streaming:
                    return
        finally:
            self._streaming, self._behind = None, 0
            self._go_on()

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            for each in self._open:
                self._loop.add_reader(each, self._read, each)

    async def write(self, data: bytes) -> None:
        pipe = self.process.stdin
        if pipe is None or pipe.closed:
            raise BrokenPipeError("its input is closed")
        os.set_blocking(pipe.fileno(), False)
        left, ready = memoryview(data), asyncio.Event()
        while left:
            try:
                left = left[os.write(pipe.fileno(), left) :]
            except BlockingIOError:
                ready.clear()
                self._loop.add_writer(pipe.fileno(), ready.set)
                try:
                    await ready.wait()
                finally:
                    self._loop.remove_writer(pipe.fileno())

    def close_input(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    async def _feed(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            await self.write(data)
        if not self.job.interactive:
            self.close_input()

    # --- its end ---------------------------------------------------------------------------------------------

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()

    async def _watch(self) -> None:
        """Ends it for its time, or for what it writes."""
        asked, written = self.job.resources, False
        disk = self.launch.disk
        while not self._ended.is_set():
            spent = monotonic() - self.began - (self.group.usage().paused_seconds if self.group else 0)
            left = asked.seconds - spent if asked.seconds is not None else None
            if left is not None and left <= 0:
                self._stop("time")
                return
            with contextlib.suppress(OSError):
                written = await disk.over()
            if written:
                self._stop("disk")
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), disk.pause if left is None else min(left, disk.pause))

    def _stop(self, limit: Limit) -> None:
        if self._limit is None and not self._ended.is_set():
            self._limit = limit
        if self.group is not None:
            self.group.kill()
        self.launch.kill(self)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do this after a while, should the job's end still be waited for then."""
        timer = self._loop.call_later(seconds, action)
        self._timers.append(timer)

    async def kill(self) -> None:
        self._stop("killed")
        await self.wait()

    async def wait(self) -> Finished:
        try:
            return await asyncio.shield(self._finished)
        except asyncio.CancelledError:
            self._stop("killed")
            (await asyncio.shield(self._finished)).drop()  # nobody is there to take what it did
            raise

    async def _end(self) -> Finished:
        await self._ended.wait()
        self._go_on()
        seconds = monotonic() - self.began
        if self.group is not None:
            self.group.kill()  # what it left running
        self.launch.kill(self)
        try:
            await asyncio.wait_for(self._silent.wait(), _LAST)
        except TimeoutError:
            for descriptor in [*self._open]:
                self._loop.remove_reader(descriptor)
            self._open.clear()
            self._news.set()
        for task in (self._feeding, self._watching):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        code = self.process.wait()
        for timer in self._timers:
            timer.cancel()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        os.close(self._pidfd)
        self.launch.ended()
        return await self._result(code, seconds)

    def _begun(self) -> bool:
        """Whether the job's own first program ran. Nobody holds the other end any more."""
        said = b""
        while data := os.read(self.launch.status, 4096):
            said += data
        return self.launch.begun in said

    async def _result(self, code: int, seconds: float) -> Finished:
        usage = Usage(seconds=seconds) if self.group is None else self.group.usage()
        why = self.group.why_ended() if self.group is not None else None
        limit: Limit | None = self._limit or ("time" if why == "seconds" else why)
        copies = self.launch.copies
        if limit is None and self.scratch.path.exists() and await self.launch.disk.over(last=True):
            limit = "disk"
        if limit == "disk" and not usage.written_bytes:
            usage = msgspec.structs.replace(usage, written_bytes=self.launch.disk.written)
        if copies.made and limit != "disk":
            await asyncio.to_thread(copies.compare)
        elif copies.made:
            copies.broken = "it wrote too much"
        else:
            await asyncio.to_thread(self.scratch.remove)
        ended = -code if code < 0 else code - 128 if 128 < code <= 128 + 64 else None
        stderr = self._kept[2].done()
        begun = self._begun()
        os.close(self.launch.status)
        if not limit and code == 1 and not begun:
            await asyncio.to_thread(self.scratch.remove)
            raise SandboxMissing(f"the {self.launch.name} wall could not be built: {stderr.text.strip()}")
        return Finished(
            status=None if ended else code,
            signal=ended,
            stdout=self._kept[1].done(),
            stderr=stderr,
            limit=limit,
            usage=usage,
            resources=self.job.resources,
            copies=copies,
        )


async def watched(job: Job, scratch: Scratch, copies: Copies) -> DiskWatch:
    """A watch over all that the job may write, as it is before it begins."""
    folders = [scratch.tmp, *(copy.target for copy in copies.made), *map(Path, job.write)]
    return await asyncio.to_thread(DiskWatch, folders, job.resources)


async def copied(job: Job, scratch: Scratch, owner: int | None) -> Copies:
    """The job's copies, made."""
    made = [Copy(Path(path), scratch.path / f"copy{index}", job.hides) for index, path in enumerate(job.copy)]
    copies = Copies(made, scratch.path)
    for copy in made:
        try:
            await asyncio.to_thread(copy.make, owner)
        except OSError as error:
            raise BadInput(f"Job(copy=[{str(copy.source)!r}]): {error}") from error
    return copies


def end_group(pid: int) -> None:
    """Kill a process and those of its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)

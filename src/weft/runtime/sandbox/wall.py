"""One interface to every sandbox: a `Wall` starts a `Job` and gives a `Running`, which ends as a `Finished`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from weft.core.errors import OverDisk, OverLimit, OverMemory, OverPids, OverTime
from weft.core.resources import Resources, Usage
from weft.runtime.governor import Group, advised, grouped
from weft.runtime.sandbox.copy import Change, Copies
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.streams import Output

Limit = Literal["time", "memory", "pids", "disk", "killed"]


class Chunk(NamedTuple):
    """Bytes as they came: `fd` 1 is the standard output, 2 the standard error."""

    fd: int
    data: bytes


class Availability(NamedTuple):
    """`ok`: it works on this machine. `found`: what there is, or what is not. `weaker`: what it holds less well than
    the best, in words. `fix`: what to install."""

    ok: bool
    found: str
    weaker: tuple[str, ...] = ()
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a job ended. `status`: its exit status, None if a signal (`signal`) ended it. `limit`: the limit that ended
    it, or "killed". `value`: what a program in the embedded Python evaluated to. `changes`: what it did to its copies;
    `take` carries them over, `drop` forgets them."""

    status: int | None
    signal: int | None
    stdout: Output
    stderr: Output
    limit: Limit | None = None
    usage: Usage = field(default_factory=Usage)
    resources: Resources = field(default_factory=Resources)
    value: object = None
    copies: Copies = field(default_factory=Copies)

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.copies.changes

    def take(self, *paths: Path | str) -> None:
        """Carry these changes (all, if none is named) over into the workspace.

        Raises ChangedMeanwhile if a file there was changed since the job began, and then nothing was carried over.
        """
        self.copies.take(*paths)

    def drop(self) -> None:
        """Forget the changes, and the outputs kept on disk. May be called again."""
        self.copies.drop()
        self.stdout.forget()
        self.stderr.forget()

    def check(self) -> Finished:
        """Itself; raises OverTime, OverMemory, OverPids or OverDisk if a limit ended it."""
        if error := self.error():
            raise error
        return self

    def error(self) -> OverLimit | None:
        """Over which limit it was ended, in words for an agent; None if it was not."""
        error = self._error()
        return None if error is None else advised(error, self.usage)

    def _error(self) -> OverLimit | None:
        asked = self.resources
        match self.limit:
            case "time":
                return OverTime(self.usage.seconds, asked.seconds or 0)
            case "memory":
                return OverMemory(self.usage.memory_peak, asked.memory or 0)
            case "pids":
                return OverPids(asked.pids or 0)
            case "disk":
                return OverDisk(self.usage.written_bytes, asked.disk or 0)
        return None


class Running(Protocol):
    """A job under way. Whoever has it waits for it or kills it; cancelling `wait` kills it."""

    def stream(self) -> AsyncIterator[Chunk]:
        """Its outputs from now on, as they come. One reader; a slow one slows the job down."""
        ...

    async def write(self, data: bytes) -> None:
        """More of its input (of an `interactive` job). Raises BrokenPipeError once it reads no more."""
        ...

    def close_input(self) -> None: ...

    async def wait(self) -> Finished:
        """Its end. Nothing of it runs afterwards, and nothing of it is left but what `Finished` holds."""
        ...

    async def kill(self) -> None:
        """End it, with all that it started, whatever that thinks of signals."""
        ...


class Wall(Protocol):
    name: str
    grouped: bool
    """Whether its jobs run in resource groups."""

    def available(self) -> Availability: ...

    async def start(self, job: Job, group: Group | None = None) -> Running:
        """Begin. Raises SandboxMissing where the wall is not available, BadInput for a job that it cannot hold."""
        ...


async def run(wall: Wall, job: Job) -> Finished:
    """Run a job in a resource group of its own and wait for its end."""
    if not wall.grouped:
        return await (await wall.start(job)).wait()
    argv = job.argv or ("python",)
    async with grouped(job.resources, wall.name, argv=argv) as group:
        return await (await wall.start(job, group)).wait()

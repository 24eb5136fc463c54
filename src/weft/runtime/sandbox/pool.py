"""Sessions that are started before they are needed: to hand one out takes as long as to take it from a list."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from weft.core.errors import BadInput
from weft.runtime.governor import Group
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.session import Session
from weft.runtime.sandbox.wall import Wall


class Pool:
    """`size` sessions of the same job, kept ready. Each is handed out once: what was in it ends with it.

    async with Pool(choose("process"), Job(python="import json", read=[folder]), size=4) as pool:
        async with pool.session() as python:
            reply = await python.run("print(json.dumps([1]))")

    A job with `copy` can't wait: its copy would be as old as the wait. `group` opens a resource group for each session.
    """

    def __init__(self, wall: Wall, job: Job, size: int = 2, group: Callable[[], Group] | None = None) -> None:
        if job.copy:
            raise BadInput("Pool: a copy made before it is needed would be old by then; give read= or write=")
        if size < 1:
            raise BadInput(f"Pool(size={size}): keep at least one")
        self._wall, self._job, self._size, self._group = wall, job, size, group
        self._ready: deque[Session] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self._more = asyncio.Condition()
        self._failed: BaseException | None = None
        self._closed = False

    async def __aenter__(self) -> Pool:
        """Ready once all are started. Raises what starting one raises."""
        starts = [asyncio.create_task(self._start()) for _ in range(self._size)]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def ready(self) -> int:
        """How many wait to be handed out."""
        return len(self._ready)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A fresh session; it is closed in the end, and another one started in its place."""
        taken = await self._take()
        try:
            yield taken
        finally:
            (await taken.close()).drop()

    async def _take(self) -> Session:
        async with self._more:
            while not self._closed:
                while self._ready:
                    found = self._ready.popleft()
                    self._refill()
                    if found.alive:
                        return found
                    (await found.close()).drop()
                if self._failed is not None:
                    failed, self._failed = self._failed, None
                    self._refill()
                    raise failed
                self._refill()
                await self._more.wait()
        raise BadInput("the pool is closed")

    def _refill(self) -> None:
        for _ in range(self._size - len(self._ready) - len(self._starting)):
            self._starting.add(asyncio.create_task(self._again()))

    async def _again(self) -> None:
        try:
            await self._start()
        except Exception as error:
            async with self._more:
                self._failed = error
                self._started()
                self._more.notify_all()
        finally:
            self._started()

    def _started(self) -> None:
        """This task brings nothing more. Not left to a callback: until that runs, it would be counted twice."""
        task = asyncio.current_task()
        assert task is not None
        self._starting.discard(task)

    async def _start(self) -> None:
        session = await Session.open(self._wall, self._job, self._group() if self._group else None)
        async with self._more:
            if self._closed:
                (await session.close()).drop()
            else:
                self._ready.append(session)
            self._started()
            self._more.notify_all()

    async def close(self) -> None:
        """End those that wait and those that start."""
        async with self._more:
            self._closed = True
            self._more.notify_all()
        for task in [*self._starting]:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        while self._ready:
            (await self._ready.popleft().close()).drop()

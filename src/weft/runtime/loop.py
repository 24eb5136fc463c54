"""The event loop of one body: tasks, futures and timers, and nothing else.

It has no clock, no sockets and no threads. It runs ready callbacks in the order they were scheduled, and stops
when none is left; its only inputs are outcomes that the process delivers one at a time, in journal order. So
gather, TaskGroup, wait, timeouts, queues, locks and cancellation behave the same whenever the same outcomes are
delivered in the same order, whatever happened meanwhile on the host.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from asyncio import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import Context, copy_context
from itertools import count
from typing import Any, Protocol

from weft.core.errors import Nondeterminism
from weft.runtime.guard import inside


class Timers(Protocol):
    """The boundary, as its loop sees it."""

    clock: float

    def set_timer(self, handle: Timer) -> int: ...
    def drop_timer(self, number: int) -> None: ...
    def complain(self, context: dict[str, Any]) -> None: ...


class Handle:
    __slots__ = ("args", "callback", "context", "live")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.live = True

    def cancel(self) -> None:
        self.live = False

    def cancelled(self) -> bool:
        return not self.live


class Timer(Handle):
    """A callback at a time of the body's clock: an effect, delivered when the record says so."""

    __slots__ = ("deadline", "loop", "number")

    def __init__(
        self,
        deadline: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: BodyLoop,
        context: Context,
    ) -> None:
        super().__init__(callback, args, context)
        self.deadline = deadline
        self.loop = loop
        self.number = 0

    def when(self) -> float:
        return self.deadline

    def cancel(self) -> None:
        if self.live:
            self.live = False
            self.loop.boundary.drop_timer(self.number)


class BodyTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks (asyncio.wait's) have the same order on every run."""

    number: int
    line: tuple[int, ...]
    last: int
    begun: float | None
    """Its line of control (`weft.core.record.Outcome.line`); the last effect that was issued in or before it; when it
    was started, until its first effect."""

    def __hash__(self) -> int:
        return self.number


Line = tuple[tuple[int, ...], int, float | None]
"""(`line`, `after`, `begun`) of `weft.core.record.Outcome`."""
NOWHERE: Line = ((), 0, None)


def follow(number: int) -> Line:
    """The line of the task that issues effect `number` now, and the effect before it there; outside of a body's tasks
    (in a callback) there is none."""
    task: Any = asyncio.current_task()
    if task is None:
        return NOWHERE
    after, task.last = task.last, number
    begun, task.begun = task.begun, None
    return task.line, after, begun


class BodyFuture(asyncio.Future[Any]):
    """Likewise for futures."""

    number: int

    def __hash__(self) -> int:
        return self.number


class Running:
    """Context manager of `BodyLoop.running` (written out: it is entered for every outcome)."""

    __slots__ = ("hooks", "host", "loop", "outer")

    def __init__(self, loop: BodyLoop) -> None:
        self.loop = loop

    def __enter__(self) -> None:
        self.host = _get_running_loop()
        self.hooks = sys.get_asyncgen_hooks()
        self.outer = inside.body
        _set_running_loop(self.loop)  # type: ignore[arg-type]
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self.loop.finalize)
        inside.body = self.loop.boundary

    def __exit__(self, *_: object) -> None:
        inside.body = self.outer
        sys.set_asyncgen_hooks(*self.hooks)
        _set_running_loop(self.host)


_new_task = BodyTask.__new__
_anywhere = count(1 << 40)


class BodyLoop:
    """Deterministic loop for one process; `boundary` carries its effects out."""

    def __init__(self, boundary: Timers) -> None:
        self.boundary = boundary
        self.ready: deque[Handle] = deque()
        self.numbered = 0
        self.lines = 0
        self.born: list[weakref.ref[asyncio.Task[Any]]] = []
        self.census = 64

    # --- running ---------------------------------------------------------------------------------

    def drain(self) -> None:
        """Run callbacks until none is ready. Only inside `running()`."""
        ready = self.ready
        while ready:
            handle = ready.popleft()
            if handle.live:
                handle.context.run(handle.callback, *handle.args)

    def running(self) -> Running:
        """Make this the thread's running loop for a while (the host's is put back after)."""
        return Running(self)

    def finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self.is_running():
            self.create_task(generator.aclose())

    # --- what asyncio's tasks, futures and locks ask of a loop -----------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, copy_context() if context is None else context)
        self.ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.boundary.clock + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        timer = Timer(when, callback, args, self, copy_context() if context is None else context)
        timer.number = self.boundary.set_timer(timer)
        return timer

    def time(self) -> float:
        return self.boundary.clock

    def create_future(self) -> asyncio.Future[Any]:
        future = BodyFuture(loop=self)  # type: ignore[arg-type]
        self.numbered = future.number = self.numbered + 1
        return future

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None, **_: Any) -> Any:
        # Eager starts are not offered: an effect must be issued from a handle of this loop.
        task = _new_task(BodyTask)
        # asyncio keeps one set of all tasks of all loops: there, the numbers of bodies would collide.
        task.number = next(_anywhere)
        task.__init__(coro, loop=self, name=name, context=context)  # type: ignore[misc]
        self.numbered = task.number = self.numbered + 1
        self.lines += 1  # not `numbered`: a replay makes fewer futures
        maker: Any = asyncio.current_task(self) if self.is_running() else None  # type: ignore[arg-type]
        task.line, task.last = ((self.lines,), 0) if maker is None else ((*maker.line, self.lines), maker.last)
        task.begun = None if maker is None else self.boundary.clock
        self.born.append(weakref.ref(task))
        if len(self.born) > self.census:
            self.born = [ref for ref in self.born if ref() is not None]
            self.census = max(64, 2 * len(self.born))
        return task

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that are not done, oldest first."""
        return [task for ref in self.born if (task := ref()) is not None and not task.done()]

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return _get_running_loop() is self  # type: ignore[comparison-overlap]

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.boundary.complain(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.boundary.complain(context)

    # --- what a body must not do ------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if hasattr(asyncio.AbstractEventLoop, name):
            raise Nondeterminism(
                f"a workflow's body has no {name} (threads, sockets, processes and signals are the outside world); "
                f"do it in a @weft.step and await that"
            )
        raise AttributeError(f"a body's loop has no {name!r}")

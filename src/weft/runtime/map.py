"""`weft.map`: one call for each of many items, a few at a time, and results as fast as they are read.

A feeder takes an item when two counters let it: one of calls in flight, one of results not yet read. So a slow
reader holds up the calls, and however many the items are, only a window of them is in memory. All of it is tasks
and semaphores on the body's own loop; what is journaled are the effects of the calls, so a replay is the same run.

The calls stand in a line. Ordered, a call joins it when it begins, else when it ends; the reader takes the first
as soon as it has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar, cast

from weft.core.boundary import place, require
from weft.core.errors import BadInput, Cancelled
from weft.core.step import Step
from weft.core.workflow import Workflow

T = TypeVar("T")
R = TypeVar("R")
Seen = TypeVar("Seen")

AHEAD = 2
"""Times `concurrency`: how many calls may have begun whose results were not read."""


def map(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 16,
    ordered: bool = True,
) -> Results[T, R]:
    """`fn(item)` for each item, at most `concurrency` at once: ``async for result in weft.map(fetch, urls)``.

    `fn` is a step, a workflow (each call a child) or any async function of the body. `items` may be endless or
    asynchronous: one is taken only when its call can begin, and no call begins while `2 * concurrency` others wait
    to end or to be read. Results come in the order of the items, or (`ordered=False`) of their arrival. ``await
    weft.map(...)`` is the list of them; ``weft.map(...).items()`` gives `(item, result)` pairs.

    The first call to fail cancels the rest; its error is raised once the results ready by then are read.
    Leaving the loop early cancels what is in flight. Raises NoProcess outside a body; BadInput if an argument does
    not fit.
    """
    process = require("weft.map()")
    where = place()
    call: Callable[[T], Awaitable[R]]
    if isinstance(fn, Step) and fn.approval is False:
        call = lambda item: process.step(fn, (item,), {}, where)  # noqa: E731 (shows the body's line, not this one)
    elif isinstance(fn, Workflow):
        call = lambda item: process.call(fn, (item,), {}, where)  # noqa: E731
    elif callable(fn):
        call = fn
    else:
        raise BadInput(f"weft.map({fn!r}, ...): give a step, a workflow or an async function of one item first")
    if type(concurrency) is not int or concurrency < 1:
        raise BadInput(f"weft.map(concurrency={concurrency!r}): give a whole number of calls, 1 or more")
    return Results(process, call, _each(items), concurrency, ordered)


def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, set | frozenset):
        raise BadInput("weft.map() was given a set, whose order a replay may not see again; give sorted(items)")
    try:
        return aiter(items) if isinstance(items, AsyncIterable) else _one_by_one(iter(items))
    except TypeError:
        raise BadInput(f"weft.map(..., {items!r}): give an iterable or async iterable of items") from None


async def _one_by_one(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


class Call(Generic[T, R]):
    """An item on its way to its result."""

    __slots__ = ("ended", "item", "result")

    result: R

    def __init__(self, item: T) -> None:
        self.item = item
        self.ended = False


class Results(Generic[T, R]):
    """What `weft.map` returns. Nothing is called before it is read, and it is read once: by `async for`, by
    `await`, or through `items()`."""

    def __init__(
        self, process: Any, fn: Callable[[T], Awaitable[R]], items: AsyncIterator[T], concurrency: int, ordered: bool
    ) -> None:
        self._process = process
        self._fn = fn
        self._items = items
        self._ordered = ordered
        self._line: deque[Call[T, R]] = deque()
        self._flights = asyncio.Semaphore(concurrency)
        self._unread = asyncio.Semaphore(AHEAD * concurrency)
        self._news = asyncio.Event()
        self._begun = False

    def __aiter__(self) -> AsyncGenerator[R, None]:
        return self._read(lambda call: call.result)

    def items(self) -> AsyncGenerator[tuple[T, R], None]:
        """Each item with its result."""
        return self._read(lambda call: (call.item, call.result))

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._all().__await__()

    async def _all(self) -> list[R]:
        return [result async for result in self]

    async def _read(self, see: Callable[[Call[T, R]], Seen]) -> AsyncGenerator[Seen, None]:
        if self._begun:
            raise BadInput("these results of weft.map() were read before; keep them in a list, or map again")
        self._begun = True
        feeder = asyncio.create_task(self._feed(), name="weft.map")
        feeder.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                while self._line and self._line[0].ended:
                    self._unread.release()
                    yield see(self._line.popleft())
                if feeder.done():
                    feeder.result()
                    return
                self._news.clear()
                await self._news.wait()
        finally:
            feeder.cancel()
            if not self._process.stopping:
                await asyncio.wait([feeder])

    async def _feed(self) -> None:
        try:
            async with asyncio.TaskGroup() as calls:
                while True:
                    await self._unread.acquire()
                    await self._flights.acquire()
                    try:
                        call = Call[T, R](await anext(self._items))
                    except StopAsyncIteration:
                        break
                    if self._ordered:
                        self._line.append(call)
                    calls.create_task(self._make(call))
        except BaseExceptionGroup as failures:  # outcomes are delivered one at a time: there is a first
            raise failures.exceptions[0] from None

    async def _make(self, call: Call[T, R]) -> None:
        work = self._fn(call.item)
        if not isinstance(work, Awaitable):
            raise BadInput(
                f"weft.map({self._fn!r}, ...): it returned {work!r} for {call.item!r}, which can't be awaited; "
                f"make it an `async def` or mark it with @weft.step"
            )
        try:
            call.result = await work
        except asyncio.CancelledError:
            if not cast("asyncio.Task[None]", asyncio.current_task()).cancelling():
                raise Cancelled(f"weft.map(): what {call.item!r} waited for was cancelled") from None
            raise
        call.ended = True
        if not self._ordered:
            self._line.append(call)
        self._flights.release()
        self._news.set()

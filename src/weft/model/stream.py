"""A generation read as it comes:

    async with model.stream("Tell me a story.") as stream:
        async for event in stream:
            if isinstance(event, weft.model.TextDelta): print(event.text, end="")
    print(stream.reply.usage)

The same effect `generate` as `chat` is in the journal, with the same reply; beside it, what was read and when.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from weft.core.boundary import boundary
from weft.core.errors import BadInput
from weft.model.channel import Channel, channel, channels, events, rest_of
from weft.model.event import Event, Finished
from weft.model.request import Reply
from weft.runtime.effects import uuid

_numbers = itertools.count()


class Stream:
    """The events of one generation; the last one is `Finished`. Iterate it once, inside `async with`, so that leaving
    early ends the generation."""

    def __init__(self, begin: Callable[[str], Awaitable[Reply]], finish: Callable[[Reply], Reply]) -> None:
        self._begin = begin
        self._finish = finish
        self._task: asyncio.Task[Reply] | None = None
        self._reply: Reply | None = None
        self._key = ""
        self._events: AsyncGenerator[Event] | None = None

    @property
    def reply(self) -> Reply:
        """The whole, once the last event was read. Raises BadInput before."""
        if self._reply is None:
            raise BadInput("the stream was not read to its end: there is no reply yet; iterate it, or await .whole()")
        return self._reply

    async def whole(self) -> Reply:
        """Read to the end, and return the reply."""
        if self._reply is None:
            async for _ in self:
                pass
        return self.reply

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._events is not None:
            await self._events.aclose()
        await self._stop()

    def __aiter__(self) -> AsyncIterator[Event]:
        if self._events is not None:
            raise BadInput("a stream is read once; keep its events, or ask again")
        self._events = self._read()
        return self._events

    async def _read(self) -> AsyncGenerator[Event]:
        # Outside a workflow nothing is journaled, and any key does that no other stream has.
        self._key = f"{next(_numbers)}" if boundary() is None else str(uuid())
        here = channel(self._key)
        weakref.finalize(self, channels.pop, self._key, None)
        self._task = asyncio.create_task(self._generate(here))
        for number in itertools.count():
            batch = await events(self._key, number)
            here.told += batch.events
            for event in batch.events:
                yield event
            if batch.end:
                break
        reply = await self._task
        rest = [*rest_of(reply, here.told)]  # a crash may have cost what was on its way
        here.told += rest
        for event in rest:
            yield event
        self._reply = self._finish(reply)
        yield Finished(self._reply)

    async def _generate(self, here: Channel) -> Reply:
        try:
            return await self._begin(self._key)
        finally:
            here.close()

    async def _stop(self) -> None:
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif task is not None and not task.cancelled():
            task.exception()  # it was seen, or nobody wants to see it any more
        channels.pop(self._key, None)

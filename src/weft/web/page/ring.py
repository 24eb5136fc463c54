"""Server-sent events that a viewer can come back to: encoded once for all viewers, numbered, the last of them kept."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Any

from weft.web.page.answer import encoded

KEPT = 2_000
"""Events that are kept."""
BYTES = 8 << 20
"""Bytes of them."""


class Ring:
    """The last events of one stream. An event's id is `EPOCH-NUMBER`: one of another epoch is not known here."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.number = 0
        self.viewers = 0
        self.ended = False
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._news: asyncio.Future[None] | None = None

    def push(self, event: str, data: Any) -> None:
        """One more event for all viewers."""
        self.number += 1
        frame = self.frame(event, data)
        self._frames.append(frame)
        self._size += len(frame)
        while len(self._frames) > KEPT or (self._size > BYTES and len(self._frames) > 1):
            self._size -= len(self._frames.popleft())
        self.wake()

    def frame(self, event: str, data: Any, number: int | None = None) -> bytes:
        """An event with this number, or that of what was pushed last."""
        number = self.number if number is None else number
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (self.epoch.encode(), number, event.encode(), encoded(data))

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self.wake()

    def wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._news = None

    def known(self, last: str) -> int | None:
        """The number of the event with this id, if all that came after it is still here."""
        epoch, _, number = last.partition("-")
        if epoch != self.epoch or not number.isdecimal() or len(number) > 15:
            return None
        found = int(number)
        return found if self.number - len(self._frames) <= found <= self.number else None

    def since(self, number: int) -> list[bytes] | None:
        """The events after this one; None if some of them are gone."""
        missing = self.number - number
        if missing > len(self._frames):
            return None
        return [self._frames[at] for at in range(len(self._frames) - missing, len(self._frames))]

    async def wait(self, seconds: float) -> None:
        """Until something is pushed, or for so long."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._news], timeout=seconds)

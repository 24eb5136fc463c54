"""Live views: server-sent events that go on where they were cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from weft.core.clock import time
from weft.web.page.answer import Refused
from weft.web.page.feed import Feed
from weft.web.page.ring import Ring

HEARTBEAT = 15.0
"""Seconds after which something is sent though nothing happens, so that the way stays open."""
VIEWERS = 1_000


async def live_runs(feed: Feed, request: Request) -> Response:
    """`/api/live`."""
    _admit(feed)
    return _stream(await feed.watch_runs(), request, {"at": time()})


async def live_run(feed: Feed, id: str, request: Request) -> Response:
    """`/api/runs/RUN/live`."""
    _admit(feed)
    watched = await feed.watch(id)
    book = watched.book
    return _stream(watched.ring, request, {"at": time(), "revision": book.revision}, book.partly and not book.reading)


def _admit(feed: Feed) -> None:
    if feed.viewers >= VIEWERS:
        raise Refused(429, "too_many", f"{VIEWERS:,} viewers watch already; close some pages")


def _stream(ring: Ring, request: Request, hello: dict[str, Any], partly: bool = False) -> Response:
    """What this ring has from where the viewer stands, and all that comes. The viewer was counted in already. `partly`:
    what it has read before it came may have been a part."""
    last = request.headers.get("last-event-id") or request.query_params.get("last")
    known = ring.known(last) if last else None
    number = ring.number - ring.ended if known is None else known  # that it has ended everybody hears
    first = b"" if last and known is None else ring.frame("hello", hello, number)
    if not first or partly:
        first += ring.frame("reset", {}, number)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _Events(_frames(ring, number, first), ring, headers)


class _Events(StreamingResponse):
    """A viewer, who is counted out once, however it ends."""

    def __init__(self, frames: AsyncIterator[bytes], ring: Ring, headers: dict[str, str]) -> None:
        super().__init__(frames, media_type="text/event-stream", headers=headers)
        self.ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ring.viewers -= 1


async def _frames(ring: Ring, number: int, first: bytes) -> AsyncIterator[bytes]:
    """`first`, then all that came after event `number`, and comes."""
    yield first
    while True:
        missed = ring.since(number)
        number = ring.number
        if missed is None:
            yield ring.frame("reset", {})
        elif missed:
            yield b"".join(missed)
        elif ring.ended:
            return
        else:
            await ring.wait(HEARTBEAT)
            if number == ring.number and not ring.ended:
                yield b": still here\n\n"

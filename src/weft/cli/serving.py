"""A worker at work: one runtime after another, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from weft.cli.failures import INTERRUPTED, complain

if TYPE_CHECKING:
    from weft.cli.settings import Settings
    from weft.runtime.runtime import Counters, Runtime
    from weft.store.base import Stats, Store

log = logging.getLogger("weft")

PAUSE = 1.0
"""Seconds between the loss of a store and the next attempt, at first."""
LONGEST = 15.0
LAST = 5.0
"""Seconds that the last spans get to be sent in."""


class Source:
    """The worker as its health page sees it: one runtime after another, for a lost lease takes a new name."""

    def __init__(self, slots: int) -> None:
        from weft.runtime.runtime import Counters

        self.counters: Counters = Counters()
        self.slots = slots
        self.runtime: Runtime | None = None
        self.lost: tuple[str, list[str]] | None = None
        """The name that this worker had before, and the runs that it had then: it survived them."""

    async def ping(self) -> None:
        """A small question to the store: the lease's row."""
        if self.runtime is not None:
            await self.runtime.store.alive(self.runtime.owner)

    async def stats(self) -> Stats:
        if self.runtime is None:
            from weft.core.errors import StoreUnreachable

            raise StoreUnreachable("the store is not open")
        return await self.runtime.store.stats()

    def ready(self) -> str | None:
        """None, or why not."""
        if self.runtime is None or self.runtime.closing:
            return "the store is not open"
        if self.runtime.journal.broken:
            return str(self.runtime.journal.broken)
        return "draining" if self.runtime.worker is None or self.runtime.worker.draining else None

    @property
    def active(self) -> int:
        return 0 if self.runtime is None else len(self.runtime.active)

    @property
    def steps(self) -> int:
        return 0 if self.runtime is None else len(self.runtime.steps.running)

    @property
    def replaying(self) -> int:
        """Recorded outcomes that processes being rebuilt have still to go through."""
        active = () if self.runtime is None else self.runtime.active.values()
        return sum(process.history.left() for process in active)


async def work(settings: Settings, queues: list[str]) -> None:
    """Execute what is submitted to these queues, until SIGTERM; then drain."""
    from contextlib import AsyncExitStack

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop)
    source = Source(settings.slots)
    async with AsyncExitStack() as stack:
        if settings.port is not None:
            from weft.web.health import serve

            address = await stack.enter_async_context(serve(source, settings.host, settings.port))
            complain(f"health and metrics at {address}")
        if settings.web is not None:
            await stack.enter_async_context(_page(settings, settings.web, source))
        pause = PAUSE
        while not stop.is_set():
            worked = await _once(settings, queues, source, stop)
            pause = PAUSE if worked else min(pause * 2, LONGEST)
            if not stop.is_set():
                await _first(stop.wait(), asyncio.sleep(pause))


@contextlib.asynccontextmanager
async def _page(settings: Settings, port: int, source: Source) -> AsyncIterator[None]:
    """The page, in a thread beside: it looks at the store by itself, and acts through this worker."""
    from weft.cli.host import me
    from weft.cli.web import access_at, link
    from weft.store import open_store
    from weft.web.page.actions import OthersHands
    from weft.web.page.serve import beside

    access = access_at(settings.host, False, (), False)
    hands = OthersHands(lambda: source.runtime, asyncio.get_running_loop())

    def opened() -> Store:
        return open_store(settings.store, settings.durability, settings.postgres())

    async with beside(opened, access, hands, settings.host, port, me()) as address:
        complain(f"the page is at {link(address, access)}")
        yield


async def _once(settings: Settings, queues: list[str], source: Source, stop: asyncio.Event) -> bool:
    """Work under one name, until `stop` or until the store or the lease is lost. Whether it came to that."""
    from weft.core.errors import LeaseLost, StoreFull, StoreUnreachable
    from weft.runtime.runtime import Runtime
    from weft.store import open_store

    worked = False
    try:
        store = open_store(settings.store, settings.durability, settings.postgres())
        await _spare(store, source.lost)  # before it claims any of them itself, which would count as a death
        async with Runtime(store, queues=queues, slots=settings.slots) as runtime:
            worked = True
            runtime.counters = source.counters
            source.runtime = runtime
            log.info("worker %s: queues %s, %d slots, %s", runtime.owner, ", ".join(queues), settings.slots, store.url)
            # Once more for those that were about to be taken over.
            sparing = asyncio.create_task(_spare(store, source.lost, 2 * settings.heartbeat))
            async with _exporting(runtime, settings):
                await _first(stop.wait(), asyncio.shield(runtime.failure))
                sparing.cancel()
                guilty = getattr(store, "stalled", False)  # then one of its runs may be to blame
                source.lost = None if guilty or runtime.worker is None else (runtime.owner, runtime.worker.had())
                if stop.is_set():
                    log.info("draining: %d steps under way", len(runtime.steps.running))
                    await runtime.drain(settings.grace)
                    log.info("drained")
    except (StoreUnreachable, StoreFull, LeaseLost) as error:
        log.error("%s", error)
    finally:
        source.runtime = None
    return worked


@contextlib.asynccontextmanager
async def _exporting(runtime: Runtime, settings: Settings) -> AsyncIterator[None]:
    """Send the spans of what ends meanwhile to the collector, if there is one."""
    if settings.otlp is None:
        yield
        return
    from weft.store import open_store
    from weft.trace.export.content import Content
    from weft.trace.export.outlet import Outlet
    from weft.trace.export.send import Collector

    store = open_store(
        settings.store, settings.durability, settings.postgres()
    )  # read on after the runtime's is closed
    outlet = Outlet(
        store, Collector(settings.otlp), runtime.journal.barrier, Content() if settings.otlp_content else None
    )
    runtime.observe(outlet.observe)
    sending = asyncio.create_task(outlet.run())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait([sending, asyncio.create_task(outlet.flush())], timeout=LAST)
        if outlet.left_out:
            log.warning("%d processes were not exported; `weft export --otlp` sends them", outlet.left_out)
        await store.close()


async def _spare(store: Store, lost: tuple[str, list[str]] | None, pause: float = 0.0) -> None:
    """A worker that was cut off, and not dead, was killed by none of its runs. `pause`: in seconds, to begin with."""
    from weft.core.errors import StoreError
    from weft.store.postgres import PostgresStore

    if lost is None or not isinstance(store, PostgresStore):
        return
    await asyncio.sleep(pause)
    try:
        await store.spare(*lost)
    except StoreError as error:
        log.debug("strikes were not taken back: %s", error)


def _stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(INTERRUPTED)  # asked twice: what is under way is taken over by others
    stop.set()


async def _first(*waits: Any) -> None:
    """Until one of them is over."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

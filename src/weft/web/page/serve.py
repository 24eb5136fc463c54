"""The page at an address: on this event loop, or in a thread beside a worker, which goes on as if nobody looked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future

from weft.store.base import Store
from weft.web.listen import listening
from weft.web.page.actions import Hands
from weft.web.page.app import Page
from weft.web.page.safety import Access

log = logging.getLogger("weft.web")


@contextlib.asynccontextmanager
async def serving(
    store: Store, access: Access, hands: Hands, host: str, port: int, who: str = "somebody"
) -> AsyncIterator[str]:
    """Serve the page at this place while the body runs (`port` 0: any that is free). Gives the address; closes the
    store and the hands. Raises BadInput if the place is not to be had."""
    page = Page(store, access, hands, who)
    try:
        async with listening(page.application(), host, port, grace=1, what="the page") as (address, _):
            try:
                yield address
            finally:
                await page.close()  # or viewers would keep the server
    finally:
        await hands.close()
        await store.close()


@contextlib.asynccontextmanager
async def beside(
    opened: Callable[[], Store], access: Access, hands: Hands, host: str, port: int, who: str = "somebody"
) -> AsyncIterator[str]:
    """The same in a thread of its own, with a store of its own (`opened` is called there)."""
    begun: Future[str] = Future()
    ends: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        over = asyncio.Event()
        async with serving(opened(), access, hands, host, port, who) as address:
            ends.set_result((asyncio.get_running_loop(), over))
            begun.set_result(address)
            await over.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if begun.done():
                log.error("the page has ended: %r; the worker goes on without it", error, exc_info=error)
            else:
                begun.set_exception(error)

    thread = threading.Thread(target=run, name="weft-page", daemon=True)
    thread.start()
    address = await asyncio.wrap_future(begun)
    try:
        yield address
    finally:
        loop, over = ends.result()
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(over.set)
        await asyncio.to_thread(thread.join)

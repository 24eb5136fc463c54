"""`weft worker` and `weft submit`: many machines, one store."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import INTERRUPTED, complain, reported
from weft.cli.place import default_store
from weft.cli.words import AsJson, Inputs, Key, StorePlace, Target

if TYPE_CHECKING:
    from weft.cli.settings import Settings
    from weft.runtime.runtime import Counters, Runtime
    from weft.store.base import Stats

log = logging.getLogger("weft")

PAUSE = 1.0
"""Seconds between the loss of a store and the next attempt, at first."""
LONGEST = 15.0


@reported
def worker(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Python files that declare the workflows.")],
    queues: Annotated[
        str | None, typer.Option(help="Comma-separated. Default: those declared in the files, and default.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Processes executed at once. Default: 100.")] = None,
    store: Annotated[str | None, typer.Option(help="The journal, such as postgresql://user@host/db.")] = None,
    durability: Annotated[str | None, typer.Option(help="full or process. Default: full.")] = None,
    heartbeat: Annotated[float | None, typer.Option(help="Seconds between signs of life. Default: 5.")] = None,
    grace: Annotated[float | None, typer.Option(help="Seconds that steps get to end in. Default: 30.")] = None,
    host: Annotated[str | None, typer.Option(help="Of /healthz, /readyz and /metrics. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Of the same. Default: none are served.")] = None,
) -> None:
    """Execute what is submitted, and what the dead have left, until SIGTERM; then drain and hand the rest back."""
    from weft.cli.load import load
    from weft.cli.settings import load_settings
    from weft.core.declare import queues as declared

    names = None if queues is None else [name.strip() for name in queues.split(",") if name.strip()]
    given = {
        "queues": names, "slots": slots, "store": store, "durability": durability, "heartbeat": heartbeat,
        "grace": grace, "host": host, "port": port,
    }  # fmt: skip
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for variable, value in settings.for_ray().items():
        os.environ[variable] = value
    for file in files:
        load(file)
    asyncio.run(_work(settings, settings.queues or [*declared, "default"]))


@reported
def submit(
    target: Target,
    input: Inputs = None,
    queue: Annotated[str, typer.Option(help="Whose workers execute it.")] = "default",
    priority: Annotated[int, typer.Option(help="Larger is more urgent.")] = 0,
    tenant: Annotated[str, typer.Option(help="On whose behalf: tenants of a queue take turns.")] = "",
    key: Key = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and print it.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Leave a run to the workers of a queue, and print its id."""
    from weft.cli.load import arguments, find
    from weft.cli.render import out
    from weft.core.codec import to_plain
    from weft.core.declare import find_queue
    from weft.runtime.runtime import Runtime

    workflow = find(target)
    args, kwargs = arguments(workflow, list(input or ()))
    chosen = workflow.options(key=key, queue=find_queue(queue), priority=priority, tenant=tenant)

    async def main() -> tuple[str, Any]:
        async with Runtime(store or default_store()) as runtime:
            run = await runtime.submit(chosen, *args, **kwargs)
            return run.id, (await run if wait else None)

    id, result = asyncio.run(main())
    if json:
        out({"run": id, "queue": queue} | ({"result": to_plain(result)} if wait else {}))
    else:
        print(id)
        if wait and result is not None:
            out(to_plain(result))


class Source:
    """The worker as its health page sees it: one runtime after another, for a lost lease takes a new name."""

    def __init__(self, slots: int) -> None:
        from weft.runtime.runtime import Counters

        self.counters: Counters = Counters()
        self.slots = slots
        self.runtime: Runtime | None = None

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


async def _work(settings: Settings, queues: list[str]) -> None:
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
        pause = PAUSE
        while not stop.is_set():
            began = loop.time()
            await _once(settings, queues, source, stop)
            pause = PAUSE if loop.time() - began > 60 else min(pause * 2, LONGEST)
            if not stop.is_set():
                await _first(stop.wait(), asyncio.sleep(pause))


async def _once(settings: Settings, queues: list[str], source: Source, stop: asyncio.Event) -> None:
    """Work under one name, until `stop` or until the store or the lease is lost."""
    from weft.core.errors import LeaseLost, StoreFull, StoreUnreachable
    from weft.runtime.runtime import Runtime
    from weft.store import open_store

    try:
        store = open_store(settings.store, settings.durability, settings.postgres())
        async with Runtime(store, queues=queues, slots=settings.slots) as runtime:
            runtime.counters = source.counters
            source.runtime = runtime
            log.info("worker %s: queues %s, %d slots, %s", runtime.owner, ", ".join(queues), settings.slots, store.url)
            await _first(stop.wait(), asyncio.shield(runtime.failure))
            if stop.is_set():
                log.info("draining: %d steps under way", len(runtime.steps.running))
                await runtime.drain(settings.grace)
                log.info("drained")
    except (StoreUnreachable, StoreFull, LeaseLost) as error:
        log.error("%s", error)
    finally:
        source.runtime = None


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

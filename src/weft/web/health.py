"""How a worker is, over HTTP, for the machinery that keeps it running.

`GET /healthz`: it lives. `GET /readyz`: it can work. `GET /metrics`: figures, for Prometheus. All of it runs on the
worker's own event loop, so that a loop which no longer turns doesn't answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Protocol

from weft.core.errors import MissingExtra, StoreError
from weft.store.base import UNFINISHED

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from weft.web.listen import listening
except ImportError as missing:
    raise MissingExtra("health endpoints need the extra `worker`: pip install 'weft[worker]'") from missing

if TYPE_CHECKING:
    from weft.store.base import Stats

log = logging.getLogger("weft.web")

ANSWER = 1.0
"""Seconds within which the store of a worker that is ready answers."""
COUNT = 5.0
"""Seconds that the store may take to count; less than Prometheus waits."""


class Counters(Protocol):
    """Since the worker began: they go on when it has lost its lease and begins anew under another name."""

    @property
    def effects(self) -> int: ...
    @property
    def replayed(self) -> int: ...
    @property
    def lease_losses(self) -> int: ...


class Source(Protocol):
    """The worker, as it is asked here."""

    @property
    def counters(self) -> Counters: ...
    @property
    def active(self) -> int:
        """Processes in memory."""

    @property
    def steps(self) -> int:
        """Steps under way."""

    @property
    def slots(self) -> int: ...
    @property
    def replaying(self) -> int:
        """Recorded effects that the processes which are being rebuilt now have still to go through."""

    def ready(self) -> str | None:
        """None, or why it takes in no work: it drains, or its lease is lost."""

    async def ping(self) -> None:
        """Ask the store something small. Raises StoreError if it does not answer."""

    async def stats(self) -> Stats:
        """What waits in the store. Raises StoreError."""


@contextlib.asynccontextmanager
async def serve(source: Source, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Answer for `source`, at the address given, while the body runs. `port` 0: any that is free. BadInput if the
    place is not to be had."""
    async with listening(application(source), host, port, grace=1, what="the health endpoints") as (address, _):
        yield address


def application(source: Source) -> Starlette:
    """The endpoints, as an ASGI application."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        parts = {"worker": source.ready() or "ok", "store": await _answers(source)}
        ready = set(parts.values()) == {"ok"}
        return JSONResponse({"status": "ok" if ready else "not ready", **parts}, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Figures(source, await _counted(source)))
        return Response(encode(registry), headers={"content-type": kind})

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


async def _answers(source: Source) -> str:
    try:
        async with asyncio.timeout(ANSWER):
            await source.ping()
    except TimeoutError:
        return f"has not answered for {ANSWER:g} s"
    except StoreError as error:
        return str(error)
    return "ok"


async def _counted(source: Source) -> Stats | None:
    try:
        async with asyncio.timeout(COUNT):
            return await source.stats()
    except (TimeoutError, StoreError) as error:
        log.warning("no figures from the store: %s", str(error) or f"no answer for {COUNT:g} s")
        return None


class Figures(Collector):
    """What `source` and its store (None: it doesn't answer) say at one moment."""

    def __init__(self, source: Source, stats: Stats | None) -> None:
        self.source = source
        self.stats = stats

    def collect(self) -> Iterator[Metric]:
        source, counters = self.source, self.source.counters
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        yield counter("weft_effects", "Effects made by this worker.", counters.effects)
        yield counter("weft_replayed_effects", "Recorded effects gone through again.", counters.replayed)
        yield counter("weft_lease_losses", "Times this worker was taken for dead.", counters.lease_losses)
        yield gauge("weft_replay_lag", "Effects that processes being rebuilt have still to replay.", source.replaying)
        yield gauge("weft_processes_active", "Processes in this worker's memory.", source.active)
        yield gauge("weft_steps_running", "Steps under way in this worker.", source.steps)
        yield gauge("weft_slots", "Processes this worker takes in at most.", source.slots)
        yield gauge("weft_store_up", "1 if the store answered, else 0.", int(self.stats is not None))
        if self.stats is None:
            return
        processes = gauge("weft_processes", "Unfinished processes in the store.", labels=["state"])
        for state, count in (dict.fromkeys(UNFINISHED, 0) | self.stats.states).items():
            processes.add_metric([state], count)
        depth = gauge("weft_queue_depth", "Processes and steps that wait in a queue of the store.", labels=["queue"])
        oldest = gauge("weft_queue_oldest_seconds", "How long the first of them has waited.", labels=["queue"])
        for queue, waiting in self.stats.queues.items():
            depth.add_metric([queue], waiting.depth)
            if waiting.oldest is not None:
                oldest.add_metric([queue], waiting.oldest)
        yield from (processes, depth, oldest)

"""Spans of each process that ends, sent to a collector while a worker works.

There is no second log: an outlet remembers ids only, and reads the journals of those that have ended. Who is killed in
between, or has no collector for long, has sent some of them never: `weft export --otlp` sends them again, and since ids
of spans are digests, what was sent before is the same span. A slow collector slows nobody: what waits is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from weft.core.errors import WeftError
from weft.core.record import AnyRecord, End
from weft.core.traceparent import Caller, span_of
from weft.store.base import Store
from weft.trace.export.content import Content
from weft.trace.export.genai import spans_of_process, trace_at
from weft.trace.export.otlp import BATCH
from weft.trace.export.send import Collector
from weft.trace.spans import Span

log = logging.getLogger("weft")
WAITING = 100_000
"""Processes that have ended and are not sent yet, at most; the oldest are left out then."""
TRACES = 10_000
"""Traces of parents that are remembered."""
LINGER = 0.5
"""Seconds that ends are gathered."""


class Outlet:
    """What a worker sends. `durable` returns when what was recorded up to now is in the store."""

    def __init__(
        self, store: Store, collector: Collector, durable: Callable[[], Awaitable[None]], content: Content | None = None
    ) -> None:
        self.store = store
        self.collector = collector
        self.durable = durable
        self.content = content
        self.left_out = 0
        """Processes that were not sent, because there were too many or the collector did not take them."""
        self._ended: deque[str] = deque()
        self._came = asyncio.Event()
        self._traces: dict[str, str] = {}

    def observe(self, process: str, record: AnyRecord) -> None:
        """Told of each record, as `Runtime.observe` does."""
        if type(record) is End:
            if len(self._ended) >= WAITING:
                self._ended.popleft()
                self.left_out += 1
            self._ended.append(process)
            self._came.set()

    async def run(self) -> None:
        """Send what ends, until cancelled."""
        while True:
            await self._came.wait()
            await asyncio.sleep(LINGER)
            self._came.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send all that has ended. What the collector does not take is left out, and said so."""
        while self._ended:
            spans: list[Span] = []
            told = 0
            try:
                await self.durable()
                while self._ended and len(spans) < BATCH:
                    told += 1
                    spans += await self._spans(self._ended.popleft())
                    await asyncio.sleep(0)  # the worker works on the same loop
                for at in range(0, len(spans), BATCH):
                    await self.collector.send(spans[at : at + BATCH])
            except WeftError as error:
                self.left_out += told
                log.warning("%d processes were not exported: %s", told, error)

    async def _spans(self, id: str) -> list[Span]:
        row = await self.store.row(id)
        if row is None:
            return []
        known = self._traces.get(row.parent or "")
        at = await trace_at(self.store, row) if known is None else Caller(known, span_of(row.parent or ""))
        if len(self._traces) >= TRACES:
            self._traces.clear()
        self._traces[row.parent or id] = at.trace
        return [span async for span in spans_of_process(self.store, row, at, self.content)]

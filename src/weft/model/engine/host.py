"""One model of this process, for all its event loops: its engine and what decodes on it, in a thread of their own.

    host = shared_host(path, name="smollm2-135m", slots=4, context=2048)     # blocks until the model is loaded
    drawn = await host.run(work(host))                                       # from whatever loop

All generations of a process meet here, so they share batches, cells and the prefixes that they have in common,
whichever loop, run or request they are of. What is exact has an engine of its own, opened when first asked for.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from weft.core.errors import BadInput, ModelCrashed
from weft.model.engine.batching import Batcher
from weft.model.engine.calibrate import calibrated
from weft.model.engine.exact import Exact
from weft.model.engine.local import LocalEngine
from weft.model.engine.opening import open_engine, settings_of
from weft.model.engine.policies import Continuum

T = TypeVar("T")
_END = object()
_CHUNK = 32
"""Tokens that are computed together. With more, a prompt is read by other kernels than those that draw: what a 4-bit
model says would depend much more on what was in cells already, and on who else reads. (Measured on SmolLM2-135M, Q4_1,
the same prompt of 300 tokens cut elsewhere or read beside others: logits equal with 32, 40 and 48, which cost alike; up
to 0.85 apart with 64 and 128, which take 8 to 25 % less CPU. The order of cells in the common buffer still shows;
`exactly` is for who needs the very bits.)"""
_SEQUENCES = 128
"""The most sequences of a unified engine."""


class Host:
    """An engine with a loop. `slots` generations run at once, of at most `context` tokens each."""

    def __init__(self, path: Path, name: str, slots: int, context: int) -> None:
        """Starts the engine: blocks until the model is loaded. Raises as `open_engine` does."""
        self.name, self.slots, self.context = name, slots, context
        self.cells = slots * context
        sequences = min(_SEQUENCES, max(16, 4 * slots))
        cells = max(self.cells, sequences)
        self.engine = LocalEngine(name, settings_of(path, cells, sequences, True, 512, _CHUNK, "f16"))
        self.batcher = Batcher(
            self.engine, Continuum(lambda cells: self.batcher.reload(cells)), cells=self.cells, slots=sequences,
            at_once=min(slots, sequences), store=self.cells, share=True,
        )  # fmt: skip
        self.exact_places = asyncio.Semaphore(slots)
        self._path = path
        self._programs: dict[str, set[str]] = {}
        self._exact: Exact | None = None
        self._opening = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name=f"weft-host-{name}", daemon=True).start()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    @property
    def closed(self) -> bool:
        return self.engine.closed

    @property
    def exact(self) -> Exact | None:
        """What decodes exactly; None as long as nobody has asked for it."""
        return self._exact

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this in the host's loop, from any other. Who gives up waiting cancels it.

        It does not inherit the context: the process that happens to ask first must not answer for the others' work."""
        try:
            begun = contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, self._loop)
        except RuntimeError:
            work.close()
            raise BadInput(f"the engine of {self.name} was closed; ask again, and another is opened") from None
        try:
            return await asyncio.wrap_future(begun)
        except (asyncio.CancelledError, BadInput):
            task = asyncio.current_task()
            if not self.closed or (task is not None and task.cancelling()):
                raise
            raise ModelCrashed(
                f"the engine of {self.name} was closed during a generation; call again to restart it"
            ) from None

    async def each(self, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """The same for what comes piece by piece."""
        here, pieces = asyncio.get_running_loop(), asyncio.Queue[Any]()

        async def pass_on() -> None:
            async with aclosing(source):
                async for piece in source:
                    here.call_soon_threadsafe(pieces.put_nowait, piece)

        passing = asyncio.ensure_future(self.run(pass_on()))
        passing.add_done_callback(lambda _: pieces.put_nowait(_END))
        try:
            while (piece := await pieces.get()) is not _END:
                yield piece
            await passing
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)

    def joins(self, run: str, program: str) -> bool:
        """A run makes a turn of this program. Returns whether it is the run's first: then somebody must say `leave`."""
        new = run not in self._programs
        self._programs.setdefault(run, set()).add(program)
        return new

    async def leave(self, run: str) -> None:
        """A run is over, and so are its programs. What they have in cells stays as long as there is room."""
        programs = self._programs.pop(run, set())
        if not self.closed:
            await self.run(self._release(programs))

    async def _release(self, programs: set[str]) -> None:
        for program in programs:
            self.batcher.release(program)

    async def exactly(self) -> Exact:
        """What decodes exactly, on an engine whose sequences share nothing, calibrated for this machine. In the host's
        loop only."""
        async with self._opening:
            if self._exact is None:
                room = self.context + 64  # beside the text, a window to be verified
                engine = await open_engine(
                    self._path, cells=self.slots * room, sequences=self.slots, unified=False, name=self.name
                )
                self._exact = Exact(engine, known=await calibrated(engine))
            return self._exact

    def shut(self) -> None:
        """End the engines now. What is under way fails; a second call does nothing."""
        if self.closed:
            return
        self.engine.shut()
        if self._exact is not None and isinstance(self._exact.engine, LocalEngine):
            self._exact.engine.shut()
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_later(0.05, self._loop.stop)


_hosts: dict[tuple[Path, int, int], Host] = {}
_lock = threading.Lock()


def shared_host(path: Path, *, name: str = "", slots: int, context: int) -> Host:
    """This process's host of the model, started when first asked for, closed by `close_engines`. Blocks. Raises as
    `open_engine` does."""
    with _lock:
        host = _hosts.get((path, slots, context))
        if host is None or host.closed:
            host = _hosts[path, slots, context] = Host(path, name or path.stem, slots, context)
        return host


def close_hosts() -> None:
    """Close the hosts of this process. A later call opens what it needs."""
    with _lock:
        while _hosts:
            _hosts.popitem()[1].shut()


def _forget() -> None:
    """In a forked process: the hosts belong to the parent."""
    global _lock
    _hosts.clear()
    _lock = threading.Lock()


atexit.register(close_hosts)
os.register_at_fork(after_in_child=_forget)

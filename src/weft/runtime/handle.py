"""A run, as its caller sees it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from weft.core.errors import Cancelled, RemoteError, Restored
from weft.core.label import PUBLIC, Label
from weft.core.sealed import carried
from weft.store.base import CANCELLED, DONE, KILLED, MOVED, ProcessRow
from weft.store.handover import gone

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

R = TypeVar("R")


class Run(Generic[R]):
    """A handle: await it for the result, or for the exception the workflow raised."""

    def __init__(self, runtime: Runtime, id: str) -> None:
        self._runtime = runtime
        self.id = id

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self) -> R:
        """Durable when it returns. Raises what the workflow raised, `Cancelled`, or `RunMoved` if it goes on in another
        store."""
        result: R = result_of(await self._runtime.end_of(self.id))
        return result

    async def status(self) -> str:
        """running, waiting, queued, paused, killed, done, failed, cancelled, moved or arriving."""
        return (await self._runtime.row(self.id)).state

    async def cancel(self) -> None:
        """Ask it to stop: its body sees CancelledError where it waits, and may clean up."""
        await self._runtime.cancel(self.id)

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it. The run itself can't be asked here: that takes an `await`."""
        return (
            f"<code>run {self.id}</code>: <code>await run.status()</code>, or <code>weft show {self.id} --graph</code>"
        )


def outcome_of(row: ProcessRow) -> tuple[bool, Any, Label]:
    """(ok, result or exception, what it carried in the end) of a finished process."""
    if row.state == MOVED:
        return False, gone(row), PUBLIC
    value, label = carried((row.result if row.state == DONE else row.error) or b"")
    if row.state == DONE:
        return True, value, label
    if isinstance(value, Restored):
        return False, value, label
    if row.state in (CANCELLED, KILLED):
        return False, Cancelled(f"run {row.id} ({row.workflow}) was {row.state}"), label
    return False, value if isinstance(value, BaseException) else RemoteError("unknown", repr(value)), label


def restored(row: ProcessRow) -> Restored | None:
    """Why a process was killed, if that was because it was restored."""
    error = carried(row.error).value if row.state == KILLED and row.error else None
    return error if isinstance(error, Restored) else None


def result_of(row: ProcessRow) -> Any:
    ok, value, _ = outcome_of(row)
    if ok:
        return value
    raise value

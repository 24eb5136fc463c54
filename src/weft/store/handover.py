"""The rows of a process on its way from one store to another.

First it is what it was here and ARRIVING there; then MOVED here and ARRIVING there; then MOVED here and what it was
there. Both rows name one *token*, so whoever finds a move half done knows that they belong together. All of that is
in the column `error`, which an unfinished process has no other use for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from weft.core.codec import decode, encode
from weft.core.errors import RunBusy, RunMoved, StoreCorrupt
from weft.store.base import ARRIVING, MOVED, ProcessRow


class Departed(NamedTuple):
    store: str
    """Where the run went: a URL that may be shown."""
    token: str


class Arrival(NamedTuple):
    store: str
    """Where the run comes from."""
    token: str
    state: str
    """What it will be once it has arrived."""
    error: bytes | None


def departing(row: ProcessRow, store: str, token: str, now: float) -> ProcessRow:
    """The row that a run leaves behind which goes to `store`. That it was `updated` now keeps it from being deleted
    for its age before it has arrived."""
    note = encode({"store": store, "token": token})
    return replace(row, state=MOVED, owner=None, updated=now, wake_at=None, result=None, error=note)


def departed(row: ProcessRow) -> Departed:
    """What a row in state MOVED says."""
    note = _note(row)
    return Departed(note["store"], note["token"])


def gone(row: ProcessRow) -> RunMoved:
    """What to answer to those who ask for a run in state MOVED."""
    store = departed(row).store
    return RunMoved(f"run {row.id} has moved to {store}; ask there: weft show {row.id} --store {store}")


def check_present(row: ProcessRow) -> None:
    """Raise RunMoved for a run that has left, and RunBusy for one that has not arrived yet."""
    if row.state == MOVED:
        raise gone(row)
    if row.state == ARRIVING:
        raise RunBusy(f"run {row.id} is being moved here and has not arrived; repeat the copy if that was stopped")


def arriving(row: ProcessRow, store: str, token: str) -> ProcessRow:
    """The row of a run that is being brought from `store`."""
    note = encode({"store": store, "token": token, "state": row.state, "error": row.error})
    return replace(row, state=ARRIVING, owner=None, error=note)


def arrival(row: ProcessRow) -> Arrival:
    """What a row in state ARRIVING says."""
    note = _note(row)
    return Arrival(note["store"], note["token"], note["state"], note["error"])


def arrived(row: ProcessRow) -> ProcessRow:
    """The row as it is once the run has arrived; any other row as it is."""
    if row.state != ARRIVING:
        return row
    note = arrival(row)
    return replace(row, state=note.state, error=note.error)


def _note(row: ProcessRow) -> dict[str, Any]:
    note = decode(row.error or b"")
    if not isinstance(note, dict):
        raise StoreCorrupt(f"run {row.id} is {row.state}, and its row does not say where; restore the store's backup")
    return note

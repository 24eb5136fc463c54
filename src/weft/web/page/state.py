"""The states of runs, as people know them."""

from __future__ import annotations

from collections.abc import Sequence

from weft.store.base import ARRIVING, FINISHED, PAUSED, ProcessRow, Store


async def states_of(store: Store, rows: Sequence[ProcessRow]) -> list[str]:
    """As stored, but `interrupted` for an unfinished run that nobody executes, and nobody paused."""
    alive: dict[str, bool] = {}
    found = []
    for row in rows:
        if row.state in (*FINISHED, ARRIVING, PAUSED):
            found.append(row.state)
            continue
        if row.owner is not None and row.owner not in alive:
            alive[row.owner] = await store.alive(row.owner)
        found.append(row.state if row.owner is not None and alive[row.owner] else "interrupted")
    return found

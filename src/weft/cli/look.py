"""What the commands ask a store, without a runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from weft.cli.place import default_store

if TYPE_CHECKING:
    from weft.core.record import AnyRecord
    from weft.store.base import ProcessRow, Store

T = TypeVar("T")


def ask(place: str | None, question: Callable[[Store], Awaitable[T]]) -> T:
    """The answer of the store at `place`, or of the default one."""
    import asyncio

    from weft.store import open_store

    async def main() -> T:
        opened = open_store(place or default_store())
        try:
            return await question(opened)
        finally:
            await opened.close()

    return asyncio.run(main())


def present(place: str | None, run: str) -> ProcessRow:
    """The process whose id is or contains `run`. Raises UnknownRun, and RunMoved if it goes on in another store."""
    from weft.store.base import MOVED
    from weft.store.handover import gone

    row = ask(place, lambda store: find_run(store, run))
    if row.state == MOVED:
        raise gone(row)
    return row


async def find_run(store: Store, part: str) -> ProcessRow:
    """The process whose id is or contains `part`. Raises UnknownRun."""
    from weft.core.errors import UnknownRun

    row = await store.row(part)
    if row is not None:
        return row
    found = await store.find(part)
    if len(found) == 1 and (row := await store.row(found[0])) is not None:
        return row
    if found:
        raise UnknownRun(f"{part!r} fits several runs: {', '.join(found)}; give more of the id")
    raise UnknownRun(f"there is no run {part!r} in {store.url}; `weft ps` lists those there are")


async def state_of(store: Store, row: ProcessRow) -> str:
    """As stored, except that an unfinished run which nobody executes, and nobody paused or left to the workers, is
    interrupted."""
    return (await states_of(store, [row]))[0]


async def states_of(store: Store, rows: Sequence[ProcessRow]) -> list[str]:
    """The same of several."""
    from weft.store.base import ARRIVING, FINISHED, PAUSED, QUEUED

    alive: dict[str, bool] = {}
    found = []
    for row in rows:
        if row.state in (*FINISHED, ARRIVING, PAUSED) or (row.state == QUEUED and row.owner is None):
            found.append(row.state)
            continue
        if row.owner is not None and row.owner not in alive:
            alive[row.owner] = await store.alive(row.owner)
        found.append(row.state if row.owner is not None and alive[row.owner] else "interrupted")
    return found


async def records_of(store: Store, id: str) -> list[AnyRecord]:
    from weft.core.record import decode_records

    return [record for segment in await store.segments([id]) for record in decode_records(segment.records)]

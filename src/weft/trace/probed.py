"""What probes saw of a run's steps (`weft.runtime.probes`), as its journal has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from weft.core.codec import decode_plain
from weft.core.errors import UnknownRun
from weft.core.record import Probed
from weft.store.base import Store, bytes_of
from weft.trace.reading import read_records


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one probe saw of one attempt of a step, or of one WebAssembly job in it: a table."""

    run: str
    effect: int
    name: str
    """The step's."""
    attempt: int
    probe: str
    """As it was asked for, such as `hotness:shop.parse`."""
    columns: list[str]
    rows: list[list[Any]]
    of: str
    """The file or the module."""
    left_out: int
    """Rows that there were besides."""
    note: str
    """What is to be known of it."""


async def sight_of(store: Store, run: str, record: Probed) -> Sight:
    """What a record says."""
    table = decode_plain(await bytes_of(store, record.value))
    return Sight(
        run=run, effect=record.effect, name=record.name, attempt=record.attempt, probe=record.probe, **table
    )  # fmt: skip


async def read_probed(store: Store, run: str) -> AsyncIterator[Sight]:
    """All that was seen of a process and of those below it. Raises UnknownRun."""
    if await store.row(run) is None:
        raise UnknownRun(f"there is no run {run!r} in {store.url}; `weft ps` lists those there are")
    waiting = [run]
    while waiting:
        process = waiting.pop(0)
        async for _, record in read_records(store, process):
            if isinstance(record, Probed):
                yield await sight_of(store, process, record)
        waiting += [child.id for child in reversed(await store.rows(parent=process, limit=1_000_000))]

"""Reading the past of shared memory in pieces, as batches that another store can commit in their order.

Each piece makes of a namespace what it was a little later, in one transaction: whoever is killed between two has a
whole memory, only an older one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from weft.store.base import Batch
from weft.store.memory import Past, blobs

TICKS = 100
"""Commits and retractions in a piece."""
LARGE = 4 << 20
"""Bytes of large values in a batch."""


class Remembering(Protocol):
    """What of a `Store` is asked here."""

    async def past(self, namespace: str, after: int, at: int) -> Past: ...
    async def payload(self, hash: bytes) -> bytes: ...


async def pieces(store: Remembering, namespace: str, after: int, at: int) -> AsyncIterator[Past]:
    """What happened while the clock went from `after` to `at`."""
    while after < at:
        past = await store.past(namespace, after, min(after + TICKS, at))
        after = past.at
        yield past


async def filled(store: Remembering, past: Past) -> AsyncIterator[Batch]:
    """A piece with the large values in it, which come before it. Raises StoreCorrupt if one is missing."""
    batch, size = Batch(), 0
    for need in sorted({*blobs(past.objects)}):
        batch.references.add(need)
        if need[1] not in batch.payloads:
            batch.payloads[need[1]] = await store.payload(need[1])
            size += len(batch.payloads[need[1]])
        if size > LARGE:
            yield batch
            batch, size = Batch(), 0
    batch.pasts = [past]
    yield batch

"""What the steps and tools of a run gave back as text, its children's too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from weft.store.base import Store
from weft.trace.reading import read_body, read_run


async def outputs(store: Store, run: str) -> AsyncIterator[str]:
    """Every text in the outcomes of the run's steps and tools, in the journal's order; of a failure, its message.
    Raises UnknownRun."""
    async for node in read_run(store, run):
        if node.kind not in ("step", "tool") or node.ended is None:
            continue
        if node.status == "failed":
            yield node.error
            continue
        body = await read_body(store, node.run, node.effect)
        for text in texts_in(body.value):
            yield text


def texts_in(value: Any) -> Iterator[str]:
    """The texts in a value of JSON types."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)

"""Queues as programs declare them: who may begin, and when, decided over all runtimes of a store."""

from __future__ import annotations

import msgspec

from weft.core.errors import BadInput

queues: dict[str, Queue] = {}
"""Every queue declared in this interpreter, by name."""


class Queue(msgspec.Struct, frozen=True):
    """Admission by name: at most `concurrency` at once, and at most `rate[0]` starts in any `rate[1]` seconds.
    Waiting ones are admitted by priority (larger first); among equals tenants take turns, and each tenant's come
    in order of arrival. Holds over all runtimes that share a store."""

    name: str
    concurrency: int | None = None
    rate: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        if (self.concurrency is not None and self.concurrency < 1) or (
            self.rate is not None and (self.rate[0] < 1 or self.rate[1] <= 0)
        ):
            raise BadInput(f"{self!r}: concurrency must be >= 1 and rate (count >= 1, seconds > 0)")
        known = queues.get(self.name)
        if known is None or not known.limited:
            queues[self.name] = self

    @property
    def limited(self) -> bool:
        return self.concurrency is not None or self.rate is not None


def find_queue(name: str) -> Queue:
    """The queue declared with this name, or one without limits."""
    return queues.get(name) or Queue(name)

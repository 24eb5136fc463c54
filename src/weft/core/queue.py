"""Queues as programs declare them: who may begin, and when, decided over all runtimes of a store."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from weft.core.budget import KINDS
from weft.core.errors import BadInput

queues: dict[str, Queue] = {}
"""Every queue declared in this interpreter, by name."""


class Queue(msgspec.Struct, frozen=True):
    """Admission by name: at most `concurrency` at once, and at most `rate[0]` starts in any `rate[1]` seconds.
    Waiting ones are admitted by priority (larger first); among equals tenants take turns, and each tenant's come
    in order of arrival. Holds over all runtimes that share a store.

    `amounts`: how much may be taken in any so many seconds, by kind: ``{"tokens": (90_000, 60)}``. A step takes what
    its `cost` says of these kinds, and once it has ended what it said by `weft.charge`. One that says more than the
    whole limit is let in when nothing else was taken in that time. Processes take nothing."""

    name: str
    concurrency: int | None = None
    rate: tuple[int, float] | None = None
    amounts: Mapping[str, tuple[float, float]] = {}

    def __post_init__(self) -> None:
        if (self.concurrency is not None and self.concurrency < 1) or (
            self.rate is not None and (self.rate[0] < 1 or self.rate[1] <= 0)
        ):
            raise BadInput(f"{self!r}: concurrency must be >= 1 and rate (count >= 1, seconds > 0)")
        for kind, limit in self.amounts.items():
            if kind not in KINDS or len(limit) != 2 or not all(0 < number < math.inf for number in limit):
                raise BadInput(
                    f"{self!r}: amounts are (amount > 0, seconds > 0) by kind, such as {{'tokens': (90_000, 60)}}; "
                    f"kinds are {', '.join(KINDS)}"
                )
        known = queues.get(self.name)
        if known is None or not known.limited:
            queues[self.name] = self

    @property
    def limited(self) -> bool:
        return self.concurrency is not None or self.rate is not None or bool(self.amounts)

    @property
    def memory(self) -> float:
        """Seconds after which an amount that was taken counts no longer, whatever its kind."""
        return max((seconds for _, seconds in self.amounts.values()), default=0.0)


def find_queue(name: str) -> Queue:
    """The queue declared with this name, or one without limits."""
    return queues.get(name) or Queue(name)

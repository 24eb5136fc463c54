"""Lines of control in a body: which of its tasks issued an effect, and after which other one.

A line is one asyncio task. It is named by the number of its first effect. A task starts with a copy of the context of
whoever made it, so it finds there the last effect that was issued before it was made; no task needs to be watched.
Bodies are deterministic, so a replay finds the same lines.
"""

from __future__ import annotations

from asyncio import current_task
from contextvars import ContextVar
from typing import Any

Line = tuple[int, int]
"""(`strand`, `after`) of `weft.core.record.Outcome`."""

NOWHERE: Line = (0, 0)

_here: ContextVar[tuple[str, int, int, int]] = ContextVar("weft_strand", default=("", 0, 0, 0))
"""The process and number of the task that set it, its line, and the last effect of that line."""


def follow(process: str, number: int) -> Line:
    """The line of `process` that issues effect `number` now. Only inside its body; outside its tasks (in a callback)
    there is none."""
    task: Any = current_task()
    if task is None:
        return NOWHERE
    owner, issuer, strand, after = _here.get()
    if owner != process:  # a body starts in the context of whoever started it
        strand, after = number, 0
    elif issuer != task.number:
        strand = number
    _here.set((process, task.number, strand, number))
    return strand, after

"""The machine's clocks, held before `weft.runtime.guard` takes them from the bodies of workflows."""

from __future__ import annotations

from time import monotonic, time

__all__ = ["monotonic", "time"]

"""What happens when a place is reached at which probes wait, with Wizard's guarantees of consistency.

Probes of a place fire in the order in which they were put in. One that is put in or taken out by a probe of the same
place while that place fires changes nothing about this occurrence: it counts from the next on, when the outermost
firing of the place is over. A probe that raises stops the program when all have fired; of several, the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

E = TypeVar("E")
Probe = Callable[[E], None]


class Firing(Generic[E]):
    """The probes of one place. `changed(waiting)` is told when the first comes and when the last has gone."""

    def __init__(self, changed: Callable[[bool], None] | None = None) -> None:
        self._probes: list[Probe[E]] = []
        self._deferred: list[tuple[bool, Probe[E]]] = []
        self._depth = 0
        self._changed = changed

    def insert(self, probe: Probe[E]) -> None:
        """Put `probe` in, after those that are there; the same one may be in several times."""
        self._change(True, probe)

    def remove(self, probe: Probe[E]) -> None:
        """Take `probe` out: the earliest that is in. Nothing happens if it isn't in."""
        self._change(False, probe)

    @property
    def waiting(self) -> bool:
        """True if any is in."""
        return bool(self._probes)

    def fire(self, event: E) -> None:
        """The place was reached."""
        stop: BaseException | None = None
        self._depth += 1
        try:
            for probe in self._probes:
                try:
                    probe(event)
                except Exception as error:
                    stop = error
        finally:
            self._depth -= 1
            if not self._depth:
                deferred, self._deferred = self._deferred, []
                for put, probe in deferred:
                    self._change(put, probe)
        if stop is not None:
            raise stop

    def _change(self, put: bool, probe: Probe[E]) -> None:
        if self._depth:
            self._deferred.append((put, probe))
            return
        before = bool(self._probes)
        if put:
            self._probes.append(probe)
        elif probe in self._probes:
            self._probes.remove(probe)
        if self._changed is not None and bool(self._probes) != before:
            self._changed(bool(self._probes))

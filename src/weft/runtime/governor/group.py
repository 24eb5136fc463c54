"""A group: what one call started, as a thing that is measured, paused, and ended as a whole."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from weft.core.errors import OverDisk, OverLimit, OverMemory, OverPids, OverTime
from weft.core.resources import Resources, Usage

Reason = Literal["memory", "pids", "disk", "seconds"]


class Call(NamedTuple):
    """What a group is for: a run, the number of its effect (empty and 0 outside of any), and the command."""

    run: str = ""
    number: int = 0
    command: str = ""


@runtime_checkable
class Group(Protocol):
    """What a sandbox needs to know of a group."""

    name: str
    resources: Resources
    enter: list[str]
    """Words to put before a command's own, so that it starts inside."""

    def usage(self) -> Usage:
        """What it took so far; after `close`, what it took in all."""

    def freeze(self) -> None:
        """Stop everything in it where it is."""

    def thaw(self) -> None: ...

    def kill(self) -> None:
        """End everything in it, whatever that ignores and whoever its parent is now."""

    def close(self) -> None:
        """Kill what is left, and remove the group. Nothing starts in it any more."""

    def why_ended(self) -> Reason | None:
        """Over which limit it was ended, if that is why."""


class Counted(ABC):
    """What all back-ends share: pauses, peaks, the reason of an end. `memory`, `processes` and so on are asked by the
    governor in its thread; the rest by the owner of the call, in any."""

    def __init__(self, name: str, resources: Resources, priority: int) -> None:
        self.name = name
        self.resources = resources
        self.priority = priority
        self.enter: list[str] = []
        self.left: Callable[[str], None] = lambda name: None
        """Told that it was closed."""
        self.took: Callable[[Usage], None] | None = None
        """Told what it took."""
        self.call = Call()
        """What it is for."""
        self.began = time.monotonic()
        self.closed = False
        self.frozen = False
        """By its owner."""
        self.held = False
        """By the governor, until there is memory for it."""
        self.held_since = 0.0
        self.ceiling: int | None = None
        """Bytes that it may use now."""
        self.seen = 0
        """Bytes that it used at the last look."""
        self.peak = self.most_pids = self.read = self.written = 0
        self.cpu = self.stalled = 0.0
        self._why: Reason | None = None
        self._paused = 0.0
        self._since: float | None = None
        self._last: Usage | None = None

    # --- what a back-end knows --------------------------------------------------------------------------------

    @abstractmethod
    def memory(self) -> int:
        """Bytes in use now that can't be had back without ending or swapping something."""

    @abstractmethod
    def sample(self) -> None:
        """Bring peaks and sums up to date."""

    @abstractmethod
    def empty(self) -> bool:
        """Whether no process is in it."""

    @abstractmethod
    def over(self) -> Reason | None:
        """The limit that it has passed, as far as that is not measured in memory or seconds."""

    @abstractmethod
    def waiting(self) -> bool:
        """Whether something in it sleeps at its memory limit."""

    @abstractmethod
    def _stop(self, stopped: bool) -> None: ...

    @abstractmethod
    def _kill(self) -> None: ...

    @abstractmethod
    def _remove(self) -> bool: ...

    def net(self, ceiling: int | None) -> None:
        """Let the kernel see to it that it does not use more; for those that can."""
        self.ceiling = ceiling

    # --- its owner --------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        if self._last is not None:
            return self._last
        self.sample()
        now = time.monotonic()
        return Usage(
            seconds=now - self.began,
            cpu_seconds=self.cpu,
            memory_peak=self.peak,
            read_bytes=self.read,
            written_bytes=max(0, self.written),
            pids_peak=self.most_pids,
            paused_seconds=self.paused(now),
            pressure=self.stalled,
        )

    def freeze(self) -> None:
        self.frozen = True
        self._settle()

    def thaw(self) -> None:
        self.frozen = False
        self._settle()

    def kill(self) -> None:
        if not self.closed:
            self._kill()

    def close(self) -> None:
        if self.closed:
            return
        self.why_ended()
        self._last = self.usage()
        self.closed = True
        gone = self._remove()
        self.left(self.name)
        if self.took is not None:
            self.took(self._last)
        if not gone:
            raise RuntimeError(f"group {self.name} can't be removed: something in it does not die (in a hung device?)")

    def why_ended(self) -> Reason | None:
        if self._why is None and not self.closed:
            self._why = self.over()
        return self._why

    # --- the governor -----------------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """Pause it for want of memory, or let it go on."""
        if held and not self.held:
            self.held_since = time.monotonic()
        self.held = held
        self._settle()

    def end(self, why: Reason) -> None:
        if not self.closed:
            self._why = self._why or why
            self._kill()

    def paused(self, now: float) -> float:
        return self._paused + (now - self._since if self._since is not None else 0.0)

    @property
    def stands(self) -> bool:
        """Whether it does not get on."""
        return self.frozen or self.held or self.waiting()

    def note_pause(self) -> None:
        """Keep the time in which it does not get on."""
        now, still = time.monotonic(), self.stands
        if still and self._since is None:
            self._since = now
        elif not still and self._since is not None:
            self._paused += now - self._since
            self._since = None

    def _settle(self) -> None:
        if not self.closed:
            self._stop(self.frozen or self.held)
            self.note_pause()


def limit_error(group: Group) -> OverLimit | None:
    """The error that tells an agent why its call was ended, if it was for a limit."""
    error = _limit_error(group)
    return None if error is None else advised(error, group.usage())


def advised(error: OverLimit, usage: Usage) -> OverLimit:
    """The same error; its advice says of a long pause, too."""
    if usage.paused is None:
        return error
    *what, advice = error.args
    return type(error)(*what, f"{advice}; {usage.paused}")


def _limit_error(group: Group) -> OverLimit | None:
    why, usage, given = group.why_ended(), group.usage(), group.resources
    if why == "memory":
        own = given.memory is not None and usage.memory_peak >= 0.9 * given.memory
        advice = "" if own else "the machine had no more for it: try again later, or do less at once"
        return OverMemory(usage.memory_peak, given.memory or usage.memory_peak, advice)
    if why == "pids":
        return OverPids(given.pids or usage.pids_peak)
    if why == "disk":
        return OverDisk(usage.written_bytes, given.disk or usage.written_bytes)
    if why == "seconds":
        return OverTime(usage.seconds - usage.paused_seconds, given.seconds or usage.seconds)
    return None

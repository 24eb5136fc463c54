"""What both versions of control groups share: directories that are entered, counted, frozen, killed and removed.

Where the unified hierarchy is mounted it is used, with controllers or without, for what it does best: it freezes and
kills a group in one write, forks and double forks included, and knows CPU time and pressure.
"""

from __future__ import annotations

import contextlib
import os
import time
from abc import abstractmethod

from weft.core.resources import Resources
from weft.runtime.governor import tree
from weft.runtime.governor.group import Counted, Reason
from weft.runtime.governor.watchdog import kill, members, remove, write


def weight(priority: int, normal: int) -> int:
    """Each step of priority is worth twice the CPU of the one below."""
    return max(2, min(10_000, int(normal * 2.0**priority)))


def read(directory: str | None, name: str) -> str:
    """A file of a group; empty if there is none."""
    if directory is not None:
        with contextlib.suppress(OSError), open(os.path.join(directory, name)) as file:
            return file.read()
    return ""


def number(directory: str | None, name: str) -> int:
    text = read(directory, name).strip()
    return int(text) if text.isdigit() else 0


def value(text: str, key: str) -> int:
    """The number behind a word in "word number" lines."""
    for line in text.splitlines():
        name, _, found = line.partition(" ")
        if name == key:
            return int(found)
    return 0


class Directories(Counted):
    """A group of one directory in each hierarchy. `unified`: that of the v2 hierarchy."""

    def __init__(
        self, name: str, resources: Resources, priority: int, parents: dict[str, str], unified: str | None
    ) -> None:
        super().__init__(name, resources, priority)
        self.at = {controller: os.path.join(parent, name) for controller, parent in parents.items()}
        self.unified = os.path.join(unified, name) if unified is not None else None
        self.directories = list(dict.fromkeys([*self.at.values(), *([self.unified] if self.unified else [])]))
        self._stored: dict[int, tuple[int, tuple[int, int]]] = {}
        self._stored_at = 0.0
        try:
            for directory in self.directories:
                os.mkdir(directory)
            self.limit()
        except BaseException:
            self._remove()
            raise
        lines = "".join(f"echo 0 >{directory}/cgroup.procs || exit 125; " for directory in self.directories)
        self.enter = ["/bin/sh", "-c", lines + 'exec "$@"', name]

    @abstractmethod
    def limit(self) -> None:
        """Write what it may take into the directories."""

    def pids(self) -> list[int]:
        return members(self.directories[0])

    def empty(self) -> bool:
        return not self.pids()

    def sample(self) -> None:
        cpu = value(read(self.unified, "cpu.stat"), "usage_usec")
        self.cpu = max(self.cpu, cpu / 1e6)
        pressure = read(self.unified, "memory.pressure").partition("total=")[2].split()
        self.stalled = int(pressure[0]) / 1e6 if pressure else 0.0
        now = time.monotonic()
        if now - self._stored_at > 0.04:
            self._stored_at = now
            self._storage()
        if self.unified is None or not self.cpu:
            self.cpu = max(self.cpu, number(self.at.get("cpu"), "cpuacct.usage") / 1e9)

    def _storage(self) -> None:
        """No controller of v1 knows who wrote what went through the file cache: each process does, while it lives."""
        for pid in self.pids():
            one = tree.life(pid)
            if one is not None:
                self._stored[pid] = one.began, tree.storage(pid)
        self.read = max(self.read, sum(moved[0] for _, moved in self._stored.values()))
        self.written = max(self.written, sum(moved[1] for _, moved in self._stored.values()))

    def over(self) -> Reason | None:
        if self.resources.disk is not None and self.written > self.resources.disk:
            return "disk"
        return None

    def _stop(self, stopped: bool) -> None:
        if self.unified is not None:
            write(os.path.join(self.unified, "cgroup.freeze"), "1" if stopped else "0")
        elif "freezer" in self.at:
            write(os.path.join(self.at["freezer"], "freezer.state"), "FROZEN" if stopped else "THAWED")

    def _kill(self) -> None:
        if self.unified is not None:
            kill(self.unified)
            return
        for _ in tree.patient(5):
            for directory in self.directories:
                kill(directory)
                write(os.path.join(directory, "freezer.state"), "THAWED")  # the dead die when thawed
            if self.empty():
                break

    def _remove(self) -> bool:
        gone = [remove(directory) for directory in reversed(self.directories)]
        return all(gone)

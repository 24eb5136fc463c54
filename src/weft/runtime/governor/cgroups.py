"""What both versions of control groups share: directories that are entered, counted and removed."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from abc import abstractmethod

from weft.core.resources import Resources
from weft.runtime.governor import tree
from weft.runtime.governor.group import Counted, Reason
from weft.runtime.governor.watchdog import members, remove


def weight(priority: int, normal: int) -> int:
    """Each step of priority is worth twice the CPU of the one below."""
    return max(2, min(100 * normal, int(normal * 2.0 ** max(-20, min(20, priority)))))


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
    """A group of one directory in each hierarchy that counts or limits something."""

    door = "cgroup.procs"
    """The file that takes who starts in it."""

    def __init__(self, name: str, resources: Resources, priority: int, parents: dict[str, str]) -> None:
        super().__init__(name, resources, priority)
        self.at = {controller: os.path.join(parent, name) for controller, parent in parents.items()}
        self.directories = list(dict.fromkeys(self.at.values()))
        self._stored: dict[tuple[int, int], tuple[int, int]] = {}
        self._stored_at = 0.0
        try:
            for directory in self.directories:
                os.mkdir(directory)
            self.limit()
        except BaseException:
            self._remove()
            raise
        doors = [shlex.quote(os.path.join(directory, self.door)) for directory in self.directories]
        lines = "".join(f"echo 0 >{door} || exit 125; " for door in doors)
        self.enter = ["/bin/sh", "-c", lines + 'exec "$@"', name]

    @abstractmethod
    def limit(self) -> None:
        """Write what it may take into the directories."""

    def pids(self) -> list[int]:
        return members(self.directories[0])

    def empty(self) -> bool:
        return not self.pids()

    def sample(self) -> None:
        """No controller of v1 knows who wrote what went through the file cache: each process does, while it lives."""
        now = time.monotonic()
        if now - self._stored_at < 0.04:
            return
        self._stored_at = now
        for pid in self.pids():
            one = tree.life(pid)
            if one is not None:
                self._stored[pid, one.began] = tree.storage(pid)
        self.read = max(self.read, sum(read for read, _ in self._stored.values()))
        self.written = max(self.written, sum(written for _, written in self._stored.values()))

    def over(self) -> Reason | None:
        if self.resources.disk is not None and self.written > self.resources.disk:
            return "disk"
        return None

    def _remove(self) -> bool:
        return remove(self.directories)

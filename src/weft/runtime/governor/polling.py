"""Groups without any right: processes are found in /proc by the mark in their environment and by their parents,
measured there from time to time, and stopped and killed by signals.

Weaker than a control group: a peak between two looks is not seen; a process that forks, changes its environment and
loses its parent within one look is lost; memory shared since a fork counts twice; CPU can't be limited, only made
lower.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from weft.core.resources import Resources
from weft.runtime.governor import tree
from weft.runtime.governor.group import Counted, Reason
from weft.runtime.governor.tree import Life
from weft.runtime.governor.watchdog import mark

WEAKER = (
    "memory, processes and disk are looked at some fifty times a second, so that a short peak is missed",
    "a child that changes its environment and its parent at once is lost",
    "cpu is not limited",
)


class Polled(Counted):
    def __init__(self, name: str, resources: Resources, priority: int) -> None:
        super().__init__(name, resources, priority)
        self._known: dict[int, int] = {}
        """Processes seen in it, with the times of their starts."""
        self._refused: set[int] = set()
        """Looked at, and not in it. Not the young: who has just forked looks like its parent until its command runs."""
        self._over: Reason | None = None
        self._stopped = False
        bound = ""
        if os.geteuid() and resources.pids is not None:  # it binds nobody with root's rights
            most = _running(os.getuid()) + resources.pids
            bound = f"ulimit -u {most} 2>/dev/null || ulimit -p {most} 2>/dev/null; "
        nice = f"nice -n {min(19, -4 * priority)} " if priority < 0 else ""
        self.enter = ["/bin/sh", "-c", f'export WEFT_GROUP={name}; {bound}exec {nice}"$@"', name]

    def members(self) -> list[Life]:
        """Those alive: with the mark, or with a parent or an earlier look that says so."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME) * tree.TICK
        lives = {pid: one for pid, one in tree.everyone().items() if not one.over and pid != os.getpid()}
        known = {pid for pid, began in self._known.items() if pid in lives and lives[pid].began == began}
        for pid, one in lives.items():
            key = hash((pid, one.began))
            if pid not in known and key not in self._refused:
                if mark(pid) == self.name:
                    known.add(pid)
                elif now - one.began > tree.TICK:
                    self._refused.add(key)
        while more := {pid for pid, one in lives.items() if one.parent in known} - known:
            known |= more
        self._known = {pid: lives[pid].began for pid in known}
        return [lives[pid] for pid in known]

    def memory(self) -> int:
        return sum(tree.private(pid)[0] for pid in self._known)

    def sample(self) -> None:
        given, now = self.resources, self.members()
        if self._stopped:
            tree.send([one for one in now if one.state not in "Tt"], signal.SIGSTOP)  # who has come since
        self.most_pids = max(self.most_pids, sum(one.threads for one in now))
        if given.pids is not None and self.most_pids > given.pids:
            self._over = self._over or "pids"
            return  # a bomb: there is no time to lose
        sizes = [tree.private(one.pid) for one in now]
        self.peak = max(self.peak, sum(size for size, _ in sizes), *(most for _, most in sizes))
        self.cpu = max(self.cpu, sum(one.cpu for one in now))
        moved = [tree.storage(one.pid) for one in now]
        self.read = max(self.read, sum(read for read, _ in moved))
        self.written = max(self.written, sum(written for _, written in moved))
        if given.on_limit == "kill" and given.memory is not None and self.peak > given.memory:
            self._over = self._over or "memory"
        if given.disk is not None and self.written > given.disk:
            self._over = self._over or "disk"

    def empty(self) -> bool:
        return not self.members()

    def over(self) -> Reason | None:
        return self._over

    def waiting(self) -> bool:
        return False

    def _stop(self, stopped: bool) -> None:
        if stopped == self._stopped and not stopped:
            return
        self._stopped = stopped
        if stopped:
            self._halt()
        else:
            tree.send(self.members(), signal.SIGCONT)

    def _kill(self) -> None:
        self._halt()
        tree.send(self.members(), signal.SIGKILL)

    def _halt(self) -> None:
        """Stop them until nobody new turns up, for what is told to stop starts nothing any more."""
        told: set[tuple[int, int]] = set()
        for _ in tree.patient(2):
            new = [one for one in self.members() if (one.pid, one.began) not in told]
            if not new:
                return
            tree.send(new, signal.SIGSTOP)
            told |= {(one.pid, one.began) for one in new}

    def _remove(self) -> bool:
        for _ in tree.patient(5):
            if self.empty():
                return True
            self._kill()
        return self.empty()


def _running(uid: int) -> int:
    """Processes and threads of this user."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                total += len(os.listdir(entry / "task")) if entry.stat().st_uid == uid else 0
            except OSError:
                continue
    return total

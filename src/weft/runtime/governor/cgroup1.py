"""Groups on control groups v1, with its controllers of memory, cpu and processes.

v1 has no throttle below a limit, but a thing that v2 does not have: without its killer a group sleeps at its limit, and
goes on when that is raised. That is the net under the governor, which freezes a call shortly before; for a call that
sleeps in the middle of a system call is told that there is no memory, and may take that for its end.
"""

from __future__ import annotations

import os

from weft.core.resources import Resources
from weft.runtime.governor import tree
from weft.runtime.governor.cgroups import Directories, number, read, value, weight
from weft.runtime.governor.group import Reason
from weft.runtime.governor.place import Places
from weft.runtime.governor.watchdog import kill, write

MOST_PIDS = 2**22
"""As many as the kernel can number."""
BIRTH = 8 * 2**20
"""Bytes with which a command can enter a group, where it is then frozen at once: with less it fails instead."""
PERIOD = 100_000
"""Microseconds over which a share of the CPU is counted."""


class V1(Directories):
    door = "tasks"  # takes the one thread that writes to it; `cgroup.procs` first stops all forks of the machine: 10 ms

    def __init__(self, name: str, resources: Resources, priority: int, where: Places, pool: str = "") -> None:
        wanted = {"memory", "pids", "freezer", "cpuacct"} | ({"cpu"} if priority or resources.cpu else set())
        parents = {
            controller: os.path.join(directory, pool)
            for controller, directory in where.v1.items()
            if controller in wanted
        }
        self._hard: tuple[bool, str] | None = None
        super().__init__(name, resources, priority, parents)

    def limit(self) -> None:
        given = self.resources
        self.net(given.memory)
        if given.pids is not None:
            self._must("pids", "pids.max", str(min(given.pids, MOST_PIDS)))
        if given.cpu:
            self._must("cpu", "cpu.cfs_period_us", str(PERIOD))
            self._must("cpu", "cpu.cfs_quota_us", str(max(1000, int(given.cpu * PERIOD))))
        if self.priority:
            self._must("cpu", "cpu.shares", str(weight(self.priority, 1024)))
        if given.memory is not None and self._hard is None:
            raise OSError(f"group {self.name}: its memory can't be limited to {given.memory} bytes")

    def net(self, ceiling: int | None) -> None:
        """At what it was promised it is killed, if that is what was asked for; at less it sleeps."""
        super().net(ceiling)
        if "memory" not in self.at:
            return
        kill = ceiling is None or (self.resources.on_limit == "kill" and ceiling == self.resources.memory)
        limit = "-1" if ceiling is None else str(ceiling if kill else max(ceiling, BIRTH))
        if (kill, limit) == self._hard:
            return
        if not kill:
            self._write("memory", "memory.oom_control", "1")  # before the limit falls, and
        if self._write("memory", "memory.limit_in_bytes", limit):
            self._hard = kill, limit
            if kill:
                self._write("memory", "memory.oom_control", "0")  # after it has risen: nobody is killed in between

    def _write(self, controller: str, name: str, text: str) -> bool:
        return controller in self.at and write(os.path.join(self.at[controller], name), text)

    def _must(self, controller: str, name: str, text: str) -> None:
        if controller in self.at and not self._write(controller, name, text):
            raise OSError(f"group {self.name} can't be limited: {name} does not take {text}")

    def memory(self) -> int:
        used = number(self.at.get("memory"), "memory.usage_in_bytes")
        if used < 32 * 2**20:
            return used
        stat = read(self.at.get("memory"), "memory.stat")
        return max(0, used - value(stat, "total_inactive_file") - value(stat, "total_active_file"))

    def sample(self) -> None:
        self.peak = max(self.peak, number(self.at.get("memory"), "memory.max_usage_in_bytes"))
        self.cpu = max(self.cpu, number(self.at.get("cpuacct"), "cpuacct.usage") / 1e9)
        pids = self.at.get("pids")
        counted = number(pids, "pids.peak") or number(pids, "pids.current")
        self.most_pids = max(self.most_pids, counted or read(self.directories[0], "tasks").count("\n"))
        super().sample()

    def over(self) -> Reason | None:
        if value(read(self.at.get("memory"), "memory.oom_control"), "oom_kill"):
            return "memory"
        most = self.resources.pids
        if "pids" not in self.at and most is not None and self.most_pids > most:
            return "pids"
        if self.resources.on_limit == "kill" and value(read(self.at.get("pids"), "pids.events"), "max"):
            return "pids"
        return super().over()

    def waiting(self) -> bool:
        return value(read(self.at.get("memory"), "memory.oom_control"), "under_oom") > 0

    def _stop(self, stopped: bool) -> None:
        self._write("freezer", "freezer.state", "FROZEN" if stopped else "THAWED")

    def _kill(self) -> None:
        """Refuse it further processes, then kill: what is frozen dies when thawed."""
        for _ in tree.patient(5):
            for directory in self.directories:
                kill(directory)
            self._write("freezer", "freezer.state", "THAWED")
            if self.empty():
                break


def limit_pool(where: Places, pool: str, most: int) -> None:
    """The group that others are in: at its limit the kernel kills; the governor sees to it that it is not reached."""
    if not write(os.path.join(where.v1["memory"], pool, "memory.limit_in_bytes"), str(most)):
        raise OSError(f"group {pool}: its memory can't be limited to {most} bytes")

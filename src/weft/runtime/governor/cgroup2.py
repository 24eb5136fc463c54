"""Groups on control groups v2: memory.high slows a call down before memory.max ends it.

Below a group that may not hand its controllers on, as in most containers, only freezing, killing, CPU time and
pressure are there; memory and processes are then measured process by process.
"""

from __future__ import annotations

import os

from weft.core.resources import Resources
from weft.runtime.governor import tree
from weft.runtime.governor.cgroup1 import MOST_PIDS, PERIOD
from weft.runtime.governor.cgroups import Directories, number, read, value, weight
from weft.runtime.governor.group import Reason
from weft.runtime.governor.place import Places
from weft.runtime.governor.watchdog import kill, write


class V2(Directories):
    def __init__(self, name: str, resources: Resources, priority: int, where: Places, pool: str = "") -> None:
        assert where.v2 is not None
        self.controllers = where.controllers
        self.unified = os.path.join(where.v2, pool, name)
        super().__init__(name, resources, priority, {"": os.path.join(where.v2, pool)})

    def limit(self) -> None:
        given = self.resources
        if "memory" in self.controllers and given.memory is not None and given.on_limit == "kill":
            self._must("memory.max", str(given.memory))
            self._must("memory.oom.group", "1")
        if "pids" in self.controllers and given.pids is not None:
            self._must("pids.max", str(min(given.pids, MOST_PIDS)))
        if "cpu" in self.controllers and given.cpu:
            self._must("cpu.max", f"{max(1000, int(given.cpu * PERIOD))} {PERIOD}")
        if "cpu" in self.controllers and self.priority:
            self._must("cpu.weight", str(max(1, min(10_000, weight(self.priority, 100)))))
        self.net(given.memory)

    def net(self, ceiling: int | None) -> None:
        if ceiling != self.ceiling:
            kill = self.resources.on_limit == "kill" and ceiling == self.resources.memory
            self._write("memory.high", "max" if ceiling is None or kill else str(ceiling))
        super().net(ceiling)

    def _write(self, name: str, text: str) -> bool:
        return write(os.path.join(self.unified, name), text)

    def _must(self, name: str, text: str) -> None:
        if not self._write(name, text):
            raise OSError(f"group {self.name} can't be limited: {name} does not take {text}")

    def memory(self) -> int:
        if "memory" not in self.controllers:
            return sum(tree.private(pid)[0] for pid in self.pids())
        stat = read(self.unified, "memory.stat")
        files = value(stat, "inactive_file") + value(stat, "active_file")
        return max(0, number(self.unified, "memory.current") - files)

    def sample(self) -> None:
        self._count()
        if self._polled_pids():
            return  # a bomb: what it takes is looked at when it is over
        if "memory" in self.controllers:
            self.peak = max(self.peak, number(self.unified, "memory.peak") or number(self.unified, "memory.current"))
        else:
            sizes = [tree.private(pid) for pid in self.pids()]
            self.peak = max(self.peak, sum(size for size, _ in sizes), *(most for _, most in sizes))
        self.cpu = max(self.cpu, value(read(self.unified, "cpu.stat"), "usage_usec") / 1e6)
        pressure = read(self.unified, "memory.pressure").partition("total=")[2].split()
        self.stalled = int(pressure[0]) / 1e6 if pressure else 0.0
        super().sample()

    def _count(self) -> None:
        counted = number(self.unified, "pids.peak") or number(self.unified, "pids.current")
        self.most_pids = max(self.most_pids, counted or read(self.unified, "cgroup.threads").count("\n"))

    def _polled_pids(self) -> bool:
        most = self.resources.pids
        return "pids" not in self.controllers and most is not None and self.most_pids > most

    def over(self) -> Reason | None:
        given = self.resources
        if "memory" in self.controllers:
            if value(read(self.unified, "memory.events"), "oom_kill"):
                return "memory"
        elif given.memory is not None and given.on_limit == "kill" and self.peak > given.memory:
            return "memory"
        refused = given.on_limit == "kill" and value(read(self.unified, "pids.events"), "max")
        return "pids" if refused or self._polled_pids() else super().over()

    def waiting(self) -> bool:
        return False

    def _stop(self, stopped: bool) -> None:
        self._write("cgroup.freeze", "1" if stopped else "0")

    def _kill(self) -> None:
        kill(self.unified)


def limit_pool(where: Places, pool: str, most: int) -> None:
    """The group that others are in, with the controllers that it has itself."""
    assert where.v2 is not None
    directory = os.path.join(where.v2, pool)
    for controller in where.controllers:
        write(os.path.join(directory, "cgroup.subtree_control"), f"+{controller}")
    if "memory" in where.controllers and not write(os.path.join(directory, "memory.max"), str(most)):
        raise OSError(f"group {pool}: its memory can't be limited to {most} bytes")

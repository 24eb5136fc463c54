"""How much memory is free: of the machine, or of the control group that Weft itself is in, whichever has less."""

from __future__ import annotations

from dataclasses import dataclass

from weft.runtime.governor.cgroups import number, read, value
from weft.runtime.governor.place import Places


@dataclass(frozen=True)
class Machine:
    where: Places

    def room(self) -> int:
        """Bytes that calls may still take, without what the machine needs for itself: a twentieth, at least 256 MB."""
        meminfo = read("/proc", "meminfo").replace(":", "")
        total, available = _kilobytes(meminfo, "MemTotal"), _kilobytes(meminfo, "MemAvailable")
        room = available - max(256 * 2**20, total // 20)
        own = self._own()
        return room if own is None else min(room, own)

    def _own(self) -> int | None:
        if memory := self.where.v1.get("memory"):
            stat = read(memory, "memory.stat")
            limit = value(stat, "hierarchical_memory_limit")
            files = value(stat, "total_inactive_file") + value(stat, "total_active_file")
            return limit - number(memory, "memory.usage_in_bytes") + files if 0 < limit < 2**60 else None
        limit = number(self.where.v2, "memory.max")
        return limit - number(self.where.v2, "memory.current") if limit else None


def _kilobytes(text: str, key: str) -> int:
    for line in text.splitlines():
        name, *rest = line.split()
        if name == key:
            return int(rest[0]) * 1024
    return 0

"""Where this process may make control groups: below its own, in each hierarchy that this machine has."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from weft.runtime.governor.watchdog import owner, write

NEEDED = ("memory", "cpu", "pids")


@dataclass(frozen=True)
class Places:
    """`v1`: of each controller, the group of this process, if groups can be made below it. `v2`: likewise of the
    unified hierarchy. `controllers`: those that groups below `v2` have."""

    v1: dict[str, str] = field(default_factory=dict)
    v2: str | None = None
    controllers: frozenset[str] = frozenset()

    @property
    def roots(self) -> list[str]:
        return sorted({*self.v1.values(), *([self.v2] if self.v2 else [])})


@cache
def places() -> Places:
    """Looked up once: a group is made, and removed, to see whether that is allowed."""
    own = _own()
    v1: dict[str, str] = {}
    for names, directory in own.items():
        for name in names.split(","):
            if name in (*NEEDED, "freezer", "cpuacct") and _allowed(directory):
                v1[name] = directory
    v2 = own.get("")
    if v2 is None or not _allowed(v2):
        return Places(v1)
    return Places(v1, v2, _controllers(v2))


def _own() -> dict[str, str]:
    """Directories of the groups of this process by the controllers of their hierarchy; "" for the unified one."""
    try:
        groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        root, point = before.split()[3:5]
        if kind == "cgroup2" and "" in groups:
            found[""] = _below(point, root, groups[""])
        elif kind == "cgroup":
            offered = set(options.rpartition(" ")[2].split(","))
            for names in groups:
                if names and set(names.split(",")) <= offered:
                    found[names] = _below(point, root, groups[names])
    return {names: directory for names, directory in found.items() if os.path.isdir(directory)}


def _below(point: str, root: str, path: str) -> str:
    """A group's directory under a mount that shows the hierarchy from `root` on."""
    path = path[len(root) :] if root != "/" and path.startswith(root) else path
    return os.path.normpath(point + "/" + path)


def _allowed(directory: str) -> bool:
    trial = os.path.join(directory, f"{owner(os.getpid())}trial{time.monotonic_ns()}")
    try:
        os.mkdir(trial)
    except OSError:
        return False
    try:
        return os.access(os.path.join(trial, "cgroup.procs"), os.W_OK)
    finally:
        os.rmdir(trial)


def _controllers(directory: str) -> frozenset[str]:
    """Those that groups below this one have, or may be given."""
    for name in NEEDED:
        write(os.path.join(directory, "cgroup.subtree_control"), f"+{name}")
    try:
        given = Path(directory, "cgroup.subtree_control").read_text().split()
    except OSError:
        given = []
    return frozenset(given) & frozenset(NEEDED)

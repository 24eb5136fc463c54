"""What a sandboxed job may have left on the machine: processes, mounts, groups, files."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from weft.runtime.sandbox.scratch import base

FIRST_USER = 0x57000000
"""The users that jobs run as when root starts them: from here on, 2**24 of them."""


def processes(mark: str) -> set[int]:
    """Processes that carry a mark in their environment or on their command line, and those of jobs' users, and that are
    still there after a while: what was killed takes a moment to go."""
    deadline = time.monotonic() + 3.0
    while (found := _processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _processes(mark: str) -> set[int]:
    found = set()
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and int(place.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (place / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
                    continue
                words = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
                if mark.encode() in words or FIRST_USER <= place.stat().st_uid < FIRST_USER + 2**24:
                    found.add(int(place.name))
    return found


def mounts() -> list[str]:
    """All but those of the servers of tests, which may come and go beside this one."""
    found = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in found if "/weft-postgres-" not in place]


def scratch() -> list[Path]:
    """Folders of jobs and kept outputs of this process."""
    mine = list(base().glob(f"{os.getpid()}-*"))
    return [path for place in mine for path in [*place.glob("job-*"), *place.glob("out/*")]]


def groups() -> set[str]:
    """Control groups named after this process."""
    found = set()
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        found |= {f"{top}/{folder}" for folder in folders if f"{os.getpid()}-" in folder and "weft" in f"{top}{folder}"}
    return found

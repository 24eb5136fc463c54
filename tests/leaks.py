"""What a sandboxed job or a call may have left on the machine: processes, mounts, groups, files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.groups import left
from weft.runtime.governor.tree import everyone
from weft.runtime.sandbox.scratch import base

FIRST_USER = 0x57000000
"""The users that jobs run as when root starts them: from here on, 2**24 of them."""


def processes(mark: str) -> set[int]:
    """Those `alive` that are still there after a while: what was killed takes a moment to go."""
    deadline = time.monotonic() + 20
    while (found := alive(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def alive(mark: str) -> set[int]:
    """Processes that carry a mark in their environment or on their command line, and those of jobs' users in groups of
    this process."""
    found = set()
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and int(place.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (place / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
                    continue
                words = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
                of_a_job = FIRST_USER <= place.stat().st_uid < FIRST_USER + 2**24
                if mark.encode() in words or (of_a_job and f"-{os.getpid()}-" in (place / "cgroup").read_text()):
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


def children() -> set[int]:
    """Processes below this one that live, but for those that serve it: watchdogs, and workers that wait for work."""
    lives = everyone()
    found = {os.getpid()}
    while more := {pid for pid, one in lives.items() if one.parent in found and not one.over} - found:
        found |= more
    return {pid for pid in found - {os.getpid()} if not _serves(pid)}


def _serves(pid: int) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"watchdog.py" in words or b"monty" in words or b"resource_tracker" in words
    return True


@contextlib.contextmanager
def none() -> Iterator[None]:
    """Nothing is left of what this block started, whatever happened to it."""
    mounted, grouped, born = mounts(), groups(), children()
    yield
    deadline = time.monotonic() + 20
    while (children() - born or left()) and time.monotonic() < deadline:
        time.sleep(0.02)  # what was killed takes a moment to go
    assert not set(mounts()) - set(mounted)
    assert not scratch()
    assert not groups() - grouped
    assert not left(), "groups or processes are left"
    assert not children() - born

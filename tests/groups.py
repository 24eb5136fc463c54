"""What tests of groups share: commands in a group, and a look at what is left."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from weft.runtime.governor import Group
from weft.runtime.governor.backend import offered
from weft.runtime.governor.place import places
from weft.runtime.governor.watchdog import marks, owner

KINDS = offered(places())
CGROUPS = [kind for kind in KINDS if kind != "polling"]

# Allocates so many MB in pieces, holding what it has; then prints, waits for its input to end, and ends.
HOLD = """
import sys, time
kept = []
for _ in range(int(sys.argv[1])):
    kept.append(bytearray(b"x" * 2**20))
    time.sleep(float(sys.argv[2]))
print("has it", flush=True)
sys.stdin.read()
"""


def start(group: Group, *argv: str, **more: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*group.enter, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def run(group: Group, *argv: str) -> tuple[int, str, str]:
    """Its status and output; the group is closed then."""
    process = start(group, *argv)
    out, err = process.communicate()
    group.close()
    return process.returncode, out, err


def wait_until(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, f"still not so: {what}; left: {left()}"
        time.sleep(0.01)


def left(pid: int | None = None) -> list[str]:
    """Groups and marked processes of this owner (this process) that are there."""
    mine = owner(pid or os.getpid())
    if pid is not None:
        mine = mine.rsplit("-", 2)[0] + "-"  # it is dead: nobody knows any more when it began
    directories = [str(path) for root in places().roots for path in Path(root).iterdir() if path.name.startswith(mine)]
    return directories + [f"{pid} {name}" for pid, name in marks() if name.startswith(mine)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

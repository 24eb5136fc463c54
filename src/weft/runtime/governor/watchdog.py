"""What outlives a Weft that was killed: it removes the groups whose owner is dead, and ends what is in them.

It is a module of Weft and a program of its own (`python -I -S watchdog.py`, so it imports nothing of Weft): started
with the first group, it waits at a pipe for its owner's death. At its start a governor calls `reap` too, for a
watchdog can be killed as well. The owner of a group is in its name: namespace of processes, process, and the time at
which that began.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator

PREFIX = "weft-"
MARK = b"WEFT_GROUP="
"""A variable in the environment of all that starts in a group without a directory."""
LIMITLESS = {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1", "memory.high": "max"}


def started(pid: int | str) -> str | None:
    """When a process began, in ticks since the machine did; None if there is none, or it is only not yet reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def owner(pid: int) -> str:
    """The part of a group's name that says whose it is."""
    space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"{PREFIX}{space}-{pid}-{started(pid)}-"


def dead(name: str) -> bool:
    """Whether this names a group of a process of this namespace that is not there any more."""
    parts = name.split("-")
    if len(parts) < 6 or f"{parts[0]}-" != PREFIX or not parts[2].isdigit():
        return False
    return os.readlink("/proc/self/ns/pid").strip("pid:[]") == parts[1] and started(parts[2]) != parts[3]


def reap(roots: Iterable[str]) -> int:
    """Lift the limits of all groups below these directories whose owner is dead, thaw and kill what is in them, and
    remove them; likewise processes with the mark of such a group. Says how many there were."""
    groups: list[str] = []
    for root in roots:
        with contextlib.suppress(OSError):
            groups += [os.path.join(root, name) for name in os.listdir(root) if dead(name)]
    found = len({os.path.basename(group) for group in groups})
    remove(groups)
    for _ in range(50):
        marked = [pid for pid, name in marks() if dead(name)]
        if not marked:
            break
        found += len(marked)
        end(family(marked))
        time.sleep(0.01)
    return found


def marks() -> Iterator[tuple[int, str]]:
    """Every live process with the mark of a group, and that group's name."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (name := mark(entry)) and started(entry) is not None:
            yield int(entry), name


def mark(pid: int | str) -> str:
    """The group that a process says it is in; empty if none: by its environment or, before it has become the command,
    as the shell that will (`sh -c ... NAME command`)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        data = b"\0" + file.read()
        at = data.find(b"\0" + MARK)
        if at >= 0:
            return data[at + 1 + len(MARK) :].partition(b"\0")[0].decode(errors="replace")
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
        if len(words) > 3 and words[1] == b"-c" and words[3].startswith(PREFIX.encode()):
            return words[3].decode(errors="replace")
    return ""


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                parents[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def end(pids: list[int]) -> None:
    """Stop them all first, so that none can start another meanwhile; then kill."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, number)


def members(directory: str) -> list[int]:
    """The processes in a group and in those below it."""
    found: list[int] = []
    for place, _, files in os.walk(directory):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError), open(os.path.join(place, "cgroup.procs")) as file:
                found += [int(line) for line in file]
    return found


def write(path: str, text: str) -> bool:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        return False
    return True


def kill(directory: str) -> None:
    """Everything in there, also what is frozen: on cgroup v1 it dies when thawed."""
    if not write(os.path.join(directory, "cgroup.kill"), "1"):
        write(os.path.join(directory, "pids.max"), "0")
        for pid in members(directory):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def release(directory: str) -> None:
    """Lift limits and thaw: what is in there may go on, to its end. None of its threads forks any more."""
    for name, text in LIMITLESS.items():
        write(os.path.join(directory, name), text)
    write(os.path.join(directory, "memory.oom_control"), "0")
    write(os.path.join(directory, "pids.max"), "0")
    write(os.path.join(directory, "cgroup.freeze"), "0")
    write(os.path.join(directory, "freezer.state"), "THAWED")


def remove(directories: list[str], patience: float = 5.0) -> bool:
    """Kill everything in these groups of one call, one in each hierarchy, and remove them, with those below them. False
    if that can't be done in this time."""
    limit = time.monotonic() + patience
    pause = 0.0005
    while True:
        left = [directory for directory in directories if not _removed(directory)]
        if not left or time.monotonic() > limit:
            return not left
        for act in (kill, release):  # in all of them: one that is frozen in another dies only when thawed there
            for directory in left:
                for place, _, _ in os.walk(directory):
                    act(place)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _removed(directory: str) -> bool:
    """Most are empty by now."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        for place, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(place)
        return not os.path.isdir(directory)
    return True


def stand(mine: str, roots: list[str]) -> None:
    """Wait until the owner of these groups has died, or has nothing left to watch, and clear up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the owner, whose end is what counts
    while not dead(mine + "0-x"):
        ready, _, _ = select.select([0], [], [], 1.0)
        if ready and not os.read(0, 64):
            break
    for _ in range(200):  # its pipe may be closed a moment before it is gone
        if dead(mine + "0-x"):
            break
        time.sleep(0.01)
    reap(roots)


if __name__ == "__main__":
    stand(sys.argv[1], sys.argv[2:])

"""Reading /proc: which processes belong together, and what they take. Works for whoever may see them, root or not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Life:
    """One process: which (numbers come again, the time of its start does not), its parent, state, CPU seconds with
    those of children that it waited for, threads, and whether it is over."""

    pid: int
    began: int
    parent: int
    session: int
    state: str
    cpu: float
    threads: int

    @property
    def over(self) -> bool:
        return self.state in "ZX"


def life(pid: int) -> Life | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    cpu = sum(map(int, fields[11:15])) / TICK
    return Life(pid, int(fields[19]), int(fields[1]), int(fields[3]), fields[0].decode(), cpu, int(fields[17]))


def everyone() -> dict[int, Life]:
    found = (life(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {one.pid: one for one in found if one is not None}


def private(pid: int) -> tuple[int, int]:
    """Bytes of memory of its own, now and at most: anonymous and shared, without mapped files. Pages shared since a
    fork count in both."""
    found: dict[bytes, int] = {}
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith((b"VmHWM:", b"RssAnon:", b"RssFile:", b"RssShmem:")):
                name, number = line.split()[:2]
                found[name] = int(number) * 1024
    now = found.get(b"RssAnon:", 0) + found.get(b"RssShmem:", 0)
    return now, max(now, found.get(b"VmHWM:", 0) - found.get(b"RssFile:", 0))


def storage(pid: int) -> tuple[int, int]:
    """Bytes read from and written to storage, with those of children that it waited for."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/io", "rb") as file:
        values = dict(line.split(b": ") for line in file.read().splitlines())
        return int(values[b"read_bytes"]), int(values[b"write_bytes"]) - int(values[b"cancelled_write_bytes"])
    return 0, 0


def send(lives: Iterable[Life], number: signal.Signals) -> None:
    """A signal to those of them that are still who they were."""
    for one in lives:
        now = life(one.pid)
        if now is not None and now.began == one.began and not now.over:
            with contextlib.suppress(OSError):
                os.kill(one.pid, number)


def patient(seconds: float) -> Iterable[float]:
    """Longer and longer waits, up to this time in all."""
    limit, pause = time.monotonic() + seconds, 0.0005
    while time.monotonic() < limit:
        yield pause
        time.sleep(pause)
        pause = min(pause * 2, 0.02)

"""What the calls of each Weft process take now, for who looks from outside (`weft top`): a small file of each process.

    /tmp/weft-calls-0/        of one user; nobody else may change it
        watched               touched by who looks
        4711-98765.json       of one process, by its id and the time it started; written by its governor while
                              `watched` is young

So it costs one question to the file system at each look, and nothing is written while nobody looks. A file of a process
that is dead, or that is old, counts for nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from weft.core.resources import Resources, Usage
from weft.core.secret import Redactor
from weft.runtime.governor.group import Counted
from weft.runtime.governor.watchdog import started

YOUNG = 5.0
"""Seconds for which somebody who looked is written for."""
OFTEN = 0.2
"""Seconds between two files of a process."""
WAIT = 0.5
"""Seconds in which every governor that lives has written, once it is asked to."""


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """One call as it is now. `began`: seconds since the epoch. `memory`: bytes in use now; `limit`: those that it may
    use now (None: as many as there are). `paused`: it does not get on. `pid`: the process of Weft."""

    pid: int
    run: str
    number: int
    command: str
    began: float
    priority: int
    memory: int
    limit: int | None
    paused: bool
    usage: Usage
    resources: Resources


def folder() -> Path:
    """The folder of this user."""
    return Path(tempfile.gettempdir()) / f"weft-calls-{os.geteuid()}"


class Board:
    """Where one process posts its calls."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._file = folder() / f"{self._pid}-{started(self._pid)}.json"
        self._last = 0.0
        self._posted = False

    def post(self, groups: Iterable[Counted]) -> None:
        """Write what they take, if somebody looks."""
        now = time.time()
        if now - self._last < OFTEN:
            return
        self._last = now
        try:
            if now - (self._file.parent / "watched").lstat().st_mtime > YOUNG or not _own(self._file.parent):
                self.clear()
                return
            calls = [self._seen(group, now) for group in groups if not group.closed]
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(calls))
            fresh.rename(self._file)
            self._posted = True
        except OSError:
            return  # nobody has looked yet, or there is no room: it is only for looking

    def _seen(self, group: Counted, now: float) -> Posted:
        usage = group.usage()
        return Posted(
            pid=self._pid,
            run=group.call.run,
            number=group.call.number,
            command=Redactor().redact_text(group.call.command or group.name),
            began=now - usage.seconds,
            priority=group.priority,
            memory=group.memory(),
            limit=group.ceiling,
            paused=group.stands,
            usage=usage,
            resources=group.resources,
        )

    def clear(self) -> None:
        """There is nothing to see."""
        if self._posted and self._pid == os.getpid():
            self._posted = False
            self._file.unlink(missing_ok=True)


def watch() -> None:
    """Let every process of this user post its calls for the next seconds. Raises OSError if the folder is not this
    user's alone."""
    place = folder()
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    if not _own(place):
        raise PermissionError(f"{place} is not a folder that only this user can change: remove it, or set TMPDIR")
    (place / "watched").touch(mode=0o600)


def calls() -> list[Posted]:
    """What the processes of this user have posted and still holds, the oldest call first."""
    found: list[Posted] = []
    for file in folder().glob("*-*.json"):
        pid, _, start = file.stem.partition("-")
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if started(pid) != start:
                file.unlink()  # it died before it could
            elif time.time() - file.lstat().st_mtime < YOUNG:
                found += msgspec.json.decode(file.read_bytes(), type=list[Posted])
    return sorted(found, key=lambda one: one.began)


def _own(place: Path) -> bool:
    there = place.lstat()
    return stat.S_ISDIR(there.st_mode) and there.st_uid == os.geteuid() and not there.st_mode & 0o022

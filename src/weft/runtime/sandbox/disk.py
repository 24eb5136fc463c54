"""How much a job has written: looked at while it runs, by what its folders hold."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from weft.core.resources import Resources

DISK = 4 * 2**30
"""Bytes that a job may write if its resources say nothing."""
FILES = 100_000
"""Files and folders that it may make."""


class DiskWatch:
    """The growth of some folders. To look costs little while the file systems' free space and inodes stay as they are:
    only when those have shrunk by a part of the limit are the folders gone through. Made before the job begins."""

    pause = 0.2
    """Seconds between looks: what a job writes in that time is by how much it may be over."""

    def __init__(self, folders: Sequence[Path], asked: Resources) -> None:
        self._folders = [folder for folder in folders if folder.is_dir()]
        self._limit = DISK if asked.disk is None else asked.disk
        self._free = self._room()
        self._before = self._measure()
        self.written = 0

    def _room(self) -> tuple[int, int]:
        rooms = {found.f_fsid: found for found in map(os.statvfs, self._folders)}
        return (
            sum(room.f_bfree * room.f_frsize for room in rooms.values()),
            sum(room.f_ffree for room in rooms.values()),
        )

    def _measure(self) -> tuple[int, int]:
        held = [_held(folder) for folder in self._folders]
        return sum(size for size, _ in held), sum(count for _, count in held)

    async def over(self, last: bool = False) -> bool:
        """Whether it wrote more than it may. The `last` look, when it has ended, is always a thorough one."""
        now = self._room()
        if not last and self._free[0] - now[0] < self._limit / 4 and self._free[1] - now[1] < FILES / 4:
            return False
        size, count = await asyncio.to_thread(self._measure)
        self._free = now
        self.written = max(0, size - self._before[0])
        return self.written > self._limit or count - self._before[1] > FILES


def _held(folder: Path) -> tuple[int, int]:
    """Bytes of the files below a folder, holes counted as if they were written, and how many entries there are."""
    size = count = 0
    left = [os.fspath(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        found = entry.stat(follow_symlinks=False)
                        size += max(found.st_blocks * 512, found.st_size)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                count += FILES + 1  # nobody needs that: a way to hide from being counted
    return size, count

"""What the walls of processes share: what of the machine a job sees, and how its program is put before it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.scratch import Scratch

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
FROM_ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl", "ca-certificates", "pki", "localtime",
    "mime.types", "nsswitch.conf", "protocols", "services", "terminfo", "fonts", "magic",
)  # fmt: skip
PIDS = 256
"""Processes and threads that a job may have if its resources say nothing."""


def interpreter() -> str:
    """This Python, by the path that tells it its environment."""
    return str(Path(sys.executable).absolute())


def interpreter_places() -> list[str]:
    """Where this Python and its packages lie, other than below /usr."""
    found = {str(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix)}
    found |= {str(Path(sys.prefix).absolute())}
    return sorted(place for place in found if not place.startswith("/usr") and place.count("/") > 1)


def hidden_in(top: Path, job: Job) -> list[Path]:
    """What is hidden below a folder; what is below that isn't looked into."""
    found, left = [], [top] if top.is_dir() else []
    while left:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if not entry.is_symlink() and job.hides(Path(entry.path)):
                    found.append(Path(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry.path))
    return found


def program_of(job: Job, scratch: Scratch, inside: str) -> list[str]:
    """What to run, where the job sees it."""
    if job.python is None:
        return [*job.argv]
    (scratch.inside / "main.py").write_text(job.python, "utf-8", "surrogateescape")
    return [interpreter(), "-I", "-u", f"{inside}/main.py"]


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """A file in memory, at its begin."""
    handle = os.memfd_create("weft")
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)

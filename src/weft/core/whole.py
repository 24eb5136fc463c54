"""A file that is there whole, or not at all: written beside its place, and moved into it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Give a file this content in one step: who reads it meanwhile, and who reads it after a kill, finds the old one or
    the new one. A missing folder is made, as closed as the file.

    `mode`: its permissions. `durable`: forced to the disk first, so that it also outlives the machine's death; without,
    the file may be found empty then. Raises OSError, and leaves nothing beside it.
    """
    path.parent.mkdir(mode=0o755 if mode & 0o077 else 0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(mode)  # whatever the umask says
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise

"""Cells on disk, so that a generation that was cut off goes on where it was: for this user's eyes only.

A file that is lost, damaged or of another engine is no file: then the cells are computed again, and come to the same.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from weft.core.whole import write_whole
from weft.model.catalogue import models_dir

_LONG = 7 * 86400.0
"""Seconds after which nobody comes back for what was kept."""


def place_of(key: str) -> Path:
    """Where the cells with this key are kept, or would be."""
    return models_dir() / "cells" / f"{key}.kv"


def read(path: Path) -> bytes:
    """What is kept there; nothing if there is nothing."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def keep(path: Path, cells: bytes) -> None:
    """Keep this in its place, whole or not at all."""
    try:
        write_whole(path, cells)
        _forget_old(path.parent)
    except OSError:
        path.unlink(missing_ok=True)


def _forget_old(folder: Path) -> None:
    for each in folder.iterdir():
        with suppress(OSError):
            if each.stat().st_mtime < time.time() - _LONG:
                each.unlink()


def drop(path: Path) -> None:
    path.unlink(missing_ok=True)

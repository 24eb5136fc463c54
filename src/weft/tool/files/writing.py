"""Changing files: in one piece, and so that doing it twice does no harm where that can be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from weft.core.crossing import Entry, again, authorised, further
from weft.core.errors import BadInput
from weft.core.step import primitive
from weft.tool.files import opening
from weft.tool.files.opening import trouble


@primitive(name="files.write_bytes", effect="idempotent", needs="write:{path}")
def write_bytes(path: str | Path, data: bytes) -> str:
    """Write a file anew, in one piece and durably. Returns its absolute path. Its folder must exist
    (`files.make_folder`)."""
    real = authorised("file.write", path)
    opening.replace(real, lambda file: file.write(data))
    return real


@primitive(name="files.write_text", effect="idempotent", needs="write:{path}")
def write_text(path: str | Path, text: str, *, encoding: str = "utf-8") -> str:
    """Write a file anew, in one piece and durably; line ends stay as they are. Returns its absolute path. Its folder
    must exist (`files.make_folder`)."""
    real, data = authorised("file.write", path), _encoded(text, encoding)
    opening.replace(real, lambda file: file.write(data))
    return real


@primitive(name="files.append_text", effect="at_most_once", needs="write:{path}")
def append_text(path: str | Path, text: str, *, encoding: str = "utf-8") -> str:
    """Add text to the end of a file, or begin one. Returns its absolute path. Not twice: if the machine dies in the
    middle, its outcome is unknown."""
    real = authorised("file.write", path)
    opening.append(real, _encoded(text, encoding))
    return real


def _encoded(text: str, encoding: str) -> bytes:
    if not isinstance(text, str):
        raise BadInput(f"text is written, not {type(text).__name__}; write bytes with files.write_bytes")
    try:
        return text.encode(encoding)
    except LookupError:
        raise BadInput(f"there is no encoding {encoding!r}; give one such as utf-8 or latin-1") from None


@primitive(name="files.copy", effect="idempotent", needs=("read:{source}", "write:{target}"))
def copy(source: str | Path, target: str | Path) -> str:
    """Copy a file, with its permissions, in one piece. Returns the absolute path of the copy."""
    real = authorised("file.write", target)
    opening.copy(authorised("file.read", source), real)
    return real


@primitive(name="files.make_folder", effect="idempotent", needs="write:{path}")
def make_folder(path: str | Path) -> str:
    """Make a folder, and those above it that are missing; one that is there is fine. Returns its absolute path."""
    real = authorised("file.write", path)
    parts = real.strip("/").split("/")
    for depth in range(1, len(parts) + 1):
        here = "/" + "/".join(parts[:depth])
        with opening.entry("file.write", here) as (place, name):
            found = opening.look(place, name)
            if found is None:
                if here != real:
                    further("file.write", here, f"make it by a call of its own: files.make_folder({here!r})")
                os.mkdir(name, dir_fd=place)
            elif stat.S_ISLNK(found.st_mode):
                raise opening.changed("file.write", real)
            elif not stat.S_ISDIR(found.st_mode):
                raise trouble(errno.EEXIST, here, "there is a file of this name already")
    return real


def _to_delete(path: str | Path) -> list[tuple[str, Any]]:
    return [("file.delete", Entry(path))]


@primitive(name="files.delete", effect="idempotent", needs=_to_delete)
def delete(path: str | Path) -> None:
    """Delete a file, a symlink (itself) or an empty folder; if there is none, that is fine."""
    opening.remove(authorised("file.delete", Entry(path)))


def _to_move(source: str | Path, target: str | Path) -> list[tuple[str, Any]]:
    return [("file.read", Entry(source)), ("file.delete", Entry(source)), ("file.write", str(target))]


@primitive(name="files.move", effect="idempotent", needs=_to_move)
def move(source: str | Path, target: str | Path) -> str:
    """Move or rename a file (no folder: what is in it may be denied), replacing one that is there. Returns its new
    absolute path. Needs to read and delete the one path and to write the other."""
    real = authorised("file.write", target)
    try:
        opening.move(authorised("file.read", Entry(source)), real)
    except FileNotFoundError as error:
        if error.filename == real or not (again() and opening.there(real)):
            raise
        # else it was done before the machine died
    return real

"""Looking at files: what changes nothing."""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from weft.core.crossing import authorised, may
from weft.core.errors import BadInput
from weft.core.pattern.text import glob
from weft.core.step import primitive
from weft.tool.files import opening
from weft.tool.files.opening import trouble
from weft.tool.paging import LINES, Page, Pass

LIMIT = 10_000_000
"""Bytes that are read at most if nothing else is said."""
LARGEST = 1 << 30
"""Bytes of the largest file of which lines are read."""
MOST = 10_000
"""Paths that are found at most if nothing else is said."""

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True)
class Item:
    """What lies in a folder. `size` in bytes; a link is told as itself, not as what it points to."""

    name: str
    kind: Kind
    size: int
    modified: datetime


@primitive(name="files.read_bytes", effect="pure", needs="read:{path}")
def read_bytes(path: str | Path, *, limit: int = LIMIT) -> bytes:
    """The content of a file, which may be up to `limit` bytes long."""
    return _content(path, limit)


@primitive(name="files.read_text", effect="pure", needs="read:{path}")
def read_text(path: str | Path, *, encoding: str = "utf-8", limit: int = LIMIT) -> str:
    """The text of a file, which may be up to `limit` bytes long; line ends stay as they are. Raises UnicodeDecodeError
    if it is not in this encoding."""
    return decoded(_content(path, limit), path, encoding)


def decoded(data: bytes, path: str | Path, encoding: str = "utf-8") -> str:
    """The text that these bytes of a file are. Raises UnicodeDecodeError, BadInput for an unknown encoding."""
    try:
        return data.decode(encoding)
    except LookupError:
        raise BadInput(f"there is no encoding {encoding!r}; give one such as utf-8 or latin-1") from None
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - 20) : error.end + 20]  # not all of it: an error is journaled
        place = min(error.start, 20)
        why = f"{path} is not {encoding} text ({error.reason} at byte {error.start}); read it with files.read_bytes"
        raise UnicodeDecodeError(encoding, around, place, place + error.end - error.start, why) from None


def _content(path: str | Path, limit: int) -> bytes:
    real = authorised("file.read", path)
    with opening.reading(real) as file:
        data = file.read(limit + 1)
        if len(data) > limit:
            size = os.fstat(file.fileno()).st_size
            raise trouble(errno.EFBIG, real, f"it has {size} bytes, more than limit={limit}; give a larger limit")
        return data


@primitive(name="files.read", effect="pure", needs="read:{path}")
def read(path: str | Path, start: int = 1, lines: int = LINES) -> Page:
    """Lines of a UTF-8 text file, up to 100 kB of them: for who goes on to change it. `Page.digest` is what
    `files.edit` and `files.write` take as `seen`; `Page.shown` has line numbers. Raises UnicodeDecodeError if it is no
    text."""
    wanted = Pass(start, lines)
    real = authorised("file.read", path)
    with opening.reading(real) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise trouble(errno.EFBIG, real, f"it has {size} bytes, and at most {LARGEST} are looked at")
        wanted.over(file)
    return wanted.page(decoded(bytes(wanted.kept), path))


@primitive(name="files.stat", effect="pure", needs="read:{path}")
def stat(path: str | Path) -> Item | None:
    """What lies at a path (through symlinks); None if there is nothing."""
    real = authorised("file.read", path)
    try:
        if real == "/":
            return _item("/", os.stat("/"))  # noqa: PTH116
        with opening.inode("file.read", real) as (_, info):
            return _item(real.rpartition("/")[2], info)
    except (FileNotFoundError, NotADirectoryError):
        return None


@primitive(name="files.exists", effect="pure", needs="read:{path}")
def exists(path: str | Path) -> bool:
    """Whether there is anything at a path."""
    return stat.fn(path) is not None


def _item(name: str, info: os.stat_result) -> Item:
    mode = info.st_mode
    kind: Kind = (
        "file" if _stat.S_ISREG(mode) else "folder" if _stat.S_ISDIR(mode)
        else "link" if _stat.S_ISLNK(mode) else "other"
    )  # fmt: skip
    return Item(name, kind, info.st_size, datetime.fromtimestamp(info.st_mtime, UTC))


@primitive(name="files.list", effect="pure", needs="read:{path}")
def list_folder(path: str | Path = ".") -> list[Item]:
    """What is in a folder, by name."""
    with opening.listing(authorised("file.read", path)) as handle:
        items = [_item(one.name, one.stat(follow_symlinks=False)) for one in _entries(handle)]
    return sorted(items, key=lambda item: item.name)


@primitive(name="files.find", effect="pure", needs="read:{folder}")
def find(pattern: str, folder: str | Path = ".", *, limit: int = MOST) -> list[str]:
    """The paths of files below a folder that fit a pattern, seen from it and sorted: `*.md` for those in it, `**/*.md`
    for those at any depth. Symlinks are not followed; folders that may not be read are left out.

    Raises BadInput for a pattern that is none, and if more than `limit` paths fit."""
    fits = glob(pattern.split("/"))
    real = authorised("file.read", folder)
    found: list[str] = []
    with opening.listing(real) as handle:
        for path in _below(handle, real, ""):
            if fits.fullmatch(path):
                found.append(path)
                if len(found) > limit:
                    raise BadInput(f"more than {limit} files fit {pattern!r} in {real}; narrow it or give a limit")
    return sorted(found)


def _below(handle: int, real: str, before: str) -> Iterator[str]:
    """The paths of all that is no folder below an open one."""
    for item in _entries(handle):
        path = f"{real.rstrip('/')}/{item.name}"
        if not item.is_dir(follow_symlinks=False):
            yield before + item.name
        elif may("file.read", path):
            try:
                below = os.open(item.name, opening.LISTED, dir_fd=handle)
            except OSError:
                continue  # it is gone, a symlink by now, or not for this user
            try:
                yield from _below(below, path, f"{before}{item.name}/")
            finally:
                os.close(below)


def _entries(handle: int) -> list[os.DirEntry[str]]:
    """What is in an open folder."""
    with os.scandir(handle) as entries:
        return [*entries]

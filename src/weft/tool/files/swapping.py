"""Replacing exactly what was read: a file whose content has a digest, or the lack of a file, by a new content.

Two who want the same file stand in line (a lock on its folder, for all who come this way). Against everybody else the
old and the new file are exchanged in one act of the kernel, and what came out is looked at: if it is not what was read,
they are exchanged back. What the system can't tell is what a program does to the old file that it holds open.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from weft.core.errors import WeftError
from weft.tool.files import opening
from weft.tool.files.opening import trouble
from weft.tool.paging import digest_of_file

PATIENCE = 10.0
"""Seconds that are waited for others who change files of the same folder."""
_EXCHANGE = 2


class NotRead(WeftError):
    """A file was not changed, for it is not what was read: nothing was, or somebody has changed it since."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(path, why)

    def __str__(self) -> str:
        return f"{self.path} was left as it is: {self.why}; read it again with files.read and give seen=, its digest"


def swap(path: str, seen: str | None, data: bytes) -> None:
    """Put a file with this content at the real path, if what lies there has the digest `seen` (None: if there is
    nothing). Durable on return. Raises NotRead, Denied, or an OSError in words."""
    with opening.entry("file.write", path) as (place, name), opening.in_words(path), _alone(place, path):
        old = opening.look(place, name)
        _expect(place, name, path, old, seen)
        with opening.beside(place) as new:
            new.file.write(data)
            new.finish(old)
            opening.check("file.write", place, path.rpartition("/")[0] or "/")
            passing = new.named()
            if seen is None:
                _begin(place, passing, name, path)
            else:
                _exchange(place, passing, name, path, seen)
        opening.settle(place)


def _expect(place: int, name: str, path: str, old: os.stat_result | None, seen: str | None) -> None:
    """Raise NotRead unless what is there is what was seen."""
    if old is None:
        if seen is not None:
            raise NotRead(path, "there is no such file any more")
        return
    if stat.S_ISLNK(old.st_mode):
        raise opening.changed("file.write", path)
    opening.plain(old, path)
    if seen is None:
        raise NotRead(path, "there is such a file, and it was not read")
    if _digest(place, name) != seen:
        raise NotRead(path, "it was changed since it was read, or it was never read")


def _digest(place: int, name: str) -> str | None:
    """Of a file in an open folder; None of what is no file."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        return digest_of_file(file)


def _begin(place: int, passing: str, name: str, path: str) -> None:
    """Give the new file its name, which nobody has."""
    try:
        os.link(passing, name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
    except FileExistsError:
        raise NotRead(path, "somebody has made such a file meanwhile") from None
    os.unlink(passing, dir_fd=place)


def _exchange(place: int, passing: str, name: str, path: str, seen: str) -> None:
    """Give the new file the name of the old one, and remove that one if it is what was seen."""
    if not _swapped(place, passing, name, path):
        if _digest(place, name) != seen:
            raise NotRead(path, "it was changed a moment ago")
        os.rename(passing, name, src_dir_fd=place, dst_dir_fd=place)
        return
    try:
        same = _digest(place, passing) == seen
    except BaseException:
        _back(place, passing, name, path)
        raise
    if not same:
        _back(place, passing, name, path)
        raise NotRead(path, "it was changed a moment ago")
    os.unlink(passing, dir_fd=place)


def _back(place: int, passing: str, name: str, path: str) -> None:
    """Undo an exchange; if somebody has written a third file meanwhile, that one stays."""
    ours = opening.look(place, name)
    _swapped(place, passing, name, path)
    out = opening.look(place, passing)
    if ours is not None and out is not None and ours.st_ino != out.st_ino:
        _swapped(place, passing, name, path)


def _swapped(place: int, one: str, other: str, path: str) -> bool:
    """Exchange two names of an open folder in one act; False where the system can't."""
    call = _renameat2()
    if call is None:
        return False
    if call(place, os.fsencode(one), place, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    if code == errno.ENOENT:
        raise NotRead(path, "it was deleted a moment ago")
    raise trouble(code, path)


@cache
def _renameat2() -> Callable[..., int] | None:
    """The kernel's call, which Python has no name for; None where there is none."""
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


@contextmanager
def _alone(place: int, path: str) -> Iterator[None]:
    """Nobody else who comes this way changes a file of this folder meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(".", opening.LISTED, dir_fd=place)
        except PermissionError:
            handle = None  # who may not list it, can't lock it
        if handle is not None:
            stack.callback(os.close, handle)
            _lock(handle, path)
        yield


def _lock(handle: int, path: str) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                why = f"another program has kept its folder locked for {PATIENCE:g} s; end it, or try again later"
                raise trouble(errno.EBUSY, path, why) from None
            time.sleep(0.005)
        except OSError:
            return  # a file system without locks

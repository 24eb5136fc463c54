"""Opening exactly what was authorised: a real path, walked from the root without following a symlink.

Between a decision and the act somebody may put a symlink into the path's place. Here each component is opened in the
folder before it and none is followed; then the kernel is asked for the name of what was opened. What is not what was
authorised is refused. Files are written beside their place and renamed into it: a crash leaves the old or the new.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from weft.core.errors import Denied

_HANDLE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER = _HANDLE | os.O_DIRECTORY
LISTED = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
"""How a folder is opened to see what is in it."""
_UNNAMED: int = getattr(os, "O_TMPFILE", 0)
_PASSING = ".weft-"
"""How names begin that a new file has for a moment."""
_TRIES = 20
"""How often a file is opened that is replaced again and again in the moment between opening and looking."""
_PROC = sys.platform == "linux"

_WHY = {
    errno.ENOENT: "there is no such file or folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EACCES: "the operating system refuses it to this user",
    errno.EPERM: "the operating system refuses it",
    errno.ENOTEMPTY: "the folder is not empty: delete what is in it first",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the user's share of the disk is used up",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file is too large",
}


def trouble(code: int, path: str, why: str = "") -> OSError:
    """The error of this number (a FileNotFoundError, an IsADirectoryError, ...), in words."""
    return OSError(code, why or _WHY.get(code) or os.strerror(code), path)


def changed(action: str, path: str) -> Denied:
    """What lies at the path is not what was authorised."""
    why = "what it names was changed after it was allowed (a symlink took the place of a file or a folder?)"
    return Denied(action, path, why, "look who changes it, then try again")


@contextmanager
def in_words(path: str) -> Iterator[None]:
    try:
        yield
    except Denied:
        raise
    except OSError as error:
        if error.filename == path:
            raise
        raise trouble(error.errno or 0, path) from None


@contextmanager
def folder(action: str, path: str) -> Iterator[int]:
    """A handle on the folder at this real path, to open and rename things in. Raises Denied if the path names
    something else by now, or an OSError that says what is wrong."""
    handle = os.open("/", _FOLDER)
    try:
        for name in filter(None, path.split("/")):
            try:
                below = os.open(name, _FOLDER, dir_fd=handle)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP) and is_link(handle, name):
                    raise changed(action, path) from None
                raise trouble(error.errno or 0, path) from None
            os.close(handle)
            handle = below
        check(action, handle, path)
        yield handle
    finally:
        os.close(handle)


def path_of(handle: int, path: str) -> str:
    """A path that leads to what is open, for those who take no handles; where there is none, the one it was opened
    by."""
    return f"/proc/self/fd/{handle}" if _PROC else path


@contextmanager
def listing(path: str) -> Iterator[int]:
    """The folder at this real path, to see what is in it."""
    with folder("file.read", path) as handle, in_words(path):
        opened = os.open(".", LISTED, dir_fd=handle)
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def entry(action: str, path: str) -> Iterator[tuple[int, str]]:
    """A handle on the folder that something lies in, and its name there."""
    place, _, name = path.rpartition("/")
    if not name:
        raise trouble(errno.EISDIR, path)
    with folder(action, place or "/") as handle:
        yield handle, name


def is_link(handle: int, name: str) -> bool:
    """Whether a name in an open folder is a symlink."""
    found = look(handle, name)
    return found is not None and stat.S_ISLNK(found.st_mode)


def look(handle: int, name: str) -> os.stat_result | None:
    """What a name in an open folder is, itself; None if there is nothing."""
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return None


def check(action: str, handle: int, path: str) -> None:
    """Raise Denied unless the kernel says that what is open lies at this path."""
    _must_be(_called(handle), action, path)


def _called(handle: int) -> str | None:
    """The path that the kernel knows for what is open; None where it does not tell."""
    if not _PROC:
        return None
    try:
        return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
    except FileNotFoundError:
        return None  # no /proc here: that nothing was followed must do


def _must_be(found: str | None, action: str, path: str) -> None:
    if found == f"{path} (deleted)":
        raise trouble(errno.ENOENT, path)
    if found is not None and found != path:
        raise changed(action, path)


def there(path: str) -> bool:
    """Whether there is anything at this real path that a file was moved to."""
    with entry("file.write", path) as (place, name):
        return look(place, name) is not None


@contextmanager
def inode(action: str, path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A handle on what lies at this real path, and what it is. Nothing happens to it: no device begins to work."""
    handle = _current(action, path)
    try:
        info = os.fstat(handle)
        if stat.S_ISLNK(info.st_mode):
            raise changed(action, path)
        yield handle, info
    finally:
        os.close(handle)


def _current(action: str, path: str) -> int:
    """A handle on what lies at the path now: on its successor, if it is replaced in this moment."""
    passing = f"{path.rpartition('/')[0]}/{_PASSING}"
    with entry(action, path) as (place, name), in_words(path):
        for left in reversed(range(_TRIES)):
            if is_link(place, name):
                raise changed(action, path)
            handle = os.open(name, _HANDLE | os.O_NONBLOCK, dir_fd=place)
            found = _called(handle)
            if left and found is not None and (found == f"{path} (deleted)" or found.startswith(passing)):
                os.close(handle)
                continue
            break
        try:
            _must_be(found, action, path)
        except BaseException:
            os.close(handle)
            raise
        return handle


def plain(info: os.stat_result, path: str) -> None:
    """Raise an OSError unless it is a file with content: no folder, pipe, socket or device."""
    if stat.S_ISDIR(info.st_mode):
        raise trouble(errno.EISDIR, path)
    if not stat.S_ISREG(info.st_mode):
        raise trouble(errno.EINVAL, path, "it is a pipe, a socket or a device, not a file")


@contextmanager
def reading(path: str) -> Iterator[BinaryIO]:
    """The file at this real path, to be read. Raises Denied, or an OSError that says what is wrong."""
    with inode("file.read", path) as (handle, info):
        plain(info, path)
        with in_words(path):
            file = _reopen(handle, os.O_RDONLY, "rb")
    with file:
        yield file


def _reopen(handle: int, flags: int, mode: str) -> BinaryIO:
    """The very thing that is open, with other rights to it."""
    # where there is no /proc, there is no handle either that can't be read
    again = os.open(f"/proc/self/fd/{handle}", flags | os.O_CLOEXEC) if _PROC else os.dup(handle)
    return os.fdopen(again, mode)  # type: ignore[return-value]


# --- writing --------------------------------------------------------------------------------------------------------


def replace(path: str, fill: Callable[[BinaryIO], object], mode: int | None = None) -> None:
    """Put a new file at this real path, filled by `fill`; other hard links of an old one keep what they had. Durable
    on return. `mode`: its permissions (default: those of the old one). Raises Denied, or an OSError in words."""
    with entry("file.write", path) as (place, name), in_words(path):
        old = look(place, name)
        if old is not None:
            if stat.S_ISLNK(old.st_mode):
                raise changed("file.write", path)
            plain(old, path)
        with beside(place) as new:
            fill(new.file)
            new.finish(old, mode)
            check("file.write", place, path.rpartition("/")[0] or "/")
            os.rename(new.named(), name, src_dir_fd=place, dst_dir_fd=place)
        settle(place)


def _take_after(handle: int, old: os.stat_result) -> None:
    """Permissions and owner of the file before, as far as this user may give them."""
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode) & 0o777)


class New:
    """A new file in an open folder, without a name there if the file system can."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.passing = f"{_PASSING}{secrets.token_hex(8)}"
        """Its name until it has the right one."""
        self._unnamed = _unnamed(place)
        self.file = self._unnamed or _named(place, self.passing)

    def named(self) -> str:
        """Its passing name, which it has now at the latest."""
        if self._unnamed is not None:
            try:
                source = f"/proc/self/fd/{self.file.fileno()}"
                os.link(source, self.passing, dst_dir_fd=self.place, follow_symlinks=True)
            except OSError:  # not every file system lets it have a name later
                _copied(self._unnamed, self.place, self.passing)
        return self.passing

    def finish(self, old: os.stat_result | None, mode: int | None = None) -> None:
        """Give it the permissions of the one before, or these; its content is durable on return."""
        self.file.flush()
        if old is not None:
            _take_after(self.file.fileno(), old)
        if mode is not None:
            os.fchmod(self.file.fileno(), mode)
        os.fsync(self.file.fileno())


@contextmanager
def beside(place: int) -> Iterator[New]:
    """A new file in an open folder, to be given a name there; nothing is left of it if that fails."""
    new = New(place)
    try:
        with new.file:
            yield new
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new.passing, dir_fd=place)
        raise


def _named(place: int, name: str) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(name, flags, 0o666, dir_fd=place), "w+b")


def _copied(file: BinaryIO, place: int, name: str) -> None:
    file.seek(0)
    with _named(place, name) as new:
        shutil.copyfileobj(file, new, 1 << 20)
        new.flush()
        os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        os.fsync(new.fileno())


def _unnamed(place: int) -> BinaryIO | None:
    if not (_UNNAMED and _PROC):
        return None
    try:
        return os.fdopen(os.open(".", _UNNAMED | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=place), "w+b")
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None
        raise


def settle(place: int) -> None:
    """Make the names in an open folder durable."""
    with contextlib.suppress(PermissionError):
        handle = os.open(".", LISTED, dir_fd=place)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def append(path: str, data: bytes) -> None:
    """Add to the end of the file at this real path, or begin it. Durable on return."""
    with entry("file.write", path) as (place, name), in_words(path):
        if look(place, name) is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, 0o666, dir_fd=place), "wb") as begun:
                _write_out(begun, data)
            settle(place)
            return
    with inode("file.write", path) as (handle, info), in_words(path):
        plain(info, path)
        if info.st_nlink == 1:
            with _reopen(handle, os.O_WRONLY | os.O_APPEND, "ab") as file:
                _write_out(file, data)
            return
        with _reopen(handle, os.O_RDONLY, "rb") as file:  # its other names keep what they had
            before = file.read()
    replace(path, lambda file: file.write(before + data))


def _write_out(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def remove(path: str) -> None:
    """Remove the name at this path: of a file, a symlink, or an empty folder. Nothing there is fine."""
    with contextlib.suppress(FileNotFoundError), entry("file.delete", path) as (place, name), in_words(path):
        found = look(place, name)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=place)
        else:
            os.unlink(name, dir_fd=place)
        settle(place)


def move(source: str, target: str) -> None:
    """Give the file at one real path another. Raises Denied, or an OSError in words."""
    with inode("file.read", source) as (_, info):
        plain(info, source)
        with entry("file.delete", source) as (place, name), entry("file.write", target) as (there, new):
            old = look(there, new)
            if old is not None:
                if stat.S_ISLNK(old.st_mode):
                    raise changed("file.write", target)
                plain(old, target)
            try:
                os.rename(name, new, src_dir_fd=place, dst_dir_fd=there)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise trouble(error.errno or 0, target) from None
            else:
                moved = look(there, new)
                if moved is None or (moved.st_dev, moved.st_ino) != (info.st_dev, info.st_ino):
                    os.rename(new, name, src_dir_fd=there, dst_dir_fd=place)
                    raise changed("file.read", source)
                settle(there)
                settle(place)
                return
        copy(source, target)  # to another file system
        remove(source)


def copy(source: str, target: str) -> None:
    """Put the content and the permissions of one file at another real path."""
    with reading(source) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777
        replace(target, lambda new: shutil.copyfileobj(file, new, 1 << 20), mode)

"""A job's own copy of the workspace, and what it changed there: paths with digests, to take or to drop.

Nothing here follows a symbolic link: folders are opened one below the other, so that a link put in the way of a copy,
or of what is carried back, leads nowhere. What is no file, folder or link (a device, a socket, a pipe) is neither
copied nor carried back."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from weft.core.errors import BadInput, ChangedMeanwhile
from weft.runtime.sandbox.scratch import remove

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Kind = Literal["added", "changed", "removed"]


@dataclass(frozen=True)
class Change:
    """One path of the workspace that a job changed. `before`, `after`: SHA-256 of the content (of a link: of its
    target), None where there is none: a folder, or nothing. `size`: bytes afterwards."""

    path: Path
    kind: Kind
    before: str | None = None
    after: str | None = None
    size: int = 0


class Name(NamedTuple):
    """A name in an open folder."""

    folder: int
    name: str


class Seen(NamedTuple):
    """What identifies a file's state without reading it."""

    mode: int
    size: int
    time: int
    inode: int


def opened(path: Path) -> int:
    """A descriptor of the place that this real path names, to go on with whatever becomes of the path.

    Raises BadInput if a link was put into the path since it was resolved.
    """
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    link = stat.S_ISLNK(os.fstat(handle).st_mode)
    if link or Path(f"/proc/self/fd/{handle}").readlink() != path:
        os.close(handle)
        raise BadInput(f"{path} is another place by now: a link was put into the path")
    return handle


@dataclass
class Copy:
    """One copied place: `source` in the workspace, `target` in the scratch folder. What `hides` says is left out."""

    source: Path
    target: Path
    hides: Callable[[Path], bool] = lambda path: False
    originals: dict[str, Seen] = field(default_factory=dict)
    copied: dict[str, Seen] = field(default_factory=dict)

    def make(self, owner: int | None = None) -> None:
        """Copy; the copy is `owner`'s (a user id), if one is given."""
        above, beside = opened(self.source.parent), os.open(self.target.parent, _FOLDER)
        try:
            found = os.stat(self.source.name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                raise OSError(errno.ELOOP, "a link was put into the path", str(self.source))
            if stat.S_ISDIR(found.st_mode):
                self._folder(Name(above, self.source.name), Name(beside, self.target.name), "", owner)
            else:
                self._file(Name(above, self.source.name), Name(beside, self.target.name), "", found, owner)
        finally:
            os.close(above)
            os.close(beside)

    def _folder(self, source: Name, target: Name, path: str, owner: int | None) -> None:
        handle = os.open(source.name, _FOLDER, dir_fd=source.folder)
        try:
            os.mkdir(target.name, 0o700, dir_fd=target.folder)
            place = os.open(target.name, _FOLDER, dir_fd=target.folder)
            try:
                for name, found in _entries(handle):
                    inner = f"{path}/{name}" if path else name
                    if self.hides(self.source / inner):
                        continue
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it is another by now
                        if stat.S_ISDIR(found.st_mode):
                            self._folder(Name(handle, name), Name(place, name), inner, owner)
                        else:
                            self._file(Name(handle, name), Name(place, name), inner, found, owner)
                there = os.fstat(handle)
                _give(place, owner, stat.S_IMODE(there.st_mode) | 0o700)
                if path:
                    self._note(path, there, os.fstat(place))
            finally:
                os.close(place)
        finally:
            os.close(handle)

    def _file(self, source: Name, target: Name, path: str, found: os.stat_result, owner: int | None) -> None:
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(source.name, dir_fd=source.folder), target.name, dir_fd=target.folder)
            if owner is not None:
                os.chown(target.name, owner, owner, dir_fd=target.folder, follow_symlinks=False)
            self._note(path, found, os.stat(target.name, dir_fd=target.folder, follow_symlinks=False))
        elif stat.S_ISREG(found.st_mode):
            content = os.open(source.name, _FILE, dir_fd=source.folder)
            try:
                copy = os.open(target.name, _NEW, 0o600, dir_fd=target.folder)
                try:
                    _pour(content, copy)
                    found = os.fstat(content)
                    _give(copy, owner, stat.S_IMODE(found.st_mode) & 0o777 | 0o200)
                    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
                    self._note(path, found, os.fstat(copy))
                finally:
                    os.close(copy)
            finally:
                os.close(content)

    def _note(self, path: str, original: os.stat_result, copy: os.stat_result) -> None:
        self.originals[path], self.copied[path] = _seen(original), _seen(copy)

    def changes(self) -> Iterator[Change]:
        now = dict(_walk(self.target))
        for path in sorted(self.copied.keys() | now.keys()):
            was, there = self.copied.get(path), now.get(path)
            if was == there or (was and there and stat.S_ISDIR(was.mode) and stat.S_ISDIR(there.mode)):
                continue
            before = digest(self.source / path) if was else None
            after = digest(self.target / path) if there else None
            if was and there and before == after and stat.S_IMODE(was.mode) == stat.S_IMODE(there.mode):
                continue  # written again with what it held
            kind: Kind = "added" if was is None else "removed" if there is None else "changed"
            yield Change(self.source / path, kind, before, after, there.size if there else 0)

    def moved(self, path: Path) -> bool:
        """Whether the workspace has another state there than the one that was copied."""
        name = "" if path == self.source else str(path.relative_to(self.source))
        try:
            now = _seen(path.lstat())
        except (FileNotFoundError, NotADirectoryError):
            return name in self.originals
        except OSError:
            return True
        was = self.originals.get(name)
        if was is None or not (stat.S_ISDIR(now.mode) and stat.S_ISDIR(was.mode)):
            return now != was
        goes = not (self.target / name).is_dir() or (self.target / name).is_symlink()
        return goes and any(f"{name}/{inner}" not in self.originals for inner, _ in _walk(path))


def _pour(content: int, copy: int) -> None:
    """All of a file into an empty one: shared between the two until one is changed, where the file system can."""
    with contextlib.suppress(OSError):
        while os.copy_file_range(content, copy, 1 << 30):
            pass
    while data := memoryview(os.read(content, 1 << 20)):
        while data:
            data = data[os.write(copy, data) :]


def _give(copy: int, owner: int | None, mode: int) -> None:
    if owner is not None:
        os.fchown(copy, owner, owner)
    os.fchmod(copy, mode)


def _entries(handle: int) -> list[tuple[str, os.stat_result]]:
    with os.scandir(handle) as entries:
        return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]


def _seen(found: os.stat_result) -> Seen:
    return Seen(found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino)


def _walk(top: Path) -> Iterator[tuple[str, Seen]]:
    """Everything below, by relative path; of a single file, itself."""
    if not top.is_dir() or top.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            yield "", _seen(top.lstat())
        return
    left = [""]
    while left:
        name = left.pop()
        with os.scandir(top / name) as entries:
            for entry in entries:
                path = f"{name}/{entry.name}" if name else entry.name
                found = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    left.append(path)
                if stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
                    yield path, _seen(found)


def digest(path: Path) -> str | None:
    """SHA-256 of a file's content or a link's target; None for a folder and for what can't be read."""
    try:
        kind = path.lstat()
        if stat.S_ISLNK(kind.st_mode):
            return hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
        if not stat.S_ISREG(kind.st_mode):
            return None
        with os.fdopen(os.open(path, _FILE), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


@dataclass
class Copies:
    """All copies of a job and what it changed in them."""

    made: list[Copy] = field(default_factory=list)
    scratch: Path | None = None
    changes: tuple[Change, ...] = ()
    broken: str = ""
    """Why the changes can't be told: paths too long to be named, folders that can't be read."""

    def compare(self) -> None:
        """Find the changes; the job has ended."""
        try:
            self.changes = tuple(change for copy in self.made for change in copy.changes())
        except OSError as error:
            self.broken = f"{error.strerror}: {os.fsdecode(error.filename or '')[-100:]}"

    def take(self, *paths: Path | str) -> None:
        if self.made and self.scratch is None:
            raise BadInput("the changes were dropped already")
        if self.broken:
            raise BadInput(f"what the job did to its copy can't be carried over: {self.broken}")
        wanted = {Path(path) for path in paths} or {change.path for change in self.changes}
        if unknown := wanted - {change.path for change in self.changes}:
            raise BadInput(f"not among the changes: {', '.join(sorted(map(str, unknown)))}")
        chosen = [change for change in self.changes if change.path in wanted]
        for change in chosen:
            if self._copy(change).moved(change.path):
                raise ChangedMeanwhile(str(change.path))
        for change in sorted((c for c in chosen if c.kind == "removed"), key=lambda c: len(c.path.parts), reverse=True):
            _delete(self._copy(change), change.path)
        for change in chosen:  # sorted: a folder comes before what is in it
            if change.kind != "removed":
                _carry(self._copy(change), change.path)

    def _copy(self, change: Change) -> Copy:
        return next(copy for copy in self.made if change.path.is_relative_to(copy.source))

    def drop(self) -> None:
        if self.scratch is not None:
            remove(self.scratch)
            self.scratch = None


@contextlib.contextmanager
def _parent(copy: Copy, path: Path, make: bool = False) -> Iterator[int]:
    """The folder that holds `path`, opened link by link from the copied place's parent."""
    top = copy.source if path != copy.source else copy.source.parent
    place = opened(top)
    handle = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(place)
    try:
        for name in path.relative_to(top).parts[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=handle)
            inner = os.open(name, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _delete(copy: Copy, path: Path) -> None:
    with _parent(copy, path) as folder, contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            with contextlib.suppress(OSError):  # something was put there that is not the job's to remove
                os.rmdir(path.name, dir_fd=folder)
        else:
            os.unlink(path.name, dir_fd=folder)


def _make_way(folder: int, name: str, for_folder: bool) -> None:
    """Where a folder takes the place of something else, or that of an emptied folder, what was there goes first."""
    with contextlib.suppress(FileNotFoundError):
        there = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if there and not for_folder:
            os.rmdir(name, dir_fd=folder)
        elif for_folder and not there:
            os.unlink(name, dir_fd=folder)


def _carry(copy: Copy, path: Path) -> None:
    """One file, link or folder from the copy to its place, at once: by a rename."""
    source = copy.target if path == copy.source else copy.target / path.relative_to(copy.source)
    kind = source.lstat()
    with _parent(copy, path, make=True) as folder:
        _make_way(folder, path.name, stat.S_ISDIR(kind.st_mode))
        if stat.S_ISDIR(kind.st_mode):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path.name, dir_fd=folder)
            return
        fresh = f".{path.name[:200]}.weft-new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)
        if stat.S_ISLNK(kind.st_mode):
            os.symlink(source.readlink(), fresh, dir_fd=folder)
        else:
            mode = stat.S_IMODE(kind.st_mode) & 0o777
            handle = os.open(fresh, _NEW, mode, dir_fd=folder)
            with os.fdopen(handle, "wb") as target, os.fdopen(os.open(source, _FILE), "rb") as content:
                shutil.copyfileobj(content, target, 1 << 20)
        os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)

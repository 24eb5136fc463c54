"""Who is alive: each runtime holds a kernel lock on a file of its name, and the kernel frees it at death.

The files lie in `<journal>.owners/`. They are created and swept only while the caller holds the journal's
write lock, so nobody removes a file that another process has just made; asking takes a shared lock, so that
two who ask at once do not take each other for the owner.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

from weft.core.errors import BadInput, StoreError

_all: weakref.WeakSet[Owners] = weakref.WeakSet()


class Owners:
    """The owners of one journal, as one store sees them. Methods raise `OSError` where the disk refuses."""

    def __init__(self, journal: Path) -> None:
        self.folder = journal.with_name(journal.name + ".owners")
        self._held: dict[str, int] = {}
        _all.add(self)

    def hold(self, owner: str, programs: Iterable[str] = ()) -> None:
        """Make `owner` alive until `release` or death, and say which `programs` (`name@version`) it can execute.
        Hold the journal's write lock. Raises `StoreError`."""
        import fcntl

        if owner in self._held:
            self._write(self._held[owner], programs)
            return
        path = self._file(owner)
        for _ in range(100):
            self.folder.mkdir(exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # a closing store removed the empty folder
                continue
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    self._write(descriptor, programs)
                    self._held[owner] = descriptor
                    return
            os.close(descriptor)
            time.sleep(0.001)  # somebody asks about this name at the moment
        raise StoreError(f"a runtime named {owner!r} is already at work on {self.folder}; give this one another name")

    def programs(self) -> set[str]:
        """What the living can execute."""
        found: set[str] = set()
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # it closes at this moment
                if self.alive(path.name):
                    found.update(path.read_text().splitlines()[1:])
        return found

    def alive(self, owner: str) -> bool:
        return owner in self._held or _locked(self._file(owner))

    def sweep(self) -> None:
        """Remove the files of the dead. Hold the journal's write lock."""
        for path in self._files():
            if path.name not in self._held and not _locked(path):
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """The owners held here are dead from now on."""
        for owner, descriptor in self._held.items():
            self._file(owner).unlink(missing_ok=True)
            os.close(descriptor)
        self._held.clear()
        with contextlib.suppress(OSError):  # not empty: others are at work; or never made
            self.folder.rmdir()

    @property
    def held(self) -> list[str]:
        """Those that are alive by this store."""
        return list(self._held)

    def _write(self, descriptor: int, programs: Iterable[str]) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, "\n".join([str(os.getpid()), *programs, ""]).encode(), 0)

    def _files(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):  # a closing store removes the empty folder
            return list(self.folder.iterdir())
        return []

    def _file(self, owner: str) -> Path:
        if not owner or owner.startswith(".") or "/" in owner or "\0" in owner:
            raise BadInput(f"{owner!r} can not name a runtime; use letters, digits, dots and dashes")
        return self.folder / owner


def _locked(path: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _forget() -> None:
    """A forked child shares its parent's locks and would keep a dead parent alive: it lets go of them."""
    for owners in _all:
        for descriptor in owners._held.values():
            os.close(descriptor)
        owners._held.clear()


os.register_at_fork(after_in_child=_forget)

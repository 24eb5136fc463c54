"""Where jobs leave things while they run: one folder for each Weft process, one in it for each job.

    /tmp/weft-sandbox-0/          of one user
        4711-98765-3fa9/          of one Weft process: its id, the time it started, chance; `owner` is locked by it
            job-a1b2c3/           of one job: in/ (its program), tmp/ (its /tmp), copy/, processes
            out/                  outputs too long for memory

The folder of a process that is gone, killed or not, is removed by the next Weft that starts (`reap`), and with it what
is left of its jobs' processes. A folder belongs to a dead process only if nobody holds the lock on `owner`, which the
kernel lets go when its process ends."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from weft.core.errors import SandboxMissing

_lock = threading.Lock()
_mine: Path | None = None
_owner: int = -1


def base() -> Path:
    """The folder of all Weft processes of this user."""
    return Path(tempfile.gettempdir()) / f"weft-sandbox-{os.geteuid()}"


def home() -> Path:
    """This process's folder: made when first asked for, after those of dead processes were removed."""
    global _mine, _owner
    with _lock:
        if _mine is None or not _mine.name.startswith(f"{os.getpid()}-"):
            top = _own(base())
            reap()
            _mine = top / f"{os.getpid()}-{started(os.getpid())}-{secrets.token_hex(4)}"
            _passable(_mine)
            _owner = os.open(_mine / "owner.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(_owner, fcntl.LOCK_EX)
            (_mine / "owner.new").rename(_mine / "owner")  # locked from the moment that it is there
            (_mine / "out").mkdir(mode=0o700)
            atexit.register(_leave, _mine, os.getpid())
        return _mine


def _passable(place: Path) -> None:
    """A new folder. Others may come through it, as a job that runs as another user does, and see nothing in it."""
    place.mkdir(mode=0o700)
    place.chmod(0o711)


def _own(top: Path) -> Path:
    """That folder, made if need be, if nobody else may change it."""
    with contextlib.suppress(FileExistsError):
        _passable(top)
    there = top.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o022:
        raise SandboxMissing(f"{top} is not a folder that only this user can change: remove it, or set TMPDIR")
    return top


def _leave(place: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a fork of it
        remove(place)


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none. With its id it names it for good."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


class Scratch:
    """The folder of one job."""

    def __init__(self) -> None:
        self.path = home() / f"job-{secrets.token_hex(6)}"
        _passable(self.path)
        for name, mode in (("in", 0o755), ("tmp", 0o700)):
            (self.path / name).mkdir()
            (self.path / name).chmod(mode)

    @classmethod
    @contextlib.contextmanager
    def begun(cls) -> Iterator[Scratch]:
        """One that a job is being started in; removed if that fails."""
        scratch = cls()
        try:
            yield scratch
        except BaseException:
            scratch.remove()
            raise

    @property
    def inside(self) -> Path:
        return self.path / "in"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    def output(self, name: str) -> Path:
        return self.path.parent / "out" / f"{self.path.name}-{name}"

    @property
    def notes(self) -> Path:
        return self.path / "processes"

    def note(self, line: str) -> None:
        """Write down what must not outlive this Weft: "PID START", a process with its group, "user ID", all of a
        job's user, or "mark TEXT", all that have it in their environment."""
        with self.notes.open("a") as file:
            file.write(f"{line}\n")

    def remove(self) -> None:
        remove(self.path)


def remove(place: Path) -> None:
    """A folder and all in it, however deep, however many, whatever its permissions say. Never follows a link."""
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        if not place.exists():
            return
    except (OSError, RecursionError):
        pass
    else:
        return
    subprocess.run(["chmod", "-R", "u+rwx", "--", str(place)], stderr=subprocess.DEVNULL, check=False)
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(place)], stderr=subprocess.DEVNULL, check=False)


def reap() -> list[Path]:
    """Remove what dead Weft processes of this user left, processes and folders; the folders' names."""
    found = []
    for place in sorted(base().glob("*-*-*")) if base().is_dir() else []:
        pid, start = place.name.split("-")[:2]
        if place.is_symlink() or not (pid.isdecimal() and start.isdecimal()):
            continue  # not of this house
        if _held(place / "owner") or (not (place / "owner").exists() and started(int(pid)) == int(start)):
            continue  # it lives
        for notes in place.glob("job-*/processes"):
            end_noted(notes)
        remove(place)
        found.append(place)
    return found


def _held(owner: Path) -> bool:
    try:
        with owner.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def end_noted(notes: Path) -> None:
    """End what is written there, as far as it still runs."""
    for line in notes.read_text().splitlines() if notes.exists() else []:
        word, number = line.split()
        if word == "user":
            _end_all(lambda place, user=int(number): place.stat().st_uid == user)  # type: ignore[misc]
        elif word == "mark":
            _end_all(lambda place, mark=number.encode(): mark in (place / "environ").read_bytes())  # type: ignore[misc]
        elif number != "0" and started(int(word)) == int(number):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(word), signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(word), signal.SIGKILL)


def _end_all(theirs: Callable[[Path], bool]) -> None:
    """All processes that are, by their folder in /proc; again until none has come in the meantime."""
    while found := [int(place.name) for place in Path("/proc").iterdir() if _lives(place, theirs)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _lives(place: Path, theirs: Callable[[Path], bool]) -> bool:
    try:
        if not place.name.isdecimal() or not theirs(place):
            return False
        return (place / "stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False

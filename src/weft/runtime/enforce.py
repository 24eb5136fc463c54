"""Watching steps: what a step does to files, the network and other programs is checked when it does it.

An audit hook of the interpreter sees each such act, in the thread and context of the step that makes it, in threads
that the step starts, and in what it hands to an executor. It is a guard rail for code that its user wrote: it tells a
mistake or a misled program from what was allowed. Code that sets out to get around it can: by ctypes, by a library
that opens files in C (sqlite's ATTACH, an Arrow reader), by a file that was open before. Such code belongs in a
sandbox. Not seen at all: what a program does that the step starts (running it is what is allowed), and steps on Ray,
which run in other interpreters: of those only `needs` counts.

What the interpreter itself needs (imports, tracebacks, time zones, certificates) passes.
"""

from __future__ import annotations

import functools
import importlib
import linecache
import os
import shlex
import socket
import sys
import threading
import tokenize
import zipimport
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from weft.core.capability import Capability, Request, render
from weft.core.crossing import executing
from weft.core.pattern.text import escape
from weft.runtime.acts import EVENTS, LOOK_UP, Act, opening, remember
from weft.runtime.midway import looked_up

__all__ = ["EVENTS", "executing", "prepare", "watch"]


class _Busy(threading.local):
    """`deciding`: the hook itself is at work in this thread."""

    deciding = False


_busy = _Busy()


def watch(event: str, args: tuple[Any, ...]) -> None:
    """For the interpreter's audit hook, which hands on every event of EVENTS outside a body. Raises Denied."""
    execution = executing.get()
    if execution is None or not execution.watched or _busy.deciding:
        return
    _busy.deciding = True
    try:
        caller = _caller()
        acts = [act for act in EVENTS[event](*args) if not _needed(act, caller)]
        asked: list[Request] = []
        for action, resource, _ in acts:
            asked += looked_up(execution, resource) if action == LOOK_UP else [Request(action, resource)]
        if asked:
            execution.touch(asked, _hint(asked[0], caller, execution.workspace))
    finally:
        _busy.deciding = False


_OURS = frozenset({__name__, "weft.runtime.guard", "weft.runtime.acts"})


def _caller() -> FrameType | None:
    """Who caused the event."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    return frame


def _hint(asked: Request, caller: FrameType | None, workspace: str) -> str:
    """What to allow where the very thing has another name each time."""
    module = "" if caller is None else caller.f_globals.get("__name__")
    if module == "tempfile":
        folder = escape(asked.resource.rpartition("/")[0] or "/")
        spec = render(Capability(actions=_FILES_ALL, patterns=(folder,)), workspace)
    elif module == "multiprocessing.util":
        spec = f"shell:{sys.executable} **"
    else:
        return ""
    return f"allow it with: --allow {shlex.quote(spec)}"


_FILES_ALL = ("file.read", "file.write", "file.delete")


# --- what the interpreter needs -------------------------------------------------------------------------------------


def _folders() -> tuple[str, ...]:
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__)}
    places |= {folder for folder in sys.path if os.path.basename(folder) in ("site-packages", "dist-packages")}
    places.add(os.path.dirname(os.path.dirname(__file__)))  # Weft itself, which may lie in a checkout
    places |= {"/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/usr/share", "/etc/zoneinfo"}
    places |= {"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates"}
    places |= {"/sys/fs/cgroup", "/sys/devices/system", "/proc/sys"}
    real = {os.path.realpath(place) for place in places} - {os.sep}
    return tuple(sorted(place + os.sep for place in real))


_FOLDERS = _folders()
_FILES = frozenset(
    {
        *("/etc/localtime", "/etc/timezone", "/etc/os-release", "/etc/mime.types", "/etc/apache2/mime.types"),
        *("/etc/httpd/mime.types", "/etc/httpd/conf/mime.types", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf"),
        *("/dev/urandom", "/dev/random", "/dev/zero", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg"),
        *("/proc/self/stat", "/proc/self/status", "/proc/self/cgroup", "/proc/self/maps", "/proc/self/mountinfo"),
    }
)
_IMPORTERS = (vars(sys.modules["importlib._bootstrap_external"]), vars(zipimport))
_CODE = (".py", ".pyw", ".pyi", ".pyc", ".so", ".pyd")


def _needed(act: Act, caller: FrameType | None) -> bool:
    if not act.action.startswith("file.") or caller is None:
        return False
    if act.resource == os.devnull:
        return True
    module = caller.f_globals.get("__name__")
    if module == "tempfile" and caller.f_code.co_name == "_get_default_tempdir":
        return True  # it tries once for all which folder it can write to
    if act.action == "file.read":
        known = act.said in _FILES or act.resource in _FILES or f"{act.resource}/".startswith(_FOLDERS)
        return known or _reads_code(act, caller)
    return any(caller.f_globals is importer for importer in _IMPORTERS) and "/__pycache__" in act.resource


def _reads_code(act: Act, caller: FrameType) -> bool:
    """Whether this is the import system at work, or a traceback being written."""
    if any(caller.f_globals is importer for importer in _IMPORTERS):
        code = act.resource.endswith(_CODE) or "/__pycache__" in act.resource
        return code or act.said in sys.path or os.path.isdir(act.resource)
    if caller.f_globals.get("__name__") == "importlib.metadata":
        return os.path.isdir(act.resource)  # it looks for packages along the path
    before = caller.f_back
    traceback = caller.f_globals is vars(tokenize) and before is not None and before.f_globals is vars(linecache)
    return traceback and act.resource.endswith(_CODE)


# --- what the events do not tell ------------------------------------------------------------------------------------


def prepare() -> None:
    """Once per interpreter: note which names lead to which addresses, which folder a path starts from, and which step
    a thread works for."""
    if not hasattr(socket.getaddrinfo, "__weft__"):
        socket.getaddrinfo = _marked(_getaddrinfo, socket.getaddrinfo)
        os.open = _marked(_os_open, os.open)
        os.supports_dir_fd.add(os.open)  # `shutil` looks there
        threading.Thread.start = _marked(_start, threading.Thread.start)  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = _marked(_submit, ThreadPoolExecutor.submit)  # type: ignore[method-assign]
        _watch_multiprocessing()


def _marked(make: Callable[[Any], Any], real: Any) -> Any:
    found: Any = functools.wraps(real)(make(real))
    found.__weft__ = real
    return found


def _getaddrinfo(real: Any) -> Any:
    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(host, port, *args, **kwargs)
        if host:
            remember(host, found)
        return found

    return getaddrinfo


def _os_open(real: Any) -> Any:
    def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:
        if dir_fd is None:
            return real(path, flags, mode)
        outer, opening.folder = opening.folder, dir_fd
        try:
            return real(path, flags, mode, dir_fd=dir_fd)
        finally:
            opening.folder = outer

    return open


def _start(real: Any) -> Any:
    def start(thread: threading.Thread) -> None:
        execution = executing.get()
        if execution is not None and execution.watched:
            thread.run = functools.partial(_carried, execution, thread.run)  # type: ignore[method-assign]
        real(thread)

    return start


def _submit(real: Any) -> Any:
    def submit(pool: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        execution = executing.get()
        if execution is None or not execution.watched:
            return real(pool, fn, *args, **kwargs)
        token = executing.set(None)  # a thread of the pool works for others, too
        try:
            return real(pool, functools.partial(_carried, execution, fn), *args, **kwargs)
        finally:
            executing.reset(token)

    return submit


def _carried(execution: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    token = executing.set(execution)
    try:
        return fn(*args, **kwargs)
    finally:
        executing.reset(token)


def _watch_multiprocessing() -> None:
    """It starts interpreters by a door that has no event."""
    try:
        module: Any = importlib.import_module("_posixsubprocess")
    except ImportError:
        return
    real = module.fork_exec

    def fork_exec(args: Sequence[Any], executables: Sequence[Any], *more: Any) -> Any:
        watch("subprocess.Popen", (executables[0], args, None, None))
        return real(args, executables, *more)

    module.fork_exec = fork_exec

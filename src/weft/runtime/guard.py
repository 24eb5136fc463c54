"""Catching what a body must not do: read the clock, draw at random, touch the outside world.

Three nets. Functions of Python's `time`, `random`, `uuid`, `secrets` and `os` are replaced by wrappers that refuse
while a body is running in their thread; an audit hook refuses files, sockets, processes and sleeps; and before a
workflow first runs, `weft.runtime.scan` reads its bytecode for what can't be replaced (`datetime.now`, and names
bound before the wrappers came). Calls made by the machinery a body needs (imports, logging, asyncio, tracebacks)
pass.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from types import FrameType
from typing import Any

from weft.core.errors import Nondeterminism
from weft.runtime.enforce import EVENTS, prepare, watch


class _Inside(threading.local):
    """`body`: the process whose body is running in this thread; set by its loop."""

    body: object | None = None


inside = _Inside()

CLOCK = "weft.now()"
SLEEP = "await weft.sleep()"
CHANCE = "weft.random()"
UUID = "weft.uuid()"
STEP = "a @weft.step that does it"

_PATCHES: tuple[tuple[Any, tuple[str, ...], str], ...] = (
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"), CLOCK),
    (time, ("sleep",), SLEEP),
    (
        random,
        tuple(n for n in random.__all__ if n[0].islower() and callable(getattr(random, n)) and n != "getstate"),
        CHANCE,
    ),
    (uuid, ("uuid1", "uuid4"), UUID),
    (os, ("urandom", "getrandom"), CHANCE),
)

_EVENTS = {
    "open": "open()",
    "time.sleep": "time.sleep()",
    "subprocess.Popen": "a subprocess",
    "sqlite3.connect": "sqlite3.connect()",
    "urllib.Request": "a web request",
    "socket.connect": "a socket",
    "socket.bind": "a socket",
    "socket.sendto": "a socket",
    "socket.getaddrinfo": "a name look-up",
    "socket.gethostbyname": "a name look-up",
    "shutil.rmtree": "shutil.rmtree()",
    "shutil.move": "shutil.move()",
    "shutil.copyfile": "shutil.copyfile()",
    "tempfile.mkstemp": "tempfile",
    "tempfile.mkdtemp": "tempfile",
    **{
        f"os.{name}": f"os.{name}()"
        for name in (
            *("system", "exec", "fork", "forkpty", "posix_spawn", "spawn", "startfile", "kill", "chdir"),
            *("listdir", "scandir", "mkdir", "rmdir", "remove", "rename", "link", "symlink", "truncate"),
            *("chmod", "chown", "utime", "putenv", "unsetenv"),
        )
    },
}

_EXEMPT = frozenset(
    (
        *("logging", "asyncio", "weft", "importlib", "linecache", "traceback", "tokenize", "warnings", "threading"),
        *("concurrent", "contextlib", "typing", "zipimport", "encodings", "codecs", "abc", "dataclasses", "inspect"),
        *("msgspec", "selectors", "pdb", "bdb", "_pytest", "pluggy", "hypothesis", "coverage"),
    )
)
"""Top-level modules whose calls pass: what a body needs to run, to warn and to be debugged."""


@contextmanager
def exempt() -> Generator[None]:
    """Let this thread do anything for a while (for Weft's own needs within a body)."""
    body, inside.body = inside.body, None
    try:
        yield
    finally:
        inside.body = body


def _exempt_caller(frame: FrameType | None) -> bool:
    """Whether the nearest caller outside the guarded libraries themselves is exempt."""
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        top = name.partition(".")[0]
        if top in _EXEMPT or frame.f_code.co_filename.startswith("<frozen"):
            return True
        if top not in (
            "random",
            "uuid",
            "secrets",
            "os",
            "io",
            "pathlib",
            "socket",
            "subprocess",
            "shutil",
            "tempfile",
        ):
            return False
        frame = frame.f_back
    return True


def _refuse(what: str, instead: str, frame: FrameType | None) -> Nondeterminism:
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in sys.stdlib_module_names:
        frame = frame.f_back
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "an unknown place"
    return Nondeterminism(
        f"{what} was called in a workflow's body ({where}); a replay would not see the same: use {instead} instead"
    )


def _guarded(module: str, name: str, real: Callable[..., Any], instead: str) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        if inside.body is not None:
            caller = sys._getframe(1)
            if not _exempt_caller(caller):
                raise _refuse(f"{module}.{name}()", instead, caller)
        return real(*args, **kwargs)

    call.__weft_guard__ = real  # type: ignore[attr-defined]
    return call


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if inside.body is None:
        if event in EVENTS:
            watch(event, args)
        return
    if event not in _EVENTS:
        return
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller.f_globals.get("__name__") == "weft.runtime.enforce":
        caller = caller.f_back  # it stands between, for `os.open`
    if not _exempt_caller(caller):
        raise _refuse(_EVENTS[event], SLEEP if event == "time.sleep" else STEP, caller)


def _ordered(items: Iterable[Any] = ()) -> Any:
    """`set` for asyncio's own module: its as_completed starts coroutines in the order of a set of them, which is
    that of their addresses. Within a body it is the order given."""
    return set(items) if inside.body is None else list(dict.fromkeys(items)) or set()


_installed = False


def install() -> None:
    """Put the nets out, once per interpreter. Outside bodies all functions behave as before."""
    global _installed
    if _installed:
        return
    _installed = True
    for module, names, instead in _PATCHES:
        for name in names:
            real = getattr(module, name, None)
            if real is not None:
                setattr(module, name, _guarded(module.__name__, name, real, instead))
    asyncio.tasks.set = _ordered  # type: ignore[attr-defined]
    prepare()
    sys.addaudithook(_audit)

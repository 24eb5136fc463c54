"""What happens on a Ray worker: a step's call is unpacked and run, and what came of it is packed.

This file travels to the worker by value, so that a cluster needs Weft only if the steps themselves do. It
imports the standard library, and Ray's own cloudpickle where used.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from functools import partial, reduce
from typing import Any

CAUSES = 16
"""Exceptions of a chain that are brought home."""
KEPT = 64
"""Functions that a worker remembers, with whatever their modules' globals have come to hold."""

NATIVE = {
    OSError: ("filename", "filename2"),
    ImportError: ("name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
}
"""Attributes of exceptions that are not in their `__dict__`."""

WAKE = signal.SIGURG

_functions: dict[bytes, Callable[..., Any]] = {}

Packed = list[tuple[str, bytes | None, str]]
"""For an exception and its causes: what it is as text, itself pickled (or None), its traceback as text."""


def carry(
    digest: bytes, function: bytes | tuple[str, str], call: bytes, folders: list[str], level: int
) -> Generator[tuple[Any, ...]]:
    """Yields `(process id, host)` when the call begins, then `("done", pickled value)` or `("failed", Packed)`.

    `function`: pickled, or module and qualified name. `folders`: where the program's modules lie, if this machine
    has them. `level`: of the driver's logging.
    """
    yield os.getpid(), socket.gethostname()
    sys.path += [folder for folder in folders if folder not in sys.path and os.path.isdir(folder)]  # noqa: PTH112
    _log_to_stderr(level)
    try:
        yield "done", _pickled(_clean(_run(_function(digest, function), *_unpickled(call))))
    except GeneratorExit:
        raise
    except KeyboardInterrupt:  # Ray's way of cancelling
        raise
    except BaseException as error:
        yield "failed", _packed(error)


def _function(digest: bytes, function: bytes | tuple[str, str]) -> Callable[..., Any]:
    """The function, the same object for the same digest: its globals live as long as the worker."""
    known = _functions.get(digest)
    if known is None:
        if isinstance(function, bytes):
            known = _unpickled(function)
        else:
            named: Any = reduce(getattr, function[1].split("."), importlib.import_module(function[0]))
            known = getattr(named, "fn", named)
        if len(_functions) >= KEPT:
            _functions.pop(next(iter(_functions)))
        _functions[digest] = known
    return known


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _Interrupt() as interrupt:
        value = function(*args, **kwargs)
        if not asyncio.iscoroutine(value):
            return value

        async def run() -> Any:
            task = asyncio.ensure_future(value)
            interrupt.stop = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
            return await task

        try:
            return asyncio.run(run())
        except asyncio.CancelledError:
            if interrupt.came:
                raise KeyboardInterrupt from None
            raise


def _interrupt() -> None:
    raise KeyboardInterrupt


class _Interrupt:
    """Ray cancels with `_thread.interrupt_main`, which wakes nobody from a sleep, a read or a wait: a true signal
    follows it, which is not SIGINT, for Ray blocks that lest Ctrl-C at the driver's terminal come here. Only the first
    counts, so that cleaning up is left in peace."""

    def __init__(self) -> None:
        self.stop: Callable[[], Any] = _interrupt
        self.came = False

    def __enter__(self) -> _Interrupt:
        self.main = threading.get_ident()
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        self.handlers = {number: signal.signal(number, self._interrupted) for number in (signal.SIGINT, WAKE)}
        self.wakeup = signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        self.thread = threading.Thread(target=self._wake, name="weft-interrupt", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop = bool
        signal.set_wakeup_fd(self.wakeup)
        os.close(self.writing)
        self.thread.join()
        os.close(self.reading)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _interrupted(self, number: int, frame: object) -> None:
        if not self.came:
            self.came = True
            self.stop()

    def _wake(self) -> None:
        while number := os.read(self.reading, 1):
            if number[0] == signal.SIGINT and not self.came:
                signal.pthread_kill(self.main, WAKE)


def _log_to_stderr(level: int) -> None:
    """Ray shows a worker's stderr at the driver; without a handler only warnings would get there."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    root.setLevel(level)


def _clean(value: Any) -> Any:
    """Without the secrets that were revealed here: the driver may not know them."""
    secrets = sys.modules.get("weft.core.secret")
    if secrets is None or not secrets._revealed:
        return value
    from weft.core.codec import decode, encode

    clean = secrets.Redactor().redact(encode(value))
    return value if clean is None else decode(clean)


def _packed(error: BaseException) -> Packed:
    packed: Packed = []
    cause: BaseException | None = _clean(error)
    while cause is not None and len(packed) < CAUSES:
        trace = traceback.TracebackException(type(cause), cause, cause.__traceback__, limit=-50, compact=True)
        text = "".join(trace.format(chain=False))
        kind = type(cause)
        packed.append((f"{kind.__module__}.{kind.__qualname__}: {cause}", _pickled_error(cause), text))
        cause = cause.__cause__
    return packed


def _pickled_error(error: BaseException) -> bytes | None:
    """Its class, arguments and attributes, for not every exception survives a pickling; None if its class can't."""
    args: tuple[Any, ...] = error.args
    if isinstance(error, BaseExceptionGroup):
        args = (error.message, list(error.exceptions))
    native = {name: getattr(error, name) for kind, names in NATIVE.items() if isinstance(error, kind) for name in names}
    try:
        return _pickled(
            (
                type(error),
                tuple(arg if _portable(arg) else str(arg) for arg in args),
                {name: value for name, value in {**vars(error), **native}.items() if _portable(value)},
            )
        )
    except Exception:
        return None


def _portable(value: Any) -> bool:
    try:
        _unpickled(_pickled(value))
    except Exception:
        return False
    return True


def _pickled(value: Any) -> bytes:
    data: bytes = importlib.import_module("ray.cloudpickle").dumps(value)
    return data


def _unpickled(data: bytes) -> Any:
    return importlib.import_module("ray.cloudpickle").loads(data)

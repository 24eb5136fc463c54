"""Why a value cannot be stored, and what to store instead: one sentence for each kind of thing people try."""

from __future__ import annotations

import asyncio
import functools
import inspect
import io
import socket
import threading
import types
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

LOCKS = (
    type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Semaphore,
    threading.Event, asyncio.Lock, asyncio.Event, asyncio.Semaphore, asyncio.Condition,
)  # fmt: skip
BASES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict)


def reason(value: Any) -> str:
    """A clause that follows the path: what it is, and a fix."""
    if isinstance(value, type):
        return f"the class {value.__qualname__} cannot be stored; pass its name instead"
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return "a function cannot be stored; pass its name instead"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__} cannot be stored; pass its name instead"
    if isinstance(value, io.IOBase) or (hasattr(value, "fileno") and hasattr(value, "read")):
        return "an open file cannot be stored; pass its path and open it inside the step"
    if isinstance(value, socket.socket):
        return "a socket cannot be stored; pass its address and connect inside the step"
    if isinstance(value, LOCKS):
        return f"a {type(value).__name__} lives in one process and cannot be stored; create it where it is used"
    if inspect.isawaitable(value):
        return f"a {type(value).__name__} cannot be stored; await it first and pass its result"
    if isinstance(value, Iterator | KeysView | ValuesView | ItemsView) or inspect.isasyncgen(value):
        return f"a {type(value).__name__} cannot be stored; make a list of it first"
    if isinstance(value, memoryview):
        return "a memoryview cannot be stored; convert it with bytes(...)"
    cls = type(value)
    for base in BASES:
        if isinstance(value, base):
            return (
                f"a {cls.__qualname__} is a subclass of {base.__name__} and would come back as one; "
                f"convert it with {base.__name__}(...) or keep it in a dataclass"
            )
    return (
        f"an instance of {cls.__module__}.{cls.__qualname__} cannot be stored; "
        "make its class a dataclass, or pass plain data"
    )

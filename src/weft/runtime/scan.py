"""Reading a workflow's bytecode for calls that no wrapper can catch.

`datetime.now` is a method of a C type, and ``from time import time`` binds the function before it is wrapped. So
names in the code are resolved to the objects they mean, through the functions of the same package that the body
calls, and compared with those a body must not call.
"""

from __future__ import annotations

import datetime
import dis
import os
import random
import time
import uuid
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from weft.core.errors import Nondeterminism
from weft.runtime.guard import CHANCE, CLOCK, SLEEP, UUID


class Finding(NamedTuple):
    place: str
    """`file:line`"""
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} (use {self.instead})"


def _forbidden() -> list[tuple[Any, str, str]]:
    found: list[tuple[Any, str, str]] = [
        (datetime.datetime.now, "datetime.now()", CLOCK),
        (datetime.datetime.utcnow, "datetime.utcnow()", CLOCK),
        (datetime.datetime.today, "datetime.today()", CLOCK),
        (datetime.date.today, "date.today()", CLOCK),
    ]
    for module, names, instead in (
        (time, ("time", "time_ns", "monotonic", "perf_counter"), CLOCK),
        (time, ("sleep",), SLEEP),
        (random, ("random", "randint", "randrange", "choice", "choices", "sample", "shuffle", "uniform"), CHANCE),
        (uuid, ("uuid1", "uuid4"), UUID),
        (os, ("urandom",), CHANCE),
    ):
        for name in names:
            real = getattr(module, name)
            real = getattr(real, "__weft_guard__", real)
            found.append((real, f"{module.__name__}.{name}()", instead))
    return found


_FORBIDDEN = _forbidden()
_MISSING = object()
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLOSURE")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_clean: set[Any] = set()


def check(fn: Any) -> None:
    """Raise Nondeterminism with every finding in `fn`. Looks at each function once."""
    if fn in _clean:
        return
    findings = scan(fn)
    if findings:
        raise Nondeterminism(f"{getattr(fn, '__qualname__', fn)} is not deterministic: {'; '.join(map(str, findings))}")
    _clean.add(fn)


def scan(fn: Any) -> list[Finding]:
    """What `fn` and the plain functions of its package that it calls would do and must not. Never raises."""
    found: list[Finding] = []
    seen: set[CodeType] = set()
    waiting: list[FunctionType] = [fn] if isinstance(fn, FunctionType) else []
    package = getattr(fn, "__module__", "").partition(".")[0]
    while waiting:
        function = waiting.pop()
        for code in _codes(function.__code__):
            if code in seen:
                continue
            seen.add(code)
            for place, value in _references(code, function):
                for real, what, instead in _FORBIDDEN:
                    if value is real or (callable(value) and type(value) is type(real) and _same(value, real)):
                        found.append(Finding(place, what, instead))
                if isinstance(value, FunctionType) and (value.__module__ or "").partition(".")[0] == package:
                    waiting.append(value)
    return found


def _same(value: Any, real: Any) -> bool:
    """Bound methods are made anew at each look."""
    return getattr(value, "__self__", None) is getattr(real, "__self__", _MISSING) and getattr(
        value, "__name__", None
    ) == getattr(real, "__name__", _MISSING)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and those nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _references(code: CodeType, function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What each chain of names in the code means now: (`file:line`, object)."""
    free = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    value: Any = _MISSING
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        line = _line(instruction) or line
        name = instruction.argval
        if instruction.opname in _LOADS and isinstance(name, str):
            if value is not _MISSING:
                yield f"{code.co_filename}:{line}", value
            value = _lookup(name, function, free)
        elif instruction.opname in _ATTRIBUTES and value is not _MISSING:
            # Only through modules and classes: reading an instance's attribute could run code.
            plain = isinstance(value, type) or type(value).__name__ == "module"
            value = getattr(value, name, _MISSING) if plain else _MISSING
        elif instruction.opname not in ("PRECALL", "PUSH_NULL", "CACHE", "NOP", "EXTENDED_ARG"):
            if value is not _MISSING:
                yield f"{code.co_filename}:{line}", value
            value = _MISSING


def _line(instruction: dis.Instruction) -> int | None:
    """The line an instruction begins, if it begins one (Python 3.13 changed where this is said)."""
    started: Any = instruction.starts_line
    number: int | None = getattr(instruction, "line_number", None) if isinstance(started, bool) else started
    return number


def _lookup(name: str, function: FunctionType, free: dict[str, Any]) -> Any:
    if name in free:
        try:
            return free[name].cell_contents
        except ValueError:  # not filled yet
            return _MISSING
    return function.__globals__.get(name, _MISSING)

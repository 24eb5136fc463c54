"""Shared memory that keeps its promises: typed, versioned cells, read and written by operations with a level.

    notes = weft.Memory("notes", Note)                     # at module level

    async with notes.operation() as op:                    # one attempt: refused, it raises MemoryConflict
        plan = await op.read("plan")
        op.write("plan", await revise(plan))               # written when the block ends, all at once

    @notes.operation(level="L2")                           # attempts: refused, the function runs again
    async def review(op: weft.Operation[Note], topic: str) -> Note: ...

Nobody is locked out while a model thinks; at the commit the store checks what the level promises, and refuses what
breaks it (optimistic concurrency). The levels are those of arXiv 2606.17182 (`weft.core.memory`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from weft.core.boundary import place, require
from weft.core.codec import encode_args
from weft.core.errors import BadInput, MemoryConflict
from weft.core.memory import TOOLS, Level, check_name, check_namespace, level_of
from weft.core.sealed import as_type
from weft.core.step import Step
from weft.runtime.operation import Merge, Operation
from weft.runtime.pending import NOTHING
from weft.runtime.shared import Writing

if TYPE_CHECKING:
    from weft.runtime.process import Process

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

RETRIES = 5
PATIENCE = 2
"""After so many refusals an operation holds its cells, so that quicker ones do not always come before it."""


class Retracted(msgspec.Struct, frozen=True):
    """What a retraction did: `operations` were taken back, the one that was asked for first; `restored`: names, and the
    version that brought the last good value back."""

    operations: list[str]
    restored: dict[str, int]


class Memory(Generic[T]):
    """A namespace of objects of one type, shared by all processes that may (`memory.read:notes/**`), or `private`
    to each process. Declare it at module level. `level`: of its operations, unless they say otherwise."""

    @overload
    def __init__(self: Memory[Any], namespace: str, *, level: Level = "L1", private: bool = False) -> None: ...
    @overload
    def __init__(self, namespace: str, type: type[T], *, level: Level = "L1", private: bool = False) -> None: ...
    def __init__(self, namespace: str, type: Any = Any, *, level: Level = "L1", private: bool = False) -> None:
        self.namespace = check_namespace(namespace)
        self.type = type
        self.level = level_of(level, f"Memory({namespace!r})")
        self.private = private

    def operation(
        self, *, level: Level | None = None, retries: int = RETRIES, merge: Merge | None = None, agent: str = ""
    ) -> Attempts[T]:
        """An operation: what is read in it is checked when it ends, and what is written in it is written then, all or
        nothing. Use it with `async with` for one attempt, or as a decorator of an ``async def f(op, ...)`` that is run
        again when it is refused, up to `retries` times.

        `merge(base, mine, theirs)`: makes of a write that was refused one that fits; it can't help where a cell was
        only read. `agent`: on whose behalf; one agent does one operation at a time (default: the task that asks).
        """
        if not isinstance(retries, int) or retries < 0:
            raise BadInput(f"operation(retries={retries!r}): give a number of at least 0")
        chosen = self.level if level is None else level_of(level, f"operation of {self.namespace}")
        return Attempts(self, chosen, retries, merge, agent)

    async def retract(self, operation: str, *, level: Level | None = None) -> Retracted:
        """Take a committed operation back: what it wrote last is restored to the last value of an operation that is not
        retracted. From L2 on all that builds on it is retracted too, and restored. BadInput if there is none."""
        process: Process = require("Memory.retract()")
        chosen = self.level if level is None else level_of(level, "Memory.retract()")
        where, shared = place(), process.runtime.shared
        if not isinstance(operation, str) or not operation:
            raise BadInput(f"Memory.retract({operation!r}): give the id of an operation, its op.id")
        look = process.issue("memory.written", operation, where, NOTHING, partial(shared.written, process))
        found: tuple[str, list[str]] | None = await process.outcome(look)
        if found is None or found[0] != self._space(process):
            raise BadInput(f"{operation!r} is no operation that was committed in {self.namespace}")
        args = encode_args((chosen,), {}, "retract")
        launch = partial(shared.retract, process, level=chosen, namespace=self._shown)
        # Of one that wrote nothing, or whose versions were pruned, others may have to go all the same.
        cells = [f"{self._shown}/{name}" for name in found[1] or [operation]]
        pending = Writing(process, "memory.retract", operation, where, args, launch, cells)
        process.enlist(pending)
        done = await process.outcome(pending)
        return Retracted(done["operations"], done["restored"])

    async def offer(self, step: Step[..., Any], name: str | None = None) -> None:
        """Put a step among the tools of this namespace, under `name` (default: the last part of its own)."""
        if not isinstance(step, Step):
            raise BadInput(f"{step!r} is not a step; mark the function with @weft.step")
        known = check_name(step.name.rpartition(".")[2] if name is None else name, "Memory.offer")
        async with self.operation(level="L0") as op:
            op._write(TOOLS + known, {"step": step.name, "signature": step.signature}, (), None)

    async def withdraw(self, name: str) -> None:
        """Take a tool out of this namespace."""
        async with self.operation(level="L0") as op:
            op.delete(TOOLS + check_name(name, "Memory.withdraw"))

    def _space(self, process: Process) -> str:
        """The namespace, as the store knows it."""
        return f"{self.namespace}@{process.id}" if self.private else self.namespace

    @property
    def _shown(self) -> str:
        """The namespace, as rights and the journal name it: the same in a fork."""
        return f"{self.namespace}@" if self.private else self.namespace

    def check(self, value: Any) -> T:
        """`value` as the type of this memory: itself, or converted from JSON-like data. A handle passes as it is."""
        return cast(T, as_type(value, self.type, f"memory {self.namespace!r} holds"))


class Attempts(Generic[T]):
    """What `Memory.operation` gives: one attempt under `async with`, as many as it takes around a function."""

    def __init__(self, memory: Memory[T], level: Level, retries: int, merge: Merge | None, agent: str) -> None:
        self.memory = memory
        self.level = level
        self.retries = retries
        self.merge = merge
        self.agent = agent
        self._open: Operation[T] | None = None

    async def __aenter__(self) -> Operation[T]:
        if self._open is not None:
            raise BadInput("this operation is under way; call .operation() for another one")
        self._open = Operation(self, require("Memory.operation()"), place(), 1)
        return await self._open._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        op, self._open = self._open, None
        assert op is not None
        await op._end(error is None)

    def __call__(self, fn: Callable[Concatenate[Operation[T], P], Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        async def attempts(*args: P.args, **kwargs: P.kwargs) -> R:
            process, where = require("Memory.operation()"), place()
            attempt, needed = 1, list[str]()
            while True:
                op = Operation(self, process, where, attempt, needed if attempt > PATIENCE else [])
                try:
                    await op._begin()
                    committing = False
                    try:
                        result = await fn(op, *args, **kwargs)
                        committing = True
                    finally:
                        await op._end(committing)
                except MemoryConflict as conflict:
                    if conflict.operation != op.id or attempt > self.retries:
                        raise
                    attempt, needed = attempt + 1, op._cells()
                else:
                    return result

        return cast(Callable[P, Awaitable[R]], update_wrapper(attempts, fn))

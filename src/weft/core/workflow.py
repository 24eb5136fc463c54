"""Workflows: `@workflow`, and what may be said of one execution (a key, a queue, rights, a budget).

A `Workflow` is a deterministic body that crosses the boundary in steps; awaited in another body it runs as a child.
"""

from __future__ import annotations

import inspect
import sys
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from copy import copy
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, overload

from weft.core.boundary import place, require
from weft.core.budget import Budget
from weft.core.errors import BadInput, NoProcess, UnknownWorkflow
from weft.core.queue import Queue
from weft.core.sealed import Labelled, closed
from weft.core.step import name_of, version_of
from weft.core.traceparent import read

P = ParamSpec("P")
R = TypeVar("R")

registry: dict[str, Workflow[..., Any]] = {}
"""Every workflow declared in this interpreter, by name."""


class Workflow(Generic[P, R]):
    """A deterministic `async def`; each execution is a process. Await it inside a body to run it as a child."""

    __weft__ = "workflow"

    def __init__(self, fn: Callable[P, Awaitable[R]], *, name: str | None = None) -> None:
        if not inspect.iscoroutinefunction(fn):
            raise BadInput(f"@workflow needs an `async def`, not {fn!r}")
        self.fn = fn
        self.name = name_of(fn, name)
        self.source = str(fn.__code__.co_filename)
        self.version = version_of(fn.__code__)
        self.key: str | None = None
        self.queue: Queue | None = None
        self.priority = 0
        self.tenant = ""
        self.id: str | None = None
        self.rights: tuple[str, ...] | None = None
        self.budget: Budget | None = None
        self.caller = ""
        self.signature = inspect.signature(fn)
        self.names = tuple(self.signature.parameters)
        update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        boundary = getattr(_get_running_loop(), "boundary", None)
        if boundary is None:
            raise NoProcess(
                f"{self.name} is a workflow: start it with weft.run({self.__name__}, ...) in a script "
                f"or `await runtime.run({self.__name__}, ...)`; inside another workflow just await it"
            )
        work: Coroutine[Any, Any, R] = boundary.call(self, args, kwargs, place())
        return work

    __name__: str

    def sealed(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Labelled[R]]:
        """Run the workflow as a child, and get its result closed: see `Step.sealed`. Handles stay closed for the child,
        too."""
        return closed(require(f"{self.name}.sealed()").call(self, args, kwargs, place(), sealed=True))

    def options(
        self,
        *,
        key: str | None = None,
        queue: Queue | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        id: str | None = None,
        rights: Sequence[str] | None = None,
        budget: Budget | None = None,
        caller: str | None = None,
    ) -> Workflow[P, R]:
        """The same workflow with an idempotency `key` (a second start with it returns the first run), a `queue`,
        a `priority` in it, a `tenant` (those of one queue take turns), or a given run `id`. `caller`: a W3C
        traceparent; a run that is started so belongs to that trace.

        `rights`: capabilities such as "read:./docs". A child gets these of its parent's and no others (default: all
        that may be handed on); a run gets them besides its policy. `budget`: what it and its children may spend."""
        changed = copy(self)
        changed.key = key or self.key
        changed.queue = queue or self.queue
        changed.priority = self.priority if priority is None else priority
        changed.tenant = self.tenant if tenant is None else tenant
        changed.id = id or self.id
        changed.rights = self.rights if rights is None else tuple(rights)
        changed.budget = budget or self.budget
        if caller:
            read(caller)
            changed.caller = caller.strip()
        return changed

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise BadInput, showing the signature, if the arguments do not fit."""
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadInput(f"{self.name}{self.signature}: {error}; give arguments that fit it") from None

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


def find_workflow(name: str) -> Workflow[..., Any]:
    """The declared workflow of this name, or UnknownWorkflow."""
    try:
        return registry[name]
    except KeyError:
        known = ", ".join(sorted(registry)) or "none"
        raise UnknownWorkflow(
            f"no workflow named {name!r} is declared here (declared: {known}); import the file that declares it first"
        ) from None


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(*, name: str | None = None) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...
def workflow(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Declare a workflow: an `async def` whose body reaches the world through effects only."""

    def declare(fn: Any) -> Workflow[..., Any]:
        declared = Workflow(fn, name=name)
        registry[declared.name] = declared
        return declared

    return declare if fn is None else declare(fn)


if sys.version_info >= (3, 12):
    inspect.markcoroutinefunction(Workflow.__call__)

"""Steps: `@step`, and what may be said of one (retries, queues, time limits, needs).

A `Step` is one crossing of the boundary. It stays a plain callable: called outside a body it simply runs.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from asyncio import _get_running_loop, to_thread
from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from types import CodeType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from weft.core.boundary import place
from weft.core.crossing import crossing, executing, probed
from weft.core.errors import BadInput
from weft.core.memory import ORDERS, Order
from weft.core.needs import Needs, needs_of
from weft.core.queue import Queue
from weft.core.resources import Resources, resources_of
from weft.core.retry import Retry
from weft.core.sealed import Labelled, closed, held, opened_args

P = ParamSpec("P")
R = TypeVar("R")

Effect = Literal["pure", "idempotent", "at_most_once"]
Unknown = Literal["fail", "ask", "done"]
Executor = Literal["ray"]
Impact = Literal["none", "repeatable", "reversible", "irreversible"]
"""What a step leaves behind outside: nothing; what doing it again does not change; what can be undone; what can't."""


def name_of(fn: Callable[..., Any], given: str | None) -> str:
    """The name under which a step or workflow is known: `module.qualname`, unless one is given."""
    if given is not None:
        return given
    module = fn.__module__
    if module == "__main__":
        # A script and the same file imported by its stem are the same program.
        from weft.core.codec import module_name

        module = module_name(fn)
    return f"{module}.{fn.__qualname__}"


def _parameters(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names for messages; a callable without a signature (a builtin) has none."""
    try:
        return tuple(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return ()


def _defaults(fn: Callable[..., Any]) -> dict[str, Any] | None:
    """The defaults of a function whose arguments all have a name of their own, else None."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in parameters):
        return None
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def version_of(code: CodeType) -> str:
    """Digest of what the code does, not of where it lies: constants and instructions, nested ones too."""
    digest = hashlib.blake2b(digest_size=8)

    def feed(code: CodeType) -> None:
        digest.update(code.co_code)
        digest.update(repr(code.co_names).encode())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                feed(constant)
            elif not isinstance(constant, frozenset):  # a set's repr has no fixed order
                digest.update(repr(constant).encode())

    feed(code)
    return digest.hexdigest()


class Step(Generic[P, R]):
    """A function that crosses the boundary: its outcome is journaled, and never computed again on replay."""

    __weft__ = "step"
    action: str | None = "step.run"
    """What it does in the eyes of a capability; its name is the resource."""
    watched = True
    """What it does in its middle is checked too."""
    approval: Any = False
    """Whether a person is asked first: of a tool."""
    role = ""
    """What it is for who reads a run: "tool", "generation", or nothing more than a step."""

    def __init__(
        self,
        fn: Callable[P, Any],
        *,
        name: str | None = None,
        effect: Effect = "idempotent",
        on_unknown: Unknown = "fail",
        retries: Retry | int | None = None,
        timeout: float | None = None,
        queue: Queue | None = None,
        priority: int = 0,
        executor: Executor | None = None,
        resources: Mapping[str, Any] | Resources | None = None,
        needs: Needs = (),
        cost: Mapping[str, float] | Callable[..., Mapping[str, float]] | None = None,
        reversible: bool = False,
        order: Order | None = None,
        limits: Mapping[str, Any] | Resources | None = None,
    ) -> None:
        if not callable(fn):
            raise BadInput(f"@step was given {fn!r}, which is not a function")
        if effect not in ("pure", "idempotent", "at_most_once"):
            raise BadInput(f"@step(effect={effect!r}): must be 'pure', 'idempotent' or 'at_most_once'")
        if on_unknown not in ("fail", "ask", "done"):
            raise BadInput(f"@step(on_unknown={on_unknown!r}): must be 'fail', 'ask' or 'done'")
        if timeout is not None and timeout <= 0:
            raise BadInput(f"@step(timeout={timeout!r}): seconds must be > 0")
        if executor not in (None, "ray"):
            raise BadInput(f"@step(executor={executor!r}): must be 'ray', or None for this process")
        self.fn = fn
        self.name = name_of(fn, name)
        self.effect = effect
        self.on_unknown = on_unknown
        self.retries = Retry(attempts=retries) if isinstance(retries, int) else retries
        self.timeout = timeout
        self.queue = queue
        self.priority = priority
        self.resources = resources_of(resources)
        self.executor: Executor | None = executor if self.resources is None else "ray"
        self.limits = resources_of(limits)
        self.needs = needs_of(needs, fn)
        self.cost = cost
        self.reversible = reversible
        self.is_async = inspect.iscoroutinefunction(fn)
        self.order = self._order(order)
        self.names = _parameters(fn)
        self.version = version_of(fn.__code__) if inspect.isfunction(fn) else ""
        self._defaults = _defaults(fn)
        self.plain = self.retries is None and timeout is None and queue is None and self.executor is None
        """Nothing to do but run it."""
        update_wrapper(self, fn)

    def _order(self, given: Order | None) -> Order:
        if given is None:
            return "none" if self.effect == "pure" else "ordered"
        if given not in ORDERS:
            raise BadInput(f"@step(order={given!r}): must be one of {', '.join(ORDERS)}")
        if given == "staged" and (not self.is_async or self.executor is not None):
            raise BadInput(f"@step(order='staged'): {self.name} must be an `async def` that runs in this process")
        return given

    @property
    def signature(self) -> str:
        """Digest of what it is to its callers: name, parameters, code."""
        return hashlib.blake2b(repr((self.name, self.names, self.version)).encode(), digest_size=8).hexdigest()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        boundary = getattr(_get_running_loop(), "boundary", None)
        if boundary is None:
            return self._directly(args, kwargs)
        work: Coroutine[Any, Any, R] = boundary.step(self, args, kwargs, place())
        return work

    def sealed(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Labelled[R]]:
        """Call the step, and get its result closed: the process has not seen it. Arguments may be handles (`Labelled`),
        here as in any call of a step: the step gets what is in them. A failure is raised, and has been seen."""
        boundary = getattr(_get_running_loop(), "boundary", None)
        if boundary is None:
            return self._sealed_directly(args, kwargs)
        return closed(boundary.step(self.of_call(args, kwargs), args, kwargs, place(), sealed=True))

    async def _sealed_directly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Labelled[R]:
        from weft.core.codec import encode_args

        data = encode_args(args, kwargs, self.name, self.names)
        args, kwargs = opened_args(data)
        return Labelled(await self._directly(args, kwargs), held(data))

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step[P, R]:
        """The step as it is for these arguments."""
        return self

    @property
    def impact(self) -> Impact:
        """What it leaves behind outside."""
        if self.effect == "pure":
            return "none"
        if self.reversible:
            return "reversible"
        return "irreversible" if self.effect == "at_most_once" else "repeatable"

    async def _directly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        outcome = probed(self.fn)(*args, **kwargs)
        result: R = await outcome if self.is_async else outcome
        return result

    def options(self, **changes: Any) -> Step[P, R]:
        """The same step, said otherwise: `retries`, `timeout`, `queue`, `priority`, `effect`, `on_unknown`,
        `executor` (None: in this process, whatever its resources), `resources`, `needs`, `cost`, `reversible`,
        `order`, `limits`."""
        settings = {k: getattr(self, k) for k in ("name", *_STEP_OPTIONS)}
        unknown = changes.keys() - set(_STEP_OPTIONS)
        if unknown:
            raise BadInput(f"{self.name}.options() takes {', '.join(_STEP_OPTIONS)}; not {', '.join(sorted(unknown))}")
        if "executor" in changes and changes["executor"] is None:
            changes.setdefault("resources", None)
        changed = type(self)(self.fn, **{**settings, **changes})
        changed.role = self.role
        return changed

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Those of a call by name, defaults too. Raises TypeError if they do not fit."""
        if self._defaults is not None and len(args) <= len(self.names):
            if not kwargs and len(args) == len(self.names):
                return dict(zip(self.names, args, strict=True))
            found = {**self._defaults, **dict(zip(self.names, args, strict=False)), **kwargs}
            if len(found) == len(self.names) and all(name in found for name in self.names):
                return found
        bound = inspect.signature(self.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


_STEP_OPTIONS = (
    "effect",
    "on_unknown",
    "retries",
    "timeout",
    "queue",
    "priority",
    "executor",
    "resources",
    "needs",
    "cost",
    "reversible",
    "order",
    "limits",
)


class Primitive(Step[P, R]):
    """A step by Weft itself: it asks for exactly what it does (`needs`), so that nobody watches it meanwhile.

    Called by another step it is no effect of its own, but decided in that step's name."""

    __weft__ = "primitive"
    action = None
    watched = False

    def __init__(self, fn: Callable[P, Any], *, role: str = "", **settings: Any) -> None:
        super().__init__(fn, **settings)
        self.role = role
        if self.executor is not None:
            raise BadInput(f"{self.name} acts where it was allowed to, on this machine: it can't be sent to Ray")

    def options(self, **changes: Any) -> Step[P, R]:
        """The same, said otherwise; what it needs, it says itself."""
        if "needs" in changes:
            raise BadInput(f"{self.name} needs what it does: its needs are no option")
        return super().options(**changes)

    async def _directly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        outer = crossing()
        if outer is None:
            return await super()._directly(args, kwargs)
        token = executing.set(outer.within(self.needs, self.arguments(args, kwargs)))
        try:
            if not self.is_async:  # others run on this loop, and it may take long
                return cast(R, await to_thread(probed(self.fn), *args, **kwargs))
            return await super()._directly(args, kwargs)
        finally:
            executing.reset(token)


steps: dict[str, Step[..., Any]] = {}
"""Every step declared in this interpreter, by name."""


@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    effect: Effect = "idempotent",
    on_unknown: Unknown = "fail",
    retries: Retry | int | None = None,
    timeout: float | None = None,
    queue: Queue | None = None,
    priority: int = 0,
    executor: Executor | None = None,
    resources: Mapping[str, Any] | Resources | None = None,
    needs: Needs = (),
    cost: Mapping[str, float] | Callable[..., Mapping[str, float]] | None = None,
    reversible: bool = False,
    order: Order | None = None,
    limits: Mapping[str, Any] | Resources | None = None,
) -> _Decorator: ...
def step(fn: Any = None, /, **options: Any) -> Any:
    """Declare a step, sync (runs in a thread) or async.

    `effect`: "pure" changes nothing outside (it computes, reads, generates) and starts at once; "idempotent", the
    default, starts only when all it depends on is durable and runs again if the process dies in its middle;
    "at_most_once" never runs twice: in flight at a crash its outcome is unknown, and `on_unknown` says what then:
    "fail" raises UnknownOutcome, "ask" waits for a message in the box `unknown:<name>`, "done" takes it as done with
    result None. `timeout`: seconds per attempt. `retries`: a Retry, or a number of attempts.
    `resources={"cpu": 4, "memory": "8G", "gpu": 1}` (or `executor="ray"`) runs it on a Ray cluster: `weft[ray]`.
    `limits={"memory": "512M", "pids": 64, "seconds": 120}` is what each command that it starts in a group or
    sandbox may take of this machine (`weft.core.resources.Resources`). `needs`: what must be allowed before it
    starts, such as "write:{path}" with the step's own arguments, or a function of them that gives (action,
    resource) pairs; so it can be asked for, and used once. What it does without a word is checked when it does it,
    but on Ray, where nobody watches: there only its needs count. `cost`: the most that a call may spend of a
    budget, or take of its queue's amounts, such as {"tokens": 4000, "money": 0.02}, or a function of its arguments
    that says so; what it did spend it says by `weft.charge(...)`. `reversible`: what it did can be undone, by hand or
    by another step (`weft checkpoint show` says so). `order`: of its effects, for operations on shared memory at L3
    (`weft.core.memory.Order`); a pure step has none, any other is "ordered" unless it says otherwise.
    """

    def declare(fn: Any) -> Step[..., Any]:
        declared: Step[..., Any] = Step(fn, **options)
        steps[declared.name] = declared
        return declared

    return declare if fn is None else declare(fn)


def primitive(*, name: str, effect: Effect, needs: Needs, **options: Any) -> _Decorator:
    """Declare a primitive: a step by Weft that does what `needs` asks for, and nothing else. `role`: see `Step`."""
    declare: Any = lambda fn: Primitive(fn, name=name, effect=effect, needs=needs, **options)  # noqa: E731
    return cast(_Decorator, declare)


class _Decorator:
    """Typing only: what `step(...)` with options returns."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, fn: Any, /) -> Any: ...


if sys.version_info >= (3, 12):
    inspect.markcoroutinefunction(Step.__call__)

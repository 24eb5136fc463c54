"""Tools: functions that a model may call. `@tool` makes one of a function, whose hints and docstring are its schema.

    @tool(effect="pure", timeout=30)
    async def search(query: str, limit: int = 10) -> list[Hit]:
        '''Search the archive.

        Args:
            query: Words to look for.
            limit: The most that are wanted.
        '''

A tool is a step: called in a workflow it is one journaled effect, under the action `tool.call` and its own name;
outside it simply runs. `tool.spec` is what a model sees; `tool.call` carries out what a model asks for.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from copy import copy
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from weft.core.boundary import boundary, place
from weft.core.capability import Request
from weft.core.content import ToolCall, ToolResult, ToolSpec
from weft.core.crossing import crossing, probed
from weft.core.errors import BadInput, Denied
from weft.core.sealed import Labelled, closed
from weft.core.step import Step, steps
from weft.core.workflow import Workflow
from weft.tool.context import Report, ToolContext, in_step, wants_context
from weft.tool.parameters import Described, Hinted, Parameters, hints_of, meant

P = ParamSpec("P")
R = TypeVar("R")

LIMIT = 40_000
"""Characters of a result that a model is shown if nothing else is said."""

Before = Callable[
    [ToolCall, ToolContext[Any]], "ToolCall | ToolResult | Awaitable[ToolCall | ToolResult | None] | None"
]
"""Looks at a call before it is carried out: returns another call in its place, its result, or None to go on."""
After = Callable[[ToolCall, ToolResult, ToolContext[Any]], "ToolResult | Awaitable[ToolResult | None] | None"]
"""Looks at a call's result: returns another in its place, or None to leave it."""
Approval = bool | Callable[..., bool]
"""Whether a person is asked first; a function is told the arguments by name."""


_INSTEAD = "call it in the workflow, not in a step"
_OF_A_STEP = (
    "effect", "on_unknown", "retries", "timeout", "queue", "priority", "needs", "cost", "reversible", "limits",
)  # fmt: skip


class Tool(Step[P, R]):
    """A function that a model may call. `shown`: the name that models call it by; `name` is the one that a capability
    and the journal know."""

    __weft__ = "tool"
    action = "tool.call"
    role = "tool"

    def __init__(
        self,
        fn: Callable[P, Any],
        *,
        name: str | None = None,
        description: str | None = None,
        schema: Mapping[str, Any] | None = None,
        approval: Approval = False,
        before: Sequence[Before] = (),
        after: Sequence[After] = (),
        limit: int = LIMIT,
        slow: bool | None = None,
        lane: str | None = None,
        sources: Mapping[str, str | Sequence[str]] | None = None,
        scope: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`fn`: a function, or a step, whose needs, effect and the like the tool has. `schema`: the JSON schema of the
        arguments, for a function that takes whatever it describes as `**arguments`; without it, the function's own
        hints say what they are. `scope`: names that its hints mean besides those of its module."""
        name = _name(fn, name, limit)
        beneath = fn
        if isinstance(beneath, Step):
            if type(beneath).of_call is not Step.of_call and "effect" not in settings:
                raise BadInput(f"@tool: the effect of {beneath.name} depends on its arguments: say @tool(effect=...)")
            settings = {**{key: getattr(beneath, key) for key in _OF_A_STEP}, **settings}
            if beneath.order in ("staged", "commutes"):
                settings.setdefault("order", beneath.order)
            fn = _calling(beneath)
        super().__init__(fn, name=name, **settings)
        if isinstance(beneath, Step):
            self.version = beneath.version
        if inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
            self.is_async = True
        scope = meant(fn, scope)
        self.given = {"name": name, "description": description, "schema": schema, "approval": approval,
                      "before": before, "after": after, "limit": limit, "slow": slow, "lane": lane,
                      "sources": sources, "scope": scope, **settings}  # fmt: skip
        self.written = self.filled = fn
        self.beneath = beneath if isinstance(beneath, Step) else None
        """The step that it calls, if it was made of one."""
        self.shown = name
        self.description = description
        self.approval = approval
        self.before = tuple(before)
        self.after = tuple(after)
        self.limit = limit
        self.slow = slow
        self.lane = "ordered" if lane is None and settings.get("order") == "ordered" else lane
        """Calls of one lane wait for each other."""
        self.hidden = next((one for one, hint in hints_of(fn, scope).items() if wants_context(hint)), None)
        """The parameter that is given the context."""
        self.parameters: Parameters = Hinted(fn, self.hidden, scope) if schema is None else Described(schema, fn)
        self.sources = _sources(sources, self.parameters)
        self.seen = inspect.signature(fn)
        """What callers give."""
        if any(type(one.default).__module__ == "pydantic.fields" for one in self.seen.parameters.values()):
            self.fn = self.filled = self._with_defaults()
        if self.hidden is not None:
            self._hide(self.hidden)

    def _with_defaults(self) -> Callable[..., Any]:
        """The function, for which a default `Field(default=...)` means the default that it says."""
        fn, seen = self.written, self.seen
        fields = {one.name: one.default for one in seen.parameters.values() if hasattr(one.default, "get_default")}

        def whole(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
            left = fields.keys() - seen.bind_partial(*args, **kwargs).arguments.keys()
            return {**kwargs, **{name: fields[name].get_default(call_default_factory=True) for name in left}}

        @wraps(fn)
        async def later(*args: Any, **kwargs: Any) -> Any:
            return await probed(fn)(*args, **whole(args, kwargs))

        @wraps(fn)
        def now(*args: Any, **kwargs: Any) -> Any:
            return probed(fn)(*args, **whole(args, kwargs))

        self._defaults = None
        return later if self.is_async else now

    def _hide(self, hidden: str) -> None:
        """Callers do not give the context: it is made where the tool runs."""
        fn: Callable[..., Any] = self.filled
        self.seen = self.seen.replace(parameters=[p for n, p in self.seen.parameters.items() if n != hidden])
        self.names = tuple(self.seen.parameters)
        self._defaults = None

        def whole(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
            return {**self._named(self.seen.bind(*args, **kwargs)), hidden: in_step()}

        @wraps(fn)
        async def later(*args: Any, **kwargs: Any) -> Any:
            return await probed(fn)(**whole(args, kwargs))

        @wraps(fn)
        def now(*args: Any, **kwargs: Any) -> Any:
            return probed(fn)(**whole(args, kwargs))

        self.fn = later if self.is_async else now

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Those of a call by name, defaults too, without the context. Raises TypeError if they do not fit."""
        if self._defaults is not None:
            return super().arguments(args, kwargs)
        bound = self.seen.bind(*args, **kwargs)
        bound.apply_defaults()
        return self._named(bound)

    def _named(self, bound: inspect.BoundArguments) -> dict[str, Any]:
        found = dict(bound.arguments)
        for one in self.seen.parameters.values():
            if one.kind is one.VAR_KEYWORD:
                found |= found.pop(one.name, {})
        return found

    @cached_property
    def spec(self) -> ToolSpec:
        """What a model sees of it. Raises BadInput for a function whose parameters have no JSON schema."""
        told = self.parameters.description if self.description is None else self.description
        return ToolSpec(self.shown, told, self.parameters.schema)

    def renamed(self, shown: str) -> Tool[P, R]:
        """The same tool under another name for models; capabilities and the journal know it by its own."""
        changed = copy(self)
        changed.__dict__.pop("spec", None)
        changed.shown = shown
        return changed

    def options(self, **changes: Any) -> Tool[P, R]:
        """The same tool, said otherwise: whatever `@tool` takes."""
        made = type(self)(self.written, **{**self.given, **changes})
        made.shown = self.shown if "name" not in changes else made.name
        made.version, made.beneath = self.version, self.beneath
        return made

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(
        self, call: ToolCall, *, deps: Any = None, report: Report | None = None
    ) -> Coroutine[Any, Any, ToolResult]:
        """Carry out what a model asks for, and tell what came of it in a form that a model can act on: wrong arguments
        and failures too. In a workflow it is one effect.

        `deps`: for the tool's context; `report` is called with each word of progress. Raises what is not the model's
        affair: a cancellation, BudgetExceeded, errors of the store and of the program itself."""
        return self.answer(call, deps, report, place())

    def answer(self, call: ToolCall, deps: Any, report: Report | None, where: str) -> Coroutine[Any, Any, ToolResult]:
        """`call`, on behalf of the line `where`."""
        from weft.tool.answering import carry_out

        return carry_out(self, call, deps, report, where)

    def work(self, call: ToolCall, deps: Any, report: Report | None, where: str) -> Coroutine[Any, Any, ToolResult]:
        """What a call comes to between its hooks."""
        from weft.tool.answering import worked

        return worked(self, call, deps, report, where)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        process = boundary()
        if process is None:
            return self._directly(args, kwargs)
        if self.approval is False:
            return cast(Coroutine[Any, Any, R], process.step(self, args, kwargs, place()))
        return self._once_approved(process, args, kwargs, place())

    def sealed(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Labelled[R]]:
        """See `Step.sealed`."""
        if self.approval is False or boundary() is None:
            return super().sealed(*args, **kwargs)
        return self._sealed_once_approved(args, kwargs, place())

    async def _sealed_once_approved(self, args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> Labelled[R]:
        from weft.tool.answering import approved

        await approved(self, args, kwargs)
        return await closed(boundary().step(self, args, kwargs, where, sealed=True))

    def asks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a person is asked before this call."""
        if isinstance(self.approval, bool):
            return self.approval
        return bool(self.approval(**self.arguments(args, kwargs)))

    async def _once_approved(self, process: Any, args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> R:
        from weft.tool.answering import approved

        await approved(self, args, kwargs)
        return cast(R, await process.step(self, args, kwargs, where))

    async def _directly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        outer = crossing()
        if outer is not None:
            outer.further(Request("tool.call", self.name), _INSTEAD)
            if self.asks(args, kwargs):
                raise Denied(
                    "tool.call", self.name, "a person is to be asked, and this is in the middle of a step", _INSTEAD
                )
        if self.is_async:
            return await super()._directly(args, kwargs)
        return cast(R, await asyncio.to_thread(probed(self.fn), *args, **kwargs))

    def __repr__(self) -> str:
        return f"<tool {self.name}>"


def _name(fn: Any, name: str | None, limit: int) -> str:
    """The name of the tool. Raises BadInput for what can be none."""
    if not callable(fn):
        raise BadInput(f"@tool was given {fn!r}, which is not a function")
    if isinstance(fn, Workflow):
        raise BadInput(f"@tool: {fn.name} is a workflow, which runs as a child of a body and not in a step: await it")
    if name is None:
        name = getattr(fn, "__name__", "")
    if not name or name == "<lambda>":
        raise BadInput(f"@tool needs a name for {fn!r}: say @tool(name=...)")
    if limit < 1:
        raise BadInput(f"@tool(limit={limit!r}): characters of a result, at least 1")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise BadInput(f"@tool: {name} yields; a tool returns its result, and says by context.progress how far it is")
    return str(name)


def _sources(given: Mapping[str, str | Sequence[str]] | None, parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Of each such parameter, the tools. Raises BadInput for what is no parameter."""
    found = {one: (names,) if isinstance(names, str) else tuple(names) for one, names in (given or {}).items()}
    for one in found:
        if isinstance(parameters, Hinted) and one not in inspect.signature(parameters.fn).parameters:
            raise BadInput(f"@tool(sources=...): {parameters.called}() has no parameter {one!r}")
    return found


def _calling(step: Step[..., Any]) -> Callable[..., Any]:
    @wraps(step.fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await step(*args, **kwargs)

    return call


class _Decorator:
    """Typing only: what `tool(...)` with options returns."""

    @overload
    def __call__(self, fn: Callable[Concatenate[ToolContext[Any], P], Coroutine[Any, Any, R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[ToolContext[Any], P], R], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Tool[P, R]: ...
    def __call__(self, fn: Any, /) -> Any: ...


@overload
def tool(fn: Callable[Concatenate[ToolContext[Any], P], Coroutine[Any, Any, R]], /) -> Tool[P, R]: ...
@overload
def tool(fn: Callable[Concatenate[ToolContext[Any], P], R], /) -> Tool[P, R]: ...
@overload
def tool(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Tool[P, R]: ...
@overload
def tool(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[str, Any] | None = None,
    approval: Approval = False,
    before: Sequence[Before] = (),
    after: Sequence[After] = (),
    limit: int = LIMIT,
    slow: bool | None = None,
    lane: str | None = None,
    sources: Mapping[str, str | Sequence[str]] | None = None,
    **settings: Any,
) -> _Decorator: ...
def tool(fn: Any = None, /, **options: Any) -> Any:
    """Declare a tool, sync (runs in a thread) or async. Its hints are the schema, its docstring the words; `name` and
    `description` say them otherwise.

    `approval`: a person is asked before each call, or before those of whose arguments (by name) a function says True.
    `before` and `after`: hooks, which look at a call and at its result, see `Before` and `After`; they are for calls by
    models. `limit`: characters of a result that a model is shown. `schema`: a JSON schema, for a function that takes
    whatever it describes as ``**arguments``. All else is what `weft.step` takes; ``order="ordered"`` makes calls of one
    answer wait for each other.

    `slow`: an agent gets a handle at once and is told the result when it comes (True), or always waits for it (False).
    `lane`: calls of tools in one lane are made one after the other, in the order in which they were asked for.
    `sources`: ``{"order_id": "place_order"}``: the values of this parameter come from results of that tool, so a value
    that was made up while such a call is under way is refused. See `Agent(asynchronous=...)`.

    Raises BadInput for a function that can be no tool; one whose hints have no JSON schema only when the schema is
    asked for."""

    def declare(fn: Any, depth: int = 1) -> Tool[..., Any]:
        caller = sys._getframe(depth)
        scope = caller.f_locals if caller.f_locals is not caller.f_globals else None
        declared: Tool[..., Any] = Tool(fn, scope=scope, **options)
        steps[declared.name] = declared
        return declared

    return declare if fn is None else declare(fn, 2)

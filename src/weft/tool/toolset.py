"""A toolset: tools in a fixed order, each under a name of its own. It never changes; all else makes a new one.

    tools = Toolset(search, fetch, files.only("read_file")).prefixed("docs_")
    results = await tools.call_all(calls)

The order is that in which they were given, so that the list a model sees, and its provider's cache, stay the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from weft.core.boundary import place
from weft.core.capability import nearest
from weft.core.content import ToolCall, ToolResult, ToolSpec
from weft.core.errors import BadInput
from weft.tool.context import Report
from weft.tool.declare import Tool

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")

GIVEN_UP = "given up before its end, and whether it did anything is not known: find out before you do it again"


class Toolset:
    """Tools under the names that a model calls them by. Raises BadInput for two of one name."""

    def __init__(self, *tools: Tool[..., Any] | Toolset) -> None:
        self.tools: dict[str, Tool[..., Any]] = {}
        for one in tools:
            for each in [one] if isinstance(one, Tool) else _tools_of(one):
                self._add(each)

    def _add(self, each: Tool[..., Any]) -> None:
        if not _NAME.fullmatch(each.shown):
            raise BadInput(f"{each.shown!r} is no name for a tool: letters, digits, _ - . : /, at most 128 of them")
        if self.tools.setdefault(each.shown, each) is not each:
            raise BadInput(
                f"two tools are named {each.shown!r} ({self.tools[each.shown]!r}, {each!r}): give one of them another "
                f"name with .renamed(...) or .prefixed(...)"
            )

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What a model sees, in order."""
        return tuple(one.spec for one in self)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(self.tools)

    def __iter__(self) -> Iterator[Tool[..., Any]]:
        return iter(self.tools.values())

    def __len__(self) -> int:
        return len(self.tools)

    def __contains__(self, name: object) -> bool:
        return name in self.tools

    def __getitem__(self, name: str) -> Tool[..., Any]:
        try:
            return self.tools[name]
        except KeyError:
            raise BadInput(self._unknown(name)) from None

    def __add__(self, other: Toolset | Tool[..., Any]) -> Toolset:
        return Toolset(self, other)

    def __repr__(self) -> str:
        return f"<toolset {', '.join(self.tools) or 'without tools'}>"

    def _unknown(self, name: str) -> str:
        near = nearest(name, self.tools)
        known = f"Tools: {', '.join(self.tools)}" if self.tools else "There are no tools"
        return f"there is no tool {name!r}{f'; did you mean {near!r}?' if near else '.'} {known}."

    # --- other sets ----------------------------------------------------------------------------------------------

    def prefixed(self, prefix: str) -> Toolset:
        """All of them, each name after this prefix. What a capability says of a tool is about the tool itself, whatever
        it is called here."""
        return Toolset(*(one.renamed(prefix + one.shown) for one in self))

    def renamed(self, names: Mapping[str, str]) -> Toolset:
        """All of them, some under other names: ``{old: new}``."""
        for name in names:
            self[name]
        return Toolset(*(one.renamed(names.get(one.shown, one.shown)) for one in self))

    def filtered(self, wanted: Callable[[Tool[..., Any]], bool]) -> Toolset:
        """Those for which `wanted` says True."""
        return Toolset(*(one for one in self if wanted(one)))

    def only(self, *names: str) -> Toolset:
        """Those of these names, in the order of this set."""
        for name in names:
            self[name]
        return self.filtered(lambda one: one.shown in names)

    def without(self, *names: str) -> Toolset:
        """All but those of these names."""
        for name in names:
            self[name]
        return self.filtered(lambda one: one.shown not in names)

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(
        self, call: ToolCall, *, deps: Any = None, report: Report | None = None
    ) -> Coroutine[Any, Any, ToolResult]:
        """Carry out what a model asks for: see `Tool.call`. A name that no tool has is an error that the model is
        told."""
        return self._call(call, deps, report, place())

    async def _call(self, call: ToolCall, deps: Any, report: Report | None, where: str) -> ToolResult:
        found = self.tools.get(call.name)
        if found is None:
            return ToolResult.of(call.id, self._unknown(call.name), name=call.name, error=True)
        return await found.answer(call, deps, report, where)

    async def call_all(
        self, calls: Sequence[ToolCall], *, deps: Any = None, report: Report | None = None, at_once: int | None = None,
        until: asyncio.Future[Any] | None = None,
    ) -> list[ToolResult]:  # fmt: skip
        """Carry out several calls beside each other, at most `at_once` of them at a time; the results in the order of
        the calls. Calls of tools in one `lane` (or declared with ``order="ordered"``) wait for each other, in this
        order. What ends one call for good (`BudgetExceeded`, a cancellation) cancels the others and is raised. `until`:
        when this is done first, the calls that are under way are given up, and their results say so."""
        if at_once is not None and at_once < 1:
            raise BadInput(f"call_all(at_once={at_once!r}): at least one call at a time")
        where = place()
        slots = asyncio.Semaphore(at_once) if at_once is not None else None
        lanes: dict[str | None, asyncio.Task[ToolResult]] = {}
        tasks: list[asyncio.Task[ToolResult]] = []

        def give_up(_: object) -> None:
            for task in tasks:
                task.cancel()

        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    lane = self.tools[call.name].lane if call.name in self.tools else None
                    before = None if lane is None else lanes.get(lane)
                    work = self._in_turn(self._call(call, deps, report, where), before, slots)
                    tasks.append(group.create_task(work))
                    lanes[lane] = tasks[-1]
                if until is not None:
                    until.add_done_callback(give_up)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            if until is not None:
                until.remove_done_callback(give_up)
        return [_given_up(call) if task.cancelled() else task.result() for call, task in zip(calls, tasks, strict=True)]

    @staticmethod
    async def _in_turn(
        work: Coroutine[Any, Any, ToolResult], before: asyncio.Task[ToolResult] | None, slots: asyncio.Semaphore | None
    ) -> ToolResult:
        try:
            if before is not None:
                await asyncio.wait([before])
            async with AsyncExitStack() as stack:
                if slots is not None:
                    await stack.enter_async_context(slots)
                return await work
        finally:
            work.close()


def _given_up(call: ToolCall) -> ToolResult:
    return ToolResult.of(call.id, GIVEN_UP, name=call.name, error=True)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _tools_of(given: Any) -> list[Tool[..., Any]]:
    if isinstance(given, Toolset):
        return list(given)
    raise BadInput(f"Toolset({given!r}): give tools and toolsets; a function becomes a tool by @weft.tool.tool")

"""What a called thing is to a template: an effect, several beside each other, a function to look into, or unknown.

The rooms of models, agents and the runtime are above this one, so their functions are known by module and name.
"""

from __future__ import annotations

import asyncio
import inspect
from types import FunctionType, MethodType
from typing import Any, Literal

import msgspec

from weft.core.errors import BadInput
from weft.core.step import Step
from weft.core.workflow import Workflow
from weft.trace.graph.template.scope import UNKNOWN, Helper, helper_of

Together = Literal["gather", "task", "one", "wait", "group", "map", "spawn"]
"""Ways to run something beside what comes next: several that are waited for, a task, one that is waited for, a wait for
tasks, a group of tasks, `weft.map`, a child."""


class Effect(msgspec.Struct, frozen=True):
    """One effect. `name` "*": any; `at_once`: its outcome is there without a wait."""

    kind: str
    name: str = "*"
    at_once: bool = False


class Beside(msgspec.Struct, frozen=True):
    how: Together


class Agent(msgspec.Struct, frozen=True):
    """An agent at work: generations and tool calls, as its model decides."""


class Nothing(msgspec.Struct, frozen=True):
    """No effect."""


NOTHING = Nothing()
Meaning = Effect | Beside | Agent | Helper | Workflow[..., Any] | Nothing | None
"""None: can't be told."""

_RUNTIME: dict[str, Meaning] = {
    "sleep": Effect("sleep", "sleep"), "ask": Effect("ask"), "publish": Effect("publish"), "wait_for": Effect("event"),
    "checkpoint": Effect("checkpoint"), "exec": Effect("control"), "spawn": Beside("spawn"), "detach": Effect("spawn"),
    "now": Effect("clock", "now", True), "random": Effect("random", "random", True),
    "uuid": Effect("random", "uuid", True), "map": Beside("map"),
}  # fmt: skip
_METHODS: dict[str, Meaning] = {"receive": Effect("receive"), "send": Effect("send")}
_ASYNCIO: dict[Any, Together] = {
    asyncio.gather: "gather", asyncio.create_task: "task", asyncio.ensure_future: "task", asyncio.wait_for: "one",
    asyncio.shield: "one", asyncio.wait: "wait", asyncio.as_completed: "wait", asyncio.TaskGroup: "group",
}  # fmt: skip


def meaning(found: Any, module: str) -> Meaning:
    """Of what a name stands for. `module`: that of the workflow, whose plain functions are looked into as well."""
    if found is UNKNOWN:
        return None
    if isinstance(found, Helper | Workflow):
        return found
    if isinstance(found, Step):
        return Effect(found.role or "step", found.name)
    try:
        if found in _ASYNCIO:
            return Beside(_ASYNCIO[found])
    except TypeError:  # not hashable
        return None
    home = getattr(found, "__module__", None) or ""
    if home.startswith("weft."):
        return _of_weft(found, home)
    if isinstance(found, type) or inspect.isbuiltin(found) or home.partition(".")[0] in ("asyncio", "builtins"):
        return NOTHING
    return _function(found, home, module)


def _of_weft(found: Any, home: str) -> Meaning:
    name = getattr(found, "__name__", "")
    if home in ("weft.runtime.effects", "weft.runtime.map"):
        owner = getattr(found, "__self__", None)
        if owner is not None and name in _METHODS:
            kind: Any = _METHODS[name]
            return Effect(kind.kind, getattr(owner, "name", "*"))
        return _RUNTIME.get(name, NOTHING)
    if isinstance(found, MethodType) and inspect.iscoroutinefunction(found):
        if home.startswith("weft.model"):
            return Effect("generation")
        if home.startswith("weft.agent"):
            return Agent()
        if home.startswith("weft.runtime.memory"):
            return Effect("memory")
    return None if inspect.iscoroutinefunction(found) else NOTHING


def _function(found: Any, home: str, module: str) -> Meaning:
    inner = inspect.unwrap(found.__func__ if isinstance(found, MethodType) else found) if callable(found) else found
    if not isinstance(inner, FunctionType):
        return None if callable(found) else NOTHING
    runs = inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)
    if not runs and home != module:
        return NOTHING
    try:
        return helper_of(inner)
    except BadInput:
        return None if runs else NOTHING

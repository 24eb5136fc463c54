"""When a point of control is decided: by the text, by the inputs when the run starts, or by outcomes while it runs.

The survey of agent computation graphs (arXiv 2603.22386) calls this the graph determination time: offline, before
execution, in execution. Here it is told of each branch, loop and choice from what its condition is made of, over all
assignments of a function at once: a name that ever holds an outcome counts as one.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Literal

from weft.trace.graph.template.scope import Definition, own_nodes

When = Literal["static", "start", "running"]
ORDER: tuple[When, ...] = ("static", "start", "running")
_OUTCOMES = frozenset({"now", "random", "uuid", "patched"})
"""Effects whose outcome is there without `await`."""


def later(*each: When) -> When:
    """The latest of these."""
    return max(each, key=ORDER.index, default="static")


class Times:
    """Of the names in one call of a function. `given`: of its parameters; `outer`: of those it closes over."""

    def __init__(self, definition: Definition, given: Mapping[str, When], outer: Times | None = None) -> None:
        self.outer = outer
        self.names: dict[str, When] = dict(given)
        bindings = [pair for node in own_nodes(definition) for pair in _bound(node)]
        while sum(self._learn(name, value, waits) for name, value, waits in bindings):
            pass  # until nothing changes: each name only ever becomes later

    def _learn(self, name: str, value: ast.expr, waits: bool) -> bool:
        before = self.names.get(name, "static")
        self.names[name] = later(before, "running" if waits else self.of(value))
        return self.names[name] != before

    def name(self, name: str) -> When:
        if name in self.names:
            return self.names[name]
        return self.outer.name(name) if self.outer is not None else "static"

    def of(self, node: ast.AST) -> When:
        """When the value of an expression is known."""
        if isinstance(node, ast.Await):
            return "running"
        if isinstance(node, ast.Call) and _called(node.func) in _OUTCOMES:
            return "running"
        if isinstance(node, ast.Name):
            return self.name(node.id)
        return later(*(self.of(child) for child in ast.iter_child_nodes(node)))


def _called(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _bound(node: ast.AST) -> list[tuple[str, ast.expr, bool]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            return [(name, value, False) for target in targets for name in _names(target)]
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
            return [(name, value, False) for name in _names(target)]
        case ast.AugAssign(target=target, value=value) | ast.For(target=target, iter=value):
            return [(name, value, False) for name in _names(target)]
        case ast.comprehension(target=target, iter=value, is_async=is_async):
            return [(name, value, bool(is_async)) for name in _names(target)]
        case ast.AsyncFor(target=target, iter=value):
            return [(name, value, True) for name in _names(target)]
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            return [(name, value, False) for name in _names(target)]
        case ast.ExceptHandler(name=str(name), type=ast.expr() as kind):
            return [(name, kind, True)]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=args):  # items.append(outcome)
            return [(name, argument, False) for argument in args]
    return []


def _names(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]

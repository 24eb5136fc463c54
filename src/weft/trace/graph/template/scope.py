"""What an expression of a workflow's source means, as far as it can be told without running it.

Names are looked up where Python would: in the function's own assignments and inner functions, in what it closes over,
in its module, in the builtins. A name that is assigned several times may mean each of these values.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from weft.core.errors import BadInput

Definition = ast.FunctionDef | ast.AsyncFunctionDef
MOST = 32
"""Meanings of one expression that are looked at."""


class Helper:
    """A function of the program, with its source. `key` tells it from others."""

    def __init__(self, name: str, definition: Definition, file: str, outer: Scope | Mapping[str, Any]) -> None:
        self.name = name
        self.definition = definition
        self.file = file
        self.outer = outer
        self.key = (file, definition.lineno, name)

    @property
    def is_async(self) -> bool:
        return isinstance(self.definition, ast.AsyncFunctionDef)

    @property
    def yields(self) -> bool:
        return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(self.definition))


class Unknown(msgspec.Struct, frozen=True):
    """What can't be told."""


UNKNOWN = Unknown()


def own_nodes(definition: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions and classes in it."""
    for child in ast.iter_child_nodes(definition):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from own_nodes(child)


def helper_of(fn: Callable[..., Any]) -> Helper:
    """Raises BadInput if its source can't be read."""
    fn = inspect.unwrap(fn)
    try:
        lines, first = inspect.getsourcelines(fn)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError) as error:
        raise BadInput(f"the source of {getattr(fn, '__qualname__', fn)} can't be read: {error}") from None
    ast.increment_lineno(tree, first - 1)
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        raise BadInput(f"{fn!r} is no function with `def`: its source can't be read as one")
    names = dict(getattr(fn, "__globals__", {}))
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return Helper(fn.__qualname__, definition, fn.__code__.co_filename, names)


class Scope:
    """The names inside one function, as one call of it sees them."""

    def __init__(self, helper: Helper, given: Mapping[str, tuple[Scope, ast.expr]] | None = None) -> None:
        """`given`: what its parameters were given, each an expression in the scope of the caller."""
        self.helper = helper
        self.given = dict(given or {})
        self.defined: dict[str, Helper] = {}
        self.assigned: dict[str, list[ast.expr]] = {}
        self.parts: dict[str, list[ast.expr]] = {}
        """Names that stand for one element of a value: in loops, in unpacked tuples."""
        self.parameters = [one.arg for one in ast.walk(helper.definition.args) if isinstance(one, ast.arg)]
        for node in own_nodes(helper.definition):
            self._bind(node)

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.defined[name] = Helper(name, node, self.helper.file, self)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._target(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                self._target(target, value)
            case ast.AugAssign(target=target, value=value):
                self._target(target, value)
            case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
                self._element(target, value)
            case ast.comprehension(target=target, iter=value):
                self._element(target, value)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                self._target(target, value)

    def _target(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.assigned.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else ()
            for place, one in enumerate(target.elts):
                if len(values) == len(target.elts):
                    self._target(one, values[place])
                else:
                    self._element(one, value)

    def _element(self, target: ast.expr, value: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.parts.setdefault(node.id, []).append(value)

    # --- meanings ---------------------------------------------------------------------------------------------------

    def meanings(self, node: ast.expr, depth: int = 0) -> list[Any]:
        """Everything that the expression may stand for; UNKNOWN is among them where that can't be told."""
        found: list[Any] = []
        for one in self._meanings(node, depth):
            if not any(one is other for other in found):
                found.append(one)
            if len(found) > MOST:
                return [UNKNOWN]
        return found or [UNKNOWN]

    def _meanings(self, node: ast.expr, depth: int) -> Iterator[Any]:
        if depth > MOST:
            yield UNKNOWN
            return
        match node:
            case ast.Name(id=name):
                yield from self._named(name, depth)
            case ast.Attribute(value=value, attr=attribute):
                for base in self.meanings(value, depth + 1):
                    yield _attribute(base, attribute)
            case ast.IfExp(body=one, orelse=other):
                yield from self.meanings(one, depth + 1)
                yield from self.meanings(other, depth + 1)
            case ast.BoolOp(values=values):
                for value in values:
                    yield from self.meanings(value, depth + 1)
            case ast.NamedExpr(value=value):
                yield from self.meanings(value, depth + 1)
            case ast.Subscript(value=value):
                yield from self._elements(value, depth + 1)
            case ast.Call(func=ast.Attribute(value=value, attr="options" | "renamed")):
                yield from self.meanings(value, depth + 1)
            case ast.Call(func=func, args=[first, *_]) if functools.partial in self.meanings(func, depth + 1):
                yield from self.meanings(first, depth + 1)
            case ast.Constant(value=value):
                yield value
            case _:
                yield UNKNOWN

    def _named(self, name: str, depth: int) -> Iterator[Any]:
        known = False
        if name in self.defined:
            known = True
            yield self.defined[name]
        for value in self.assigned.get(name, ()):
            known = True
            yield from self.meanings(value, depth + 1)
        for value in self.parts.get(name, ()):
            known = True
            yield from self._elements(value, depth + 1)
        if name in self.given:
            known = True
            scope, value = self.given[name]
            yield from scope.meanings(value, depth + 1)
        elif name in self.parameters:
            known = True
            yield UNKNOWN
        if not known:
            outer = self.helper.outer
            if isinstance(outer, Scope):
                yield from outer.meanings(ast.Name(name), depth + 1)
            else:
                yield outer.get(name, getattr(builtins, name, UNKNOWN))

    def _elements(self, node: ast.expr, depth: int) -> Iterator[Any]:
        """What an element of the expression may be."""
        match node:
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                for element in elements:
                    yield from self.meanings(element, depth + 1)
            case ast.Dict(values=values):
                for value in values:
                    yield from self.meanings(value, depth + 1)
            case ast.Call(func=ast.Attribute(value=value, attr="values" | "items")):
                yield from self._elements(value, depth + 1)
            case ast.Name(id=name) if name in self.assigned and name not in self.given:
                for value in self.assigned[name]:
                    yield from self._elements(value, depth + 1)
            case _:
                for value in self.meanings(node, depth + 1):
                    yield from _members(value)


def _attribute(base: Any, name: str) -> Any:
    if isinstance(base, Unknown | Helper):
        return UNKNOWN
    try:
        if isinstance(base, ModuleType | type):
            return getattr(base, name)
        found = inspect.getattr_static(base, name)
    except Exception:
        return UNKNOWN
    if isinstance(found, FunctionType):
        return found.__get__(base)
    return UNKNOWN if isinstance(found, property) or hasattr(type(found), "__get__") else found


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from list(value.values())[: MOST + 1]
    elif isinstance(value, list | tuple | set | frozenset):
        yield from list(value)[: MOST + 1]
    else:
        yield UNKNOWN

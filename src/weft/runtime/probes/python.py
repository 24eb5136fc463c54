"""Probes in a Python function: while they are on, it runs an instrumented copy of its code; off, exactly its own again.

    with watching(parse, Watch(line=12, when="n > 100")) as seen:
        weft.run(...)
    seen.lines, seen.branches, seen.loops, seen.entered, seen.watched

The copy is compiled from the function's source with counters in its text and swapped in for `__code__`, so that every
holder of the function runs it. A call that is already running keeps the code that it began with. The counters are
constants of the copy: no name is added that the function could meet.
"""

from __future__ import annotations

import ast
import copy
import inspect
import linecache
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from types import CodeType, FunctionType
from typing import Any

from weft.core.errors import BadInput

_COUNTER, _CAUGHT, _ERRORS = "\0weft counter ", "\0weft caught ", "\0weft errors"
_FUTURE = 0x1FE0000  # the flags of `from __future__ import ...` among a code's
_COUNTING = type(count().__next__)  # only instrumented code has one among its constants
_Arms = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Watch:
    """Catch the values of the names in `when` each time `line` (of the file) is about to run and `when` holds.

    `when` is an expression over the function's names at that line. Where it raises (a name may not be bound there) it
    doesn't hold, and that is counted. At most `limit` are kept."""

    line: int
    when: str
    limit: int = 1000


@dataclass(slots=True)
class Seen:
    """What the probes of a function saw. Lines are those of its file."""

    name: str
    _counters: list[count[int]] = field(default_factory=list)
    _lines: dict[int, list[int]] = field(default_factory=dict)
    _branches: dict[int, _Arms] = field(default_factory=dict)
    _loops: dict[int, int] = field(default_factory=dict)
    _entries: dict[str, int] = field(default_factory=dict)
    _failed: dict[Watch, int] = field(default_factory=dict)
    watched: dict[Watch, list[dict[str, Any]]] = field(default_factory=dict)

    def _of(self, counter: int) -> int:
        return int(repr(self._counters[counter])[len("count(") : -1])  # nothing else reads one without moving it

    @property
    def lines(self) -> dict[int, int]:
        """Hotness: how often a statement of each line began; of a line with several, the one that began most."""
        return {line: max(map(self._of, mine)) for line, mine in sorted(self._lines.items())}

    @property
    def coverage(self) -> tuple[int, int]:
        """(lines of which a statement began, lines that have one)."""
        return sum(count > 0 for count in self.lines.values()), len(self._lines)

    @property
    def branches(self) -> dict[int, tuple[int, int]]:
        """Of the `if` at each line: [not taken, taken]. A condition that raised counts as not taken."""
        return {
            line: (self._of(total) - self._of(taken), self._of(taken))
            for line, (total, taken) in sorted(self._branches.items())
        }

    @property
    def loops(self) -> dict[int, int]:
        """Iterations of the `for` or `while` at each line."""
        return {line: self._of(one) for line, one in sorted(self._loops.items())}

    @property
    def entered(self) -> dict[str, int]:
        """Calls: how often the function was entered, and each one that is defined in it."""
        return {name: self._of(one) for name, one in self._entries.items()}

    @property
    def failed(self) -> dict[Watch, int]:
        """How often the condition of each watch raised."""
        return {watch: self._of(one) for watch, one in self._failed.items()}


@contextmanager
def watching(function: Callable[..., Any], *watches: Watch) -> Iterator[Seen]:
    """Probes in `function` (a function, a step or a tool) for as long as the block lasts.

    Raises BadInput where there is no source to instrument, for a lambda, for a function that has probes already, and
    for a watch whose line or condition isn't one."""
    found = function_of(function)
    original = found.__code__
    prepared = Prepared(found, watches)
    found.__code__, seen = prepared.code()
    try:
        yield seen
    finally:
        found.__code__ = original


class Prepared:
    """A function's code with probes in it, from which copies are made that count for themselves."""

    def __init__(self, function: FunctionType, watches: Sequence[Watch] = ()) -> None:
        """Raises BadInput as `watching` does."""
        if any(type(value) is _COUNTING for value in function.__code__.co_consts):
            raise BadInput(f"{function.__qualname__} has probes already")
        self.function = function
        self.watches = watches
        self._made = Seen(function.__qualname__)
        self._code = _instrumented(function, watches, self._made)

    def code(self, said: Callable[[Any], Any] = lambda value: value) -> tuple[CodeType, Seen]:
        """The code with counters of its own, and what they will have seen. `said`: what a watch keeps of a value."""
        made = self._made
        seen = replace(made, _counters=[count() for _ in made._counters], watched={watch: [] for watch in self.watches})
        inside: dict[str, Any] = {f"{_COUNTER}{number}": one.__next__ for number, one in enumerate(seen._counters)}
        inside[_ERRORS] = Exception
        for number, watch in enumerate(self.watches):
            inside[f"{_CAUGHT}{number}"] = _keeping(seen.watched[watch], watch.limit, said)
        return _with_constants(self._code, inside), seen


def function_of(given: Callable[..., Any]) -> FunctionType:
    """The function that was written, within what was made of it. Raises BadInput if that is none."""
    found: Any = given
    for name in ("written", "fn", "__func__"):
        found = getattr(found, name, found)
    found = inspect.unwrap(found)
    if not isinstance(found, FunctionType):
        raise BadInput(f"{given!r} is no Python function: probes go into the code of one")
    return found


def _instrumented(function: FunctionType, watches: Sequence[Watch], seen: Seen) -> CodeType:
    """The function's code with counters in its text. Its whole file is compiled, for what stands around a function
    (imports, a class, names of an outer one) has a say in its code."""
    whole = _parsed(function)
    tree = _written(whole, function.__code__)
    if tree is None:
        raise BadInput(f"{function.__qualname__} isn't written as a function of its own: it can't take probes")
    if _compiled(function.__code__, whole) != function.__code__:
        raise BadInput(f"the source of {function.__qualname__} isn't what it was compiled from: load it anew")
    putting = _Putting(seen, watches)
    putting.function(tree, function.__name__)
    if missing := [watch.line for watch in watches if watch not in putting.placed]:
        raise BadInput(f"no statement of {function.__qualname__} begins at line {missing[0]}")
    code = _compiled(function.__code__, whole)
    assert code is not None
    return code


def _parsed(function: FunctionType) -> ast.Module:
    file = function.__code__.co_filename
    linecache.checkcache(file)
    lines = linecache.getlines(file, function.__globals__)
    if not lines:
        raise BadInput(f"the source of {function.__qualname__} can't be read: there is none at {file}")
    try:
        return ast.parse("".join(lines))
    except SyntaxError as error:
        raise BadInput(f"the source of {function.__qualname__} can't be read: {error}") from error


def _written(whole: ast.Module, code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Where a function's code is written."""
    for node in ast.walk(whole):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name != code.co_name:
            continue
        if min(one.lineno for one in (node, *node.decorator_list)) == code.co_firstlineno:
            return node
    return None


def _compiled(code: CodeType, whole: ast.Module) -> CodeType | None:
    """What becomes of a function's code if its file is compiled anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # it is told about counters that look like text
        flags = code.co_flags & _FUTURE
        left: list[CodeType] = [compile(whole, code.co_filename, "exec", flags=flags, dont_inherit=True)]
    while left:
        found = left.pop()
        if (found.co_qualname, found.co_firstlineno) == (code.co_qualname, code.co_firstlineno):
            return found
        left += [one for one in found.co_consts if isinstance(one, CodeType)]
    return None


def _keeping(kept: list[dict[str, Any]], limit: int, said: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def keep(values: dict[str, Any]) -> None:
        if len(kept) < limit:
            kept.append({name: said(value) for name, value in values.items()})

    return keep


def _with_constants(code: CodeType, inside: Mapping[str, Any]) -> CodeType:
    """`code` in which what stands for a counter or a watch is the thing itself."""

    def constant(value: Any) -> Any:
        if isinstance(value, CodeType):
            return _with_constants(value, inside)
        return inside.get(value, value) if isinstance(value, str) else value

    return code.replace(co_consts=tuple(map(constant, code.co_consts)))


class _Putting:
    """Puts counters into a function's tree."""

    def __init__(self, seen: Seen, watches: Sequence[Watch]) -> None:
        self.seen, self.watches = seen, watches
        self.conditions = [_condition(watch) for watch in watches]
        self.placed: set[Watch] = set()

    def function(self, tree: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> None:
        entry = self._counter()
        self.seen._entries[name] = entry
        begun = self._documented(tree)
        tree.body = [*begun, _bump(entry, tree.body[0]), *self._body(tree.body[len(begun) :], f"{name}.")]

    def _documented(self, tree: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
        return tree.body[:1] if ast.get_docstring(tree, clean=False) is not None else []

    def _counter(self) -> int:
        self.seen._counters.append(count())
        return len(self.seen._counters) - 1

    def _body(self, statements: list[ast.stmt], within: str) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for statement in statements:
            if not isinstance(statement, ast.Global | ast.Nonlocal):
                counter = self._counter()
                self.seen._lines.setdefault(statement.lineno, []).append(counter)
                out += self._watched(statement)
                out.append(_bump(counter, statement))
                self._inside(statement, counter, within)
            out.append(statement)
        return out

    def _inside(self, statement: ast.stmt, counter: int, within: str) -> None:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            self.function(statement, within + statement.name)
            return
        if isinstance(statement, ast.ClassDef):
            return
        for part in ("body", "orelse", "finalbody"):
            if inside := getattr(statement, part, None):
                setattr(statement, part, self._body(inside, within))
        for part in ("handlers", "cases"):
            for one in getattr(statement, part, ()):
                one.body = self._body(one.body, within)
        if isinstance(statement, ast.If | ast.For | ast.AsyncFor | ast.While):
            arm = self._counter()
            statement.body.insert(0, _bump(arm, statement))
            if isinstance(statement, ast.If):
                self.seen._branches[statement.lineno] = (counter, arm)
            else:
                self.seen._loops[statement.lineno] = arm

    def _watched(self, statement: ast.stmt) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for number, watch in enumerate(self.watches):
            if watch.line == statement.lineno and watch not in self.placed:
                self.placed.add(watch)
                names = sorted({node.id for node in ast.walk(self.conditions[number]) if isinstance(node, ast.Name)})
                values = ", ".join(f"{name!r}: {name}" for name in names)
                counter = self.seen._failed[watch] = self._counter()
                catch = ast.parse(
                    f"try:\n if 0: {_CAUGHT + str(number)!r}({{{values}}})\n"
                    f"except {_ERRORS!r}: {_COUNTER + str(counter)!r}()"
                ).body[0]
                assert isinstance(catch, ast.Try) and isinstance(catch.body[0], ast.If)
                catch.body[0].test = copy.deepcopy(self.conditions[number])
                out.append(_at(catch, statement))
        return out


def _condition(watch: Watch) -> ast.expr:
    try:
        found = ast.parse(watch.when, mode="eval").body
    except SyntaxError as error:
        raise BadInput(f"the condition {watch.when!r} is no expression: {error.msg}") from error
    if any(isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for node in ast.walk(found)):
        raise BadInput(f"the condition {watch.when!r} would change what the function does")
    return found


def _bump(counter: int, near: ast.AST) -> ast.stmt:
    return _at(ast.parse(f"{_COUNTER + str(counter)!r}()").body[0], near)


def _at(statement: ast.stmt, near: Any) -> ast.stmt:
    for node in ast.walk(statement):
        if hasattr(node, "lineno"):
            ast.copy_location(node, near)
    return statement

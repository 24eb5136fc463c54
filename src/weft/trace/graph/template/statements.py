"""Statements of a workflow, walked as they would run: each takes a frontier and gives the one after it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from weft.trace.graph.shape import Edge
from weft.trace.graph.template.calls import entered, expression
from weft.trace.graph.template.frame import Builder, Frame, Frontier, Loop
from weft.trace.graph.template.scope import own_nodes
from weft.trace.graph.template.when import When, later


def body(builder: Builder, frame: Frame, statements: Sequence[ast.stmt], before: Frontier) -> Frontier:
    for number, one in enumerate(statements):
        if not before:
            return before
        before = statement(builder, frame, one, before)
        if before and _may_leave(one):  # what follows is for those that did not
            with builder.perhaps():
                return body(builder, frame, statements[number + 1 :], before)
    return before


def _may_leave(node: ast.stmt) -> bool:
    """Whether some runs do not get to what follows the statement."""
    if not isinstance(node, ast.If | ast.Match | ast.Try | ast.TryStar | ast.For | ast.While | ast.AsyncFor):
        return False
    loop = isinstance(node, ast.For | ast.While | ast.AsyncFor)
    ways = ast.Return | ast.Raise if loop else ast.Return | ast.Raise | ast.Continue | ast.Break
    return any(isinstance(one, ways) for one in own_nodes(node))


def statement(builder: Builder, frame: Frame, node: ast.stmt, before: Frontier) -> Frontier:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom():
            return before
        case ast.If():
            return _if(builder, frame, node, before)
        case ast.While():
            return _while(builder, frame, node, before)
        case ast.For() | ast.AsyncFor():
            return _for(builder, frame, node, before)
        case ast.Try() | ast.TryStar():
            return _try(builder, frame, node, before)
        case ast.With() | ast.AsyncWith():
            return _with(builder, frame, node.items, node.body, before)
        case ast.Match():
            return _match(builder, frame, node, before)
        case ast.Return(value=value):
            frame.exits |= before if value is None else expression(builder, frame, value, before)
            return set()
        case ast.Raise():
            _each(builder, frame, node, before)
            return set()
        case ast.Break():
            frame.loops[-1].breaks |= before
            return set()
        case ast.Continue():
            frame.loops[-1].continues |= before
            return set()
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return expression(builder, frame, value, before, holder=name)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return expression(builder, frame, value, before, holder=name)
        case ast.Assert(test=test):
            return expression(builder, frame, test, before)
    return _each(builder, frame, node, before)


def _each(builder: Builder, frame: Frame, node: ast.stmt, before: Frontier) -> Frontier:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            before = expression(builder, frame, child, before)
    return before


def _point(builder: Builder, frame: Frame, kind: str, node: ast.AST, before: Frontier, when: When) -> str:
    id = builder.control(kind, frame.helper.file, getattr(node, "lineno", 0), when)
    builder.link(before, id)
    return id


def _if(builder: Builder, frame: Frame, node: ast.If, before: Frontier) -> Frontier:
    before = expression(builder, frame, node.test, before)
    point = {_point(builder, frame, "branch", node, before, frame.times.of(node.test))}
    with builder.perhaps():
        return body(builder, frame, node.body, point) | body(builder, frame, node.orelse, point)


def _match(builder: Builder, frame: Frame, node: ast.Match, before: Frontier) -> Frontier:
    before = expression(builder, frame, node.subject, before)
    point = {_point(builder, frame, "branch", node, before, frame.times.of(node.subject))}
    after: Frontier = set(point)
    with builder.perhaps():
        for case in node.cases:
            tested = expression(builder, frame, case.guard, point) if case.guard is not None else point
            after |= body(builder, frame, case.body, tested)
    return after


def _while(builder: Builder, frame: Frame, node: ast.While, before: Frontier) -> Frontier:
    endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
    leaving = [one for one in own_nodes(node) if isinstance(one, ast.If)]
    when = frame.times.of(node.test)
    if endless:  # its end is decided where it is left
        when = later(*(frame.times.of(one.test) for one in leaving))
    head = _point(builder, frame, "loop", node, before, when)
    tested = expression(builder, frame, node.test, {head})
    around = _turns(builder, frame, node.body, tested, head)
    over = set() if endless else tested
    return body(builder, frame, node.orelse, over) | around.breaks


def _turns(builder: Builder, frame: Frame, statements: Sequence[ast.stmt], before: Frontier, head: str) -> Loop:
    loop = Loop()
    frame.loops.append(loop)
    with builder.perhaps(repeated=True):
        last = body(builder, frame, statements, before)
    frame.loops.pop()
    builder.edges += [Edge(one, head, "back") for one in sorted(last | loop.continues, key=int)]
    return loop


def _for(builder: Builder, frame: Frame, node: ast.For | ast.AsyncFor, before: Frontier) -> Frontier:
    if isinstance(node, ast.AsyncFor):
        yielding = _generator(builder, frame, node, before)
        if yielding is not None:
            return yielding
    before = expression(builder, frame, node.iter, before)
    when: When = "running" if isinstance(node, ast.AsyncFor) else frame.times.of(node.iter)
    head = _point(builder, frame, "loop", node, before, when)
    around = _turns(builder, frame, node.body, {head}, head)
    after = body(builder, frame, node.orelse, {head}) | around.breaks
    if isinstance(node, ast.AsyncFor) and builder.beside.get("", None):
        after |= builder.waited([""], {})
    return after


def _generator(builder: Builder, frame: Frame, node: ast.AsyncFor, before: Frontier) -> Frontier | None:
    """`async for` over a generator of the program: its turns are where the generator yields."""
    if not isinstance(node.iter, ast.Call):
        return None
    loop = Loop()

    def turn(last: Frontier) -> Frontier:
        frame.loops.append(loop)
        with builder.perhaps(repeated=True):
            after = body(builder, frame, node.body, last)
        frame.loops.pop()
        return after | loop.continues

    last = entered(builder, frame, node.iter, before, turn)
    return None if last is None else body(builder, frame, node.orelse, last) | loop.breaks


def _try(builder: Builder, frame: Frame, node: ast.Try | ast.TryStar, before: Frontier) -> Frontier:
    around, frame.exits = frame.exits, set()
    first = len(builder.vertices)
    last = body(builder, frame, node.body, before)
    within = before | {str(number) for number in range(first, len(builder.vertices))}
    last = body(builder, frame, node.orelse, last)
    if node.handlers:
        caught = {_point(builder, frame, "try", node, within, "running")}
        with builder.perhaps():
            for handler in node.handlers:
                last |= body(builder, frame, handler.body, caught)
    within |= {str(number) for number in range(first, len(builder.vertices))}
    if node.finalbody:
        leaving = frame.exits
        over = body(builder, frame, node.finalbody, last | within)
        frame.exits = set(over) if leaving else set()
        last = over if last else set()
    frame.exits |= around
    return last


def _with(
    builder: Builder, frame: Frame, items: Sequence[ast.withitem], statements: Sequence[ast.stmt], before: Frontier
) -> Frontier:
    if not items:
        return body(builder, frame, statements, before)
    item, rest = items[0], items[1:]

    def inside(last: Frontier) -> Frontier:
        return _with(builder, frame, rest, statements, last)

    if isinstance(item.context_expr, ast.Call):
        whole = entered(builder, frame, item.context_expr, before, inside)
        if whole is not None:
            return whole
    before = expression(builder, frame, item.context_expr, before)
    return inside(before)

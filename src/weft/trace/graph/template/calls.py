"""Expressions of a workflow: what they call, one after the other or beside each other."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

from weft.core.errors import BadInput
from weft.core.workflow import Workflow
from weft.trace.graph.shape import Edge
from weft.trace.graph.template.frame import Builder, Frame, Frontier
from weft.trace.graph.template.meaning import NOTHING, Agent, Beside, Effect, Meaning, Nothing, meaning
from weft.trace.graph.template.scope import Helper, Scope, helper_of
from weft.trace.graph.template.when import Times, When, later

DEEPEST = 30
"""Calls within calls that are walked."""
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


def expression(builder: Builder, frame: Frame, node: ast.expr, before: Frontier, *, holder: str = "") -> Frontier:
    """`holder`: the name that the value is assigned to."""
    walk = partial(expression, builder, frame)
    match node:
        case ast.Await(value=ast.Call() as call):
            return _call(builder, frame, call, before, waits=True, holder=holder)
        case ast.Await(value=value):
            return _wait(builder, frame, value, walk(value, before))
        case ast.Call():
            return _call(builder, frame, node, before, waits=False, holder=holder)
        case ast.BoolOp(values=[first, *rest]):
            before = walk(first, before)
            for one in rest:
                with builder.perhaps():
                    before = before | walk(one, before)
            return before
        case ast.IfExp(test=test, body=one, orelse=other):
            before = walk(test, before)
            point = builder.control("branch", frame.helper.file, node.lineno, frame.times.of(test))
            builder.link(before, point)
            with builder.perhaps():
                return walk(one, {point}, holder=holder) | walk(other, {point}, holder=holder)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            return _comprehension(builder, frame, node, node.generators, before, holder)
        case ast.Yield(value=value) if frame.on_yield is not None:
            before = before if value is None else walk(value, before)
            return frame.on_yield(before)
        case ast.Lambda():
            return before
    for child in ast.iter_child_nodes(node):
        for one in [child] if isinstance(child, ast.expr) else _inner(child):
            before = walk(one, before, holder=holder if isinstance(node, ast.List | ast.Tuple | ast.Dict) else "")
    return before


def _inner(node: ast.AST) -> list[ast.expr]:
    return [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]


def _comprehension(
    builder: Builder, frame: Frame, node: Any, generators: list[ast.comprehension], before: Frontier, holder: str
) -> Frontier:
    if not generators:
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for one in elements:
            before = expression(builder, frame, one, before, holder=holder)
        return before
    first, rest = generators[0], generators[1:]
    before = expression(builder, frame, first.iter, before)
    head = builder.control(
        "loop", frame.helper.file, node.lineno, "running" if first.is_async else frame.times.of(first.iter)
    )
    builder.link(before, head)
    with builder.perhaps(repeated=True):
        last: Frontier = {head}
        for test in first.ifs:
            last = expression(builder, frame, test, last)
        last = _comprehension(builder, frame, node, rest, last, holder)
    builder.edges += [Edge(one, head, "back") for one in sorted(last - {head}, key=int)]
    if first.is_async and builder.beside.get(""):
        return {head} | builder.waited([""], {})
    return {head}


# --- waits ----------------------------------------------------------------------------------------------------------


def _wait(builder: Builder, frame: Frame, value: ast.expr, before: Frontier) -> Frontier:
    """`await` of something that was called before: a task, a coroutine, a child."""
    names = [node.id for node in ast.walk(value) if isinstance(node, ast.Name)]
    child = frame.spawned and any(_is_child(frame, name) for name in names)
    over = builder.waited(names, _aliases(frame))
    if child:
        frame.awaited += 1
        return builder.effect("child", "*", frame, value, before | over)
    return before | over


def _is_child(frame: Frame, name: str) -> bool:
    values = [*frame.scope.assigned.get(name, ()), *frame.scope.parts.get(name, ())]
    return any(
        isinstance(node, ast.Call) and _attribute(node.func) == "spawn"
        for value in values
        for node in _through(frame, value)
    )


def _through(frame: Frame, value: ast.expr, depth: int = 0) -> Iterable[ast.AST]:
    for node in ast.walk(value):
        yield node
        if isinstance(node, ast.Name) and depth < 4:
            for other in frame.scope.assigned.get(node.id, ()):
                yield from _through(frame, other, depth + 1)


def _attribute(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _aliases(frame: Frame) -> dict[str, set[str]]:
    """By name: the names that its value was made of."""
    found: dict[str, set[str]] = {}
    for name, values in [*frame.scope.assigned.items(), *frame.scope.parts.items()]:
        found.setdefault(name, set()).update(n.id for v in values for n in ast.walk(v) if isinstance(n, ast.Name))
    return found


# --- calls ----------------------------------------------------------------------------------------------------------


def _call(
    builder: Builder, frame: Frame, call: ast.Call, before: Frontier, *, waits: bool, holder: str = ""
) -> Frontier:
    means = meanings(builder, frame, call.func)
    beside = next((one for one in means if isinstance(one, Beside)), None)
    if beside is None and _attribute(call.func) == "create_task":
        beside = Beside("task")
    if beside is not None:
        return _beside(builder, frame, call, before, beside.how, holder, waits)
    if isinstance(call.func, ast.Attribute):
        before = expression(builder, frame, call.func.value, before, holder="")
    given = _attribute(call.func) in ("append", "add", "extend") and isinstance(call.func, ast.Attribute)
    kept = next((n.id for n in ast.walk(call.func) if isinstance(n, ast.Name)), "") if given else ""
    for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
        before = expression(builder, frame, argument, before, holder=kept)
    if waits and _attribute(call.func) == "result" and frame.spawned and isinstance(call.func, ast.Attribute):
        return _wait(builder, frame, call.func.value, before)
    one = partial(_made, builder, frame, call)
    after: Frontier = set()
    with builder.perhaps() if len(means) > 1 else nullcontext():
        for mean in means:
            if waits or (isinstance(mean, Effect) and mean.at_once) or (isinstance(mean, Helper) and not mean.is_async):
                after |= one(mean, before)
            elif mean is not None and mean is not NOTHING:
                last = builder.line(partial(one, mean), before)
                builder.start(holder, last)
                after |= before
            else:
                after |= before
    if waits and builder.beside and any(mean is NOTHING for mean in means):
        after |= builder.waited(
            [n.id for a in call.args for n in ast.walk(a) if isinstance(n, ast.Name)], _aliases(frame)
        )
    return after


def meanings(builder: Builder, frame: Frame, node: ast.expr) -> list[Meaning]:
    found: list[Meaning] = []
    for value in frame.scope.meanings(node):
        mean = meaning(value, builder.module)
        if mean not in found:
            found.append(mean)
    return found


def _made(builder: Builder, frame: Frame, call: ast.Call, mean: Meaning, before: Frontier) -> Frontier:
    """What a call that is waited for makes."""
    match mean:
        case Nothing():
            return before
        case Effect(kind=kind, name=name):
            return builder.effect(kind, name, frame, call, before)
        case Agent():
            return builder.effect("agent", "*", frame, call, before)
        case Workflow():
            started = builder.effect("spawn", mean.name, frame, call, before)
            last = _child(builder, mean, started)
            return builder.effect("child", "*", frame, call, started | last)
        case Helper():
            return _helper(builder, frame, mean, _parameters(frame, mean, call), before)
    return builder.effect("dynamic", ast.unparse(call.func)[:40], frame, call, before)


def _child(builder: Builder, workflow: Workflow[..., Any], started: Frontier) -> Frontier:
    """The last vertices of a child, walked as a line of its own."""
    try:
        helper = helper_of(workflow.fn)
    except BadInput:
        return set()
    times: dict[str, When] = dict.fromkeys(Scope(helper).parameters, "start")
    return builder.line(lambda first: _walked(builder, helper, Scope(helper), times, None, first, child=True), started)


def _parameters(frame: Frame, helper: Helper, call: ast.Call) -> dict[str, tuple[Scope, ast.expr]]:
    names = [one.arg for one in (*helper.definition.args.posonlyargs, *helper.definition.args.args)]
    if names[:1] == ["self"] and isinstance(call.func, ast.Attribute):
        names = names[1:]
    given = dict(zip(names, (one for one in call.args if not isinstance(one, ast.Starred)), strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    return {name: (frame.scope, value) for name, value in given.items()}


def _helper(
    builder: Builder, frame: Frame, helper: Helper, given: dict[str, tuple[Scope, ast.expr]], before: Frontier,
    on_yield: Callable[[Frontier], Frontier] | None = None,
) -> Frontier:  # fmt: skip
    scope = Scope(helper, given)
    times = {name: frame.times.of(value) for name, (_, value) in given.items()}
    return _walked(builder, helper, scope, times, on_yield, before, outer=_outer(builder, helper))


def _outer(builder: Builder, helper: Helper) -> Times | None:
    return next((one.times for one in reversed(builder.stack) if one.scope is helper.outer), None)


def _walked(
    builder: Builder, helper: Helper, scope: Scope, times: dict[str, When],
    on_yield: Callable[[Frontier], Frontier] | None, before: Frontier, *, outer: Times | None = None,
    child: bool = False,
) -> Frontier:  # fmt: skip
    """The function's body; a call of one that is being walked leads back to its entry."""
    from weft.trace.graph.template.statements import body

    again = next((one for one in builder.stack if one.helper.key == helper.key), None)
    if again is not None or len(builder.stack) >= DEEPEST:
        again = again or builder.stack[-1]
        builder.edges += [Edge(one, again.entry, "back") for one in sorted(before, key=int)]
        return {again.leave}
    frame = Frame(helper, scope, Times(helper.definition, times, outer), on_yield)
    line = helper.definition.lineno
    frame.entry, frame.leave = builder.control("call", helper.file, line), builder.control("call", helper.file, line)
    builder.link(before, frame.entry)
    builder.stack.append(frame)
    last = body(builder, frame, helper.definition.body, {frame.entry}) | frame.exits
    if child:
        last = builder.end_children(frame, last)
    builder.stack.pop()
    builder.link(last, frame.leave)
    return {frame.leave}


def entered(
    builder: Builder, frame: Frame, call: ast.Call, before: Frontier, inside: Callable[[Frontier], Frontier]
) -> Frontier | None:
    """What is entered by `with` or gone over by `async for`, with what is done inside; None if it makes no difference
    to the graph but for its own expression."""
    stack = list(builder.stack)

    def back(last: Frontier) -> Frontier:
        """What the caller does at a `yield` is no call by the function that yields."""
        within, builder.stack = builder.stack, list(stack)
        after = inside(last)
        builder.stack = within
        return after

    for mean in meanings(builder, frame, call.func):
        if isinstance(mean, Beside) and mean.how == "group":
            return builder.line(inside, before)
        if isinstance(mean, Helper) and mean.yields:
            for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                before = expression(builder, frame, argument, before)
            return _helper(builder, frame, mean, _parameters(frame, mean, call), before, back)
        if mean is None or (isinstance(mean, Effect | Agent) and not getattr(mean, "at_once", False)):
            first = _made(builder, frame, call, mean, before) | before
            return inside(first) | _made(builder, frame, call, mean, inside(first))
    return None


# --- beside each other ----------------------------------------------------------------------------------------------


def _beside(
    builder: Builder, frame: Frame, call: ast.Call, before: Frontier, how: str, holder: str, waits: bool
) -> Frontier:
    if how == "spawn":
        return _spawn(builder, frame, call, before, holder)
    if how == "map":
        return _map(builder, frame, call, before, holder, waits)
    if how in ("group", "wait"):
        names = [node.id for one in call.args for node in ast.walk(one) if isinstance(node, ast.Name)]
        for one in call.args:
            before = expression(builder, frame, one, before)
        return before | (builder.waited(names, _aliases(frame)) if how == "wait" and builder.beside else set())
    if how == "task":
        last = builder.line(partial(_argument, builder, frame, call.args), before)
        builder.start(holder, last - before)
        return before
    point = {builder.control("fork", frame.helper.file, call.lineno)}
    builder.link(before, next(iter(point)))
    last = set()
    for one in call.args:
        last |= builder.line(partial(_argument, builder, frame, [one]), point)
    held = [one for one in call.args if not any(isinstance(node, ast.Call) for node in ast.walk(one))]
    names = [node.id for one in held for node in ast.walk(one) if isinstance(node, ast.Name)]
    if names and builder.beside:
        last |= builder.waited(names, _aliases(frame))
    join = builder.control("join", frame.helper.file, call.lineno)
    builder.link(last | point, join)
    if not waits:
        builder.start(holder, {join})
        return before
    return {join}


def _argument(builder: Builder, frame: Frame, arguments: Iterable[ast.expr], before: Frontier) -> Frontier:
    """What a task is made of; its coroutine runs in the new line."""
    for one in arguments:
        if isinstance(one, ast.Starred):
            one = one.value
        before = expression(builder, frame, one, before)
    return before


def _spawn(builder: Builder, frame: Frame, call: ast.Call, before: Frontier, holder: str) -> Frontier:
    for one in call.args[1:]:
        before = expression(builder, frame, one, before)
    frame.spawned += 1
    after: Frontier = set()
    found = frame.scope.meanings(call.args[0]) if call.args else []
    known: list[Workflow[..., Any] | None] = [one for one in found if isinstance(one, Workflow)]
    for workflow in known or [None]:
        started = builder.effect("spawn", workflow.name if workflow else "*", frame, call, before)
        if workflow is not None:
            builder.start(holder, _child(builder, workflow, started))
        after |= started
    return after


def _map(builder: Builder, frame: Frame, call: ast.Call, before: Frontier, holder: str, waits: bool) -> Frontier:
    for one in call.args[1:]:
        before = expression(builder, frame, one, before)
    when = later(*(frame.times.of(one) for one in call.args[1:2]))
    point = {builder.control("fork", frame.helper.file, call.lineno, when)}
    builder.link(before, next(iter(point)))
    last: Frontier = set()
    with builder.perhaps(repeated=True):
        for mean in meanings(builder, frame, call.args[0]) if call.args else []:
            last |= builder.line(partial(_made, builder, frame, call, mean), point)
    builder.edges += [Edge(one, next(iter(point)), "back") for one in sorted(last - point, key=int)]
    if not waits:
        builder.start(holder, last)
        return point
    join = builder.control("join", frame.helper.file, call.lineno)
    builder.link(last | point, join)
    return {join}

"""One call by a model, from its arguments to the words that it gets back.

Arguments are read, hooks look at the call, a person may be asked: all that in the workflow. Then the tool runs, which
is the one effect; its value is the result as the model sees it, so that the journal says what was shown. What fails
becomes words, too, unless it is no affair of the model's.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.approvals import Approvals
from weft.core.boundary import boundary
from weft.core.content import ToolCall, ToolResult
from weft.core.crossing import probed
from weft.core.errors import OURS, BadInput, Denied, NoProcess
from weft.tool.context import Report, in_body, in_step
from weft.tool.failure import ToolRetry, told
from weft.tool.parameters import Misfit, as_object
from weft.tool.result import json_of, parts_of

if TYPE_CHECKING:
    from weft.tool.declare import Tool

LARGE = 100_000
"""Length of a value that is written as a result in a thread."""
SHOWN = 2_000
"""Characters of the arguments that a person who is asked sees."""


async def carry_out(tool: Tool[..., Any], call: ToolCall, deps: Any, report: Report | None, where: str) -> ToolResult:
    """See `Tool.call`."""
    result = await _looked_at(tool, call, deps, report)
    if isinstance(result, ToolCall):
        result = await tool.work(result, deps, report, where)
    for hook in tool.after:
        seen = hook(call, result, in_body(call.id, deps, report))
        changed = await seen if inspect.isawaitable(seen) else seen
        if changed is not None:
            result = _checked(changed, hook, ToolResult)
    if (result.id, result.name) != (call.id, call.name):  # whatever a hook wrote: it answers this call
        result = msgspec.structs.replace(result, id=call.id, name=call.name)
    return result


def failed(call: ToolCall, error: Exception) -> ToolResult:
    """What the model is told of it."""
    return ToolResult.of(call.id, told(error), name=call.name, error=True)


async def _looked_at(tool: Tool[..., Any], call: ToolCall, deps: Any, report: Report | None) -> ToolCall | ToolResult:
    """The call as the hooks leave it, which see its arguments as an object that fits; or the result already."""
    if not tool.before:
        return call
    try:
        call = msgspec.structs.replace(call, arguments=as_object(call.arguments, tool.parameters.schema))
        tool.parameters.read(call.arguments)
        for hook in tool.before:
            seen = hook(call, in_body(call.id, deps, report))
            changed = await seen if inspect.isawaitable(seen) else seen
            if isinstance(changed, ToolResult):
                return changed
            if changed is not None:
                call = _checked(changed, hook, ToolCall)
    except (Misfit, ToolRetry, Denied) as error:
        return failed(call, error)
    return call


def _checked(changed: Any, hook: Any, kind: type) -> Any:
    if not isinstance(changed, kind):
        raise BadInput(f"the hook {hook!r} of a tool returned {changed!r}: return a {kind.__name__}, or None")
    return changed


async def worked(tool: Tool[..., Any], call: ToolCall, deps: Any, report: Report | None, where: str) -> ToolResult:
    """See `Tool.work`."""
    process = boundary()
    try:
        arguments = tool.parameters.read(call.arguments)
        await approved(tool, (), arguments)
        one = _answering(tool, call, deps, report)
        work = one._directly((), arguments) if process is None else process.step(one, (), arguments, where)
        return _as_result(await work, tool, call)
    except OURS:
        raise
    except Exception as error:
        return failed(call, error)


def _answering(tool: Tool[..., Any], call: ToolCall, deps: Any, report: Report | None) -> Tool[..., Any]:
    """The step that answers this one call: it runs the tool, and gives what the model is shown."""
    written, hidden = tool.filled, tool.hidden

    def given(arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments if hidden is None else {**arguments, hidden: in_step(call.id, deps, report)}

    async def later(**arguments: Any) -> Any:
        try:
            value = await probed(written)(**given(arguments))
            if isinstance(value, str | bytes | list | dict) and len(value) > LARGE:  # others run on this loop
                return await asyncio.to_thread(_as_data, value, tool, call)
            return _as_data(value, tool, call)
        except ToolRetry as error:
            return _as_data(failed(call, error), tool, call)

    def now(**arguments: Any) -> Any:
        try:
            return _as_data(probed(written)(**given(arguments)), tool, call)
        except ToolRetry as error:
            return _as_data(failed(call, error), tool, call)

    one = object.__new__(type(tool))
    one.__dict__.update(tool.__dict__)
    one.fn = later if tool.is_async else now
    return one


def _as_data(value: Any, tool: Tool[..., Any], call: ToolCall) -> Any:
    """The result as the journal holds it: plain data, which needs no class of Weft's to be read."""
    if isinstance(value, ToolResult):
        result = msgspec.structs.replace(value, id=call.id, name=call.name)
    else:
        result = ToolResult(id=call.id, name=call.name, response=parts_of(value, tool.limit))
    return msgspec.to_builtins(result, builtin_types=(bytes,))


def _as_result(data: Any, tool: Tool[..., Any], call: ToolCall) -> ToolResult:
    if not isinstance(data, dict) or data.get("type") != "tool_call_response":
        data = _as_data(data, tool, call)  # what a person said of a call whose outcome was unknown
    return msgspec.convert(data, ToolResult)


async def approved(tool: Tool[..., Any], args: tuple[Any, ...], arguments: Mapping[str, Any]) -> None:
    """Return when a person has approved of this call, if one is to be asked. Raises Denied."""
    if not tool.asks(args, dict(arguments)):
        return
    process = boundary()
    if process is None:
        raise NoProcess(f"{tool!r} is to be approved by a person: call it in a workflow, which can wait for one")
    from weft.runtime.effects import ask

    terms: Approvals = process.holder().image.approvals or Approvals()
    limited = {} if terms.timeout is None else {"timeout": terms.timeout, "default": terms.otherwise == "once"}
    escalate = None if terms.escalate_after is None else (terms.escalate_after, terms.escalate_to)
    by_name = tool.arguments(args, dict(arguments))
    ordered = {name: by_name[name] for name in (*tool.names, *by_name) if name in by_name}
    text = json_of(ordered)
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
    question = f"{tool.name} wants to run with {shown}. Allow it?"
    if not await ask(question, bool, queue=terms.queue, escalate=escalate, **limited):
        raise Denied("tool.call", tool.name, "a person said no, or nobody answered in time", "ask for something else")

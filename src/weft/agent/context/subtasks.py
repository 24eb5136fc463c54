"""A conversation as a tree of subtasks: the tools `begin_subtask` and `conclude`; and `recall`, for all that is folded.

When a subtask is concluded, all that was said in it makes room: the prompt goes on after the call of `begin_subtask` as
if that had returned the conclusion. What people said meanwhile stays. The tree is read off the messages themselves, so
a conversation that is gone on with, in whatever process, has it too. Method: docs/methods/subtask-tree.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from weft.agent.context.window import Branch, Fold, Window, outermost
from weft.core.content import ToolCall, ToolResult
from weft.core.errors import BadInput
from weft.model.message import Message
from weft.tool.declare import Tool
from weft.tool.toolset import Toolset

if TYPE_CHECKING:
    from weft.agent.agent import Agent

DEPTH = 8
"""Subtasks that may be open in one another."""
PAGES = 4
"""Pages that one answer may recall."""


async def begin_subtask(goal: str) -> str:
    """Begin a part of the work that needs several steps of which only the outcome matters later. Work on it, and end it
    by conclude: then you see its conclusion here, and its steps no more. Subtasks may have subtasks.

    Args:
        goal: What is to be found out or done.
    """
    raise NotImplementedError


async def conclude(conclusion: str) -> str:
    """End the innermost subtask. Call it alone.

    Args:
        conclusion: All of it that you will need: findings, names, numbers, what failed.
    """
    raise NotImplementedError


async def recall(id: str, page: int = 1) -> str:
    """Read again what is no longer shown: the steps of a finished subtask, turns that were left out, a folded result.

    Args:
        id: As it stands where they were: s1, c1, f1, ...
        page: Long ones have several.
    """
    raise NotImplementedError


TREE = Toolset(Tool(begin_subtask), Tool(conclude), Tool(recall))


# --- what the model is told -----------------------------------------------------------------------------------------


def control(
    window: Window, agent: Agent[Any], calls: Sequence[ToolCall], messages: Sequence[Message]
) -> dict[int, ToolResult]:
    """The results of those calls that are about the context, by their place among all of one reply."""
    context = agent.context
    mine = {at: call for at, call in enumerate(calls) if call.name in context.tools(window)}
    changing = [at for at, call in mine.items() if call.name != "recall"]
    recalling = [at for at in mine if at not in changing][:PAGES]
    found = {}
    for at, call in mine.items():
        try:
            given = TREE[call.name].parameters.read(call.arguments)
            if at in changing and at != changing[0]:
                raise BadInput("not done: one answer begins or concludes one subtask; go on with the next in the next")
            if call.name == "recall" and at not in recalling:
                raise BadInput(f"not done: one answer recalls at most {PAGES} pages")
            if call.name == "recall":
                text = window.recalled(messages, given["id"], given.get("page", 1), context.page(agent.model, window))
            elif call.name == "begin_subtask":
                text = _begun(window, given["goal"])
            else:
                text = _concluded(window, given["conclusion"], alone=len(calls) == 1)
        except BadInput as error:
            found[at] = ToolResult.of(call.id, str(error), name=call.name, error=True)
        else:
            found[at] = ToolResult.of(call.id, text, name=call.name)
    return found


def _begun(window: Window, goal: str) -> str:
    if not goal.strip():
        raise BadInput("goal is empty: say what is to be found out or done")
    if len(window.open) >= DEPTH:
        raise BadInput(
            f"{DEPTH} subtasks are open in one another, and no more can be: conclude {window.open[-1].id} first"
        )
    inside = f" inside {window.open[-1].id}" if window.open else ""
    return f"s{window.begun + 1} has begun{inside}. Conclude it when it is done."


def _concluded(window: Window, conclusion: str, alone: bool) -> str:
    if not window.open:
        raise BadInput("no subtask is open: there is nothing to conclude. Hand in, or begin one")
    if not alone:
        raise BadInput("not done: conclude alone, when you have seen what came of your other calls")
    if not conclusion.strip():
        raise BadInput("conclusion is empty: say what you will need of it; nothing else stays")
    return f"{window.open[-1].id} is finished."


# --- the tree, as the messages tell it ------------------------------------------------------------------------------


def follow(window: Window, messages: Sequence[Message]) -> None:
    """Look at what is new in the conversation: subtasks that were begun or concluded."""
    for at in range(window.read, len(messages)):
        for call, result in _answered(messages, at):
            if result.error or call.name not in TREE:
                continue
            try:
                given = TREE[call.name].parameters.read(call.arguments)
            except BadInput:
                continue  # somebody else's tool of this name
            if call.name == "begin_subtask":
                window.begun += 1
                window.open.append(Branch(f"s{window.begun}", given["goal"], at - 1, at, call))
            elif call.name == "conclude" and window.open:
                window.folds.append(_fold(window, window.open.pop(), given["conclusion"], messages, at + 1))
    window.read = len(messages)


def _answered(messages: Sequence[Message], at: int) -> Iterator[tuple[ToolCall, ToolResult]]:
    """The results in this message, each with the call before it."""
    calls = {call.id: call for call in messages[at - 1].calls} if at else {}
    return ((calls[one.id], one) for one in messages[at].results if one.id in calls)


def _fold(window: Window, branch: Branch, conclusion: str, messages: Sequence[Message], end: int) -> Fold:
    """The branch as a call that returned its conclusion, and what people said meanwhile."""
    text = f"{branch.id} is finished: {conclusion}\n[recall({branch.id!r}) shows its steps]"
    told = ToolResult.of(branch.call.id, text, name=branch.call.name)
    over = next((one for one in outermost(window.folds) if one.start <= branch.begin < one.end < end), None)
    if over is None:
        start, after, begun = branch.begin, branch.answer + 1, messages[branch.begin]
        results = tuple(told if one.id == told.id else one for one in window.seen(messages)[branch.answer].results)
    else:  # its beginning was compacted
        start = after = over.end
        begun, results = Message("assistant", branch.call), (told,)
    kept = window.outlasting(messages, after, end)
    return Fold(branch.id, branch.begin, start, end, (begun, Message("tool", results), *kept))

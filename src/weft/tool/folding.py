"""Tools' results with their repeats counted, before a model reads and pays for them.

    run = builtin.run_command.options(after=[folded])

A hook for one tool: of a result's lines with the same template the first is shown and how many there are; all status
codes and the places of errors stay (`weft.core.lines.fold`). The whole is kept, and the result says its ref
(`weft.tool.output`). What was made of a text is in the journal, so that a later version of Weft, which may know more
templates, changes no run that is under way. `weft.agent.Context(folded=...)` goes further: there, one result need not
show again what another has shown.
"""

from __future__ import annotations

from typing import Any

import msgspec

from weft.core.content import Text, ToolCall, ToolResult
from weft.core.step import primitive
from weft.tool.context import ToolContext

WORTH = 400
"""Characters of a text below which there is nothing to win."""
SHARE = 0.75
"""What is left must be no more than this, or the text stays as it is."""
MARKS = "* is a value that was left out, ×9 that there were nine such lines, 2…7 the least and the most"
"""What stands in a folded text, for who reads it."""


def worth_folding(text: str) -> bool:
    """Whether a text is long, and no list of names, of which each is wanted."""
    lines = [line.split() for line in text.splitlines()]
    return len(text) >= WORTH and sum(len(words) == 1 for words in lines) <= sum(len(words) > 1 for words in lines)


def shorter(text: str, folded: str) -> str:
    """The folded text; an empty one if it is hardly shorter than the text."""
    return folded if len(folded) <= SHARE * len(text) else ""


@primitive(name="output.fold", effect="idempotent", needs=())
def fold_text(text: str) -> str:
    """The text with its repeats counted and the ref of the whole, which is kept; as it is, if that is hardly shorter or
    can't be kept."""
    from weft.core.lines import fold
    from weft.tool.output import Collector

    short = fold(text)
    if not shorter(text, short):
        return text
    whole = Collector(limit=1)
    whole.add(text.encode("utf-8", "replace"))
    ref = whole.done().ref
    return text if ref is None else shorter(text, f"{short}\n[folded: {MARKS}; output.read({ref!r}) shows all]") or text


async def folded(call: ToolCall, result: ToolResult, context: ToolContext[Any]) -> ToolResult | None:
    """For `after=[...]` of a tool: its longer texts, folded. What failed stays as it is."""
    if result.error:
        return None
    parts = [
        msgspec.structs.replace(part, content=await fold_text(part.content))
        if isinstance(part, Text) and worth_folding(part.content)
        else part
        for part in result.response
    ]
    return msgspec.structs.replace(result, response=tuple(parts))

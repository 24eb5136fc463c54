"""Tools' results with their repeats counted, before a model reads and pays for them.

    run = builtin.run_command.options(after=[folded])

A hook: of a result's lines with the same template the first is shown and how many there are; all status codes and the
places of errors stay (`weft.core.lines.fold`). What was made of a text is in the journal, so that a later version of
Weft, which may know more templates, changes no run that is under way.
"""

from __future__ import annotations

from typing import Any

import msgspec

from weft.core.content import Text, ToolCall, ToolResult
from weft.core.step import primitive
from weft.tool.context import ToolContext

WORTH = 400
"""Characters of a text below which there is nothing to win."""
NOTE = "\n[folded: * is a value that was left out, ×N says how many such lines there were]"


@primitive(name="output.fold", effect="pure", needs=())
def fold_text(text: str) -> str:
    """The text with its repeats counted; as it is, if that is not shorter."""
    from weft.core.lines import fold

    short = fold(text) + NOTE
    return short if len(short) < len(text) else text


async def folded(call: ToolCall, result: ToolResult, context: ToolContext[Any]) -> ToolResult | None:
    """For `after=[...]` of a tool: its longer texts, folded."""
    parts = []
    for part in result.response:
        if isinstance(part, Text) and len(part.content) >= WORTH:
            part = msgspec.structs.replace(part, content=await fold_text(part.content))
        parts.append(part)
    return msgspec.structs.replace(result, response=tuple(parts))

"""Results of tools with their repeats counted: `Context(folded=("run_command",))`.

A view, as all of the context is: the conversation has the whole results, and `recall` shows them. One folder goes along
with the conversation (`weft.core.lines.fold`), so that what one result has shown, a later one only counts, until
something is taken out of the prompt. What a result was shown as is an effect, `agent.fold`: a later version of Weft,
which may fold otherwise, changes no run under way. The folder itself is filled again in a replay, from the same results
in the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING

import msgspec

from weft.agent.context.window import Window
from weft.core.content import Text, ToolResult
from weft.core.step import primitive
from weft.model.message import Message, Part
from weft.tool.folding import MARKS, shorter, worth_folding

if TYPE_CHECKING:
    from weft.core.lines import Folder

AGAIN = f"{MARKS}, “… 3 again” that three lines stood in an earlier result"


class Repeats:
    """Those of one conversation."""

    def __init__(self) -> None:
        self._folder: Folder | None = None
        self._explained = False
        """Whether the prompt says what the marks mean."""
        self._gone = 0
        """How often something had been taken out of the prompt when it was looked at last."""

    async def fold(self, window: Window, messages: Sequence[Message], tools: Collection[str]) -> None:
        """Look at what is new in the conversation, for results of these tools."""
        while window.looked < len(messages):
            at, window.looked = window.looked, window.looked + 1  # if this is given up, the message stays as it is
            late = {id(part): result.name for result in window.came_with(at) for part in result.response}
            parts = [await self._part(window, part, tools, late) for part in messages[at].parts]
            if any(one is not other for one, other in zip(parts, messages[at].parts, strict=True)):
                window.short[at] = msgspec.structs.replace(messages[at], parts=tuple(parts))

    async def _part(self, window: Window, part: Part, tools: Collection[str], late: Mapping[int, str]) -> Part:
        """As the model sees it. `late`: the tools whose results these texts are, by `id`."""
        if isinstance(part, ToolResult) and not part.error:
            late = {**dict.fromkeys(map(id, part.response), part.name), **late}
            inside = [await self._part(window, one, tools, late) for one in part.response]
            same = all(one is other for one, other in zip(inside, part.response, strict=True))
            return part if same else msgspec.structs.replace(part, response=tuple(inside))
        if isinstance(part, Text) and late.get(id(part)) in tools and worth_folding(part.content):
            return await self._text(window, part, late[id(part)])
        return part

    async def _text(self, window: Window, part: Text, tool: str) -> Text:
        if self._folder is None:
            from weft.core.lines import Folder

            self._folder = Folder()
        if self._gone != window.gone:  # what was shown may not be there any more
            self._gone, self._explained = window.gone, False
            self._folder.forget()
        name = f"f{len(window.wholes) + 1}"
        what = "folded" if self._explained else f"folded: {AGAIN}"
        made = shorter(part.content, f"{self._folder.fold(part.content)}\n[{what}; recall({name!r}) shows all]")
        one = copy(folded)
        one.fn = lambda id, tool, characters: made
        text = await one(name, tool, len(part.content))
        if not text:
            return part
        self._explained = True
        window.wholes[name] = part.content
        return msgspec.structs.replace(part, content=text)


@primitive(name="agent.fold", effect="pure", needs=(), cost={"effects": 0})
def folded(id: str, tool: str, characters: int) -> str:
    """What the journal says of a result of so many characters: what is shown of it, and recalled by `id`; an empty text
    if it stays as it is. What was made of the result is given by `Repeats`."""
    return ""

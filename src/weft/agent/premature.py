"""The use of a result that the model has not been told: refused, with what to do instead.

Two signs of it can be seen. The handle itself stands where a value belongs (`"h3"`, `"$h3.id"`, `"<result of h3>"`). Or
a parameter's values come out of another tool's results (`@tool(sources={"order_id": "place_order"})`), such a call is
under way, and the value stands in nothing that was said to the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from weft.agent.reference import KEY, literals, named

if TYPE_CHECKING:
    from weft.agent.handles import Handle


def premature(one: Handle, untold: Sequence[Handle], words: Iterable[str]) -> str:
    """Why this call uses what it can't know yet; empty if it does not. `untold`: calls whose results were not told;
    `words`: what was told."""
    given = one.call.arguments
    pending = {other.id for other in untold if other.id}
    early = next((id for id in named(given) if id in pending), None) if pending else None
    if early is not None:
        return (
            f"{early} is the handle of a call whose result you have not been told yet, and no value. "
            f"{_instead(early, 'in its place')}"
        )
    if one.tool is None or not isinstance(given, dict) or not one.tool.sources:
        return ""
    texts: list[str] | None = None
    for parameter, sources in one.tool.sources.items():
        source = next((other for other in untold if other.tool is not None and other.tool.name in sources), None)
        if source is None:
            continue
        texts = [*words] if texts is None else texts
        for value in literals(given.get(parameter)):
            if not _stands_in(value, texts):
                return _made_up(parameter, value, source)
    return ""


def _made_up(parameter: str, value: Any, source: Handle) -> str:
    what = f"{parameter}={value!r} stands in nothing that you were told, and comes out of results of {source.name}"
    if not source.id:
        return f"{what}, which is called in this very turn: call again when you have its result"
    return f"{what}, which is under way as {source.id}. {_instead(source.id, 'as this argument')}"


def _instead(id: str, where: str) -> str:
    return (
        f'Write {{"{KEY}": "{id}"}} {where}, or for a part of it {{"{KEY}": "{id}.items[0].name"}}: then the call is '
        f"made when the result is there. Or wait for it."
    )


def _stands_in(value: Any, texts: Sequence[str]) -> bool:
    """Whether it was said: as a word of its own."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    whole = re.compile(rf"(?<![\w.]){re.escape(text)}(?!\w|\.\d)")
    return any(whole.search(one) for one in texts)

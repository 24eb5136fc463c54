"""Bodies of requests: settings that were given, what the user puts in by hand, and the tool that is to be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.core.errors import BadInput
from weft.model.request import Request


def given(**settings: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The body with `more` put over it, object by object."""
    both = {**body}
    for name, value in more.items():
        mine = both.get(name)
        both[name] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both


def named_tool(request: Request) -> str:
    """The tool that is to be called. Raises BadInput if it is none of those given."""
    names = [tool.name for tool in request.tools]
    if request.tool_choice not in names:
        raise BadInput(
            f"tool_choice={request.tool_choice!r} is none of the tools given ({', '.join(names) or 'none'}); "
            "write 'auto', 'none', 'required' or the name of one"
        )
    return request.tool_choice

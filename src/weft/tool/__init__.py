"""Tools: functions that a model may call (`tool`, `Tool`, `Toolset`), and steps by Weft itself, each needing what it
does: `weft.tool.files`, `.git`, `.http`, `.python`, `.sandbox`, `.shell`, and `.output` for what they say at length."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.core.content import ToolCall as ToolCall
    from weft.core.content import ToolResult as ToolResult
    from weft.core.content import ToolSpec as ToolSpec
    from weft.tool.context import Progress as Progress
    from weft.tool.context import ToolContext as ToolContext
    from weft.tool.declare import Tool as Tool
    from weft.tool.declare import tool as tool
    from weft.tool.failure import ToolRetry as ToolRetry
    from weft.tool.toolset import Toolset as Toolset

_HOMES = {
    "Progress": "tool.context", "Tool": "tool.declare", "ToolCall": "core.content", "ToolContext": "tool.context",
    "ToolResult": "core.content", "ToolRetry": "tool.failure", "ToolSpec": "core.content", "Toolset": "tool.toolset",
    "tool": "tool.declare",
}  # fmt: skip
_TOOLS = ("builtin", "files", "folding", "git", "http", "mcp", "output", "python", "sandbox", "shell")

__all__ = [*sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"weft.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _TOOLS:
        return import_module(f"weft.tool.{name}")
    known = ", ".join((*sorted(_HOMES), *_TOOLS))
    raise AttributeError(f"module 'weft.tool' has no attribute {name!r}; it has {known}")

"""The Model Context Protocol, both ways: other people's tools as tools of an agent, and this program's as theirs.

    clock = mcp.Server("time", command=["mcp-server-time"])
    tools = await clock.tools()

A server is declared, not opened: it is started when it is first used, in a sandbox of its own, shared by all that this
process runs, and started again when it dies. What it may touch its declaration says; what it says of itself is
approved once, and again when it changes. Needs the extra `mcp`: pip install 'weft[mcp]'.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.tool.mcp.connect import close as close
    from weft.tool.mcp.content import Prompt as Prompt
    from weft.tool.mcp.content import Reply as Reply
    from weft.tool.mcp.content import Resource as Resource
    from weft.tool.mcp.errors import McpError as McpError
    from weft.tool.mcp.errors import ServerFailed as ServerFailed
    from weft.tool.mcp.errors import ServerMisfit as ServerMisfit
    from weft.tool.mcp.errors import ServerRefused as ServerRefused
    from weft.tool.mcp.errors import ServerSilent as ServerSilent
    from weft.tool.mcp.errors import ToolFailed as ToolFailed
    from weft.tool.mcp.errors import ToolsChanged as ToolsChanged
    from weft.tool.mcp.questions import Question as Question
    from weft.tool.mcp.server import Server as Server
    from weft.tool.mcp.settings import declared as declared
    from weft.tool.mcp.settings import servers as servers

_HOMES = {
    "close": "connect", "Prompt": "content", "Reply": "content", "Resource": "content", "McpError": "errors",
    "ServerFailed": "errors", "ServerMisfit": "errors", "ServerRefused": "errors", "ServerSilent": "errors",
    "ToolFailed": "errors", "ToolsChanged": "errors", "Question": "questions", "Server": "server",
}  # fmt: skip
_DECLARED = ("declared", "servers")

__all__ = [*sorted(_HOMES), *_DECLARED]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"weft.tool.mcp.{_HOMES[name]}"), name)
    elif name in _DECLARED:
        value = getattr(import_module("weft.tool.mcp.settings"), name)
    else:
        raise AttributeError(f"module 'weft.tool.mcp' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value

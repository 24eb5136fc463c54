"""What can go wrong with a server of the Model Context Protocol. Each says which server, what it did and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from weft.core.errors import WeftError


class McpError(WeftError):
    """Base of what goes wrong with a server."""


class ServerFailed(McpError):
    """The server could not be started or reached, or it ended or broke off in the middle."""


class ServerSilent(McpError, TimeoutError):
    """The server did not answer in time."""


class ServerMisfit(McpError):
    """What the server said is not what the protocol, or its own schema, allows."""


class ServerRefused(McpError):
    """The server answered with an error. `code`: the protocol's number for it."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message, code)

    def __str__(self) -> str:
        return str(self.args[0])


class ToolFailed(McpError):
    """The tool was called, and says that it failed: the message is its own."""


class ToolsChanged(McpError):
    """A server offers tools other than those that were approved. `changes` says which, a line each."""

    def __init__(self, server: str, changes: Sequence[str]) -> None:
        self.server = server
        self.changes = tuple(changes)
        super().__init__(server, self.changes)

    def __str__(self) -> str:
        what = "; ".join(self.changes[:5]) + (" ..." if len(self.changes) > 5 else "")
        return (
            f"the MCP server {self.server!r} offers what nobody approved: {what}. A model reads a description as an "
            f"instruction: look at it with `weft mcp show {self.server}`, and if it is right, approve it with "
            f"`weft mcp approve {self.server}`"
        )

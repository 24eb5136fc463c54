"""What to start, or where to connect to: a server's declaration, with what a step was allowed of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from weft.core.crossing import crossing, workspace
from weft.core.pattern import real_path
from weft.core.resource import requests
from weft.tool.mcp import reached
from weft.tool.mcp.server import Server, opened


@dataclass(frozen=True)
class Plan:
    """A server as it is to be started or reached, decided in a step: what its folders and secrets really are."""

    server: Server
    workspace: str
    env: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    folder: str | None = None
    address: str = ""

    @property
    def key(self) -> str:
        """What makes two of them the same."""
        server = self.server
        parts = (
            server.name, tuple(server.command), server.url, server.sandbox, server.network, server.revision,
            server.limits, id(server.answer), self.workspace, sorted(self.env.items()),
            sorted(self.headers.items()), self.read, self.write, self.folder, self.address,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


async def plan(server: Server) -> Plan:
    """What to connect to, in a step that may. Raises Denied, SecretUnset, ServerFailed."""
    if server.url:
        address = await reached.address_of(server.name, server.url)
        return Plan(server, workspace(), headers=opened(server.headers), address=address)
    read, write = _places(server, "file.read"), _places(server, "file.write")
    folder = None if server.folder is None else real_path(server.folder, workspace())
    return Plan(server, workspace(), opened(server.env), read=read, write=write, folder=folder)


def _places(server: Server, action: str) -> tuple[str, ...]:
    """The folders that may be read, or written, as they were authorised: what a link leads to by now counts for
    nothing."""
    if not server.sandbox:
        return ()
    here = crossing()
    if here is None:
        asked = [one for named, said in server.reach() if named == action for one in requests(named, said, workspace())]
    else:
        asked = [one for one in here.requests if one.action == action]
    found = tuple(one.resource for one in asked)
    return found[: len(server.read)] if action == "file.read" else found

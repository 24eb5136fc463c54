"""A server of the Model Context Protocol, declared: what to run or where to reach it, and what it may touch.

    clock = Server("time", command=["mcp-server-time"])
    repository = Server("git", command=["mcp-server-git"], read=["./"], effect="pure")
    issues = Server("issues", url="https://example.com/mcp", headers={"Authorization": ("Bearer ", token)})

A server that is run gets a sandbox of its own: the folders that it is given, the variables that it is given, no network
and no other process. Who uses it must be allowed to run it there (`sandbox:` of the command) and what it is given:
`read:` and `write:` of the folders, `secret:` of the secrets, `net:anywhere:0` for a network; without the sandbox,
`shell:` of the command. A server that is reached needs `net:` of its host. Each tool needs `tool:NAME/TOOL`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from weft.core.errors import BadInput
from weft.core.pattern import url_resource
from weft.core.resources import Resources, resources_of
from weft.core.secret import Secret
from weft.core.step import Effect

if TYPE_CHECKING:
    from weft.core.content import Content
    from weft.tool.mcp.content import Prompt, Resource, Said
    from weft.tool.mcp.questions import Answer, Question
    from weft.tool.toolset import Toolset

Revision = Literal["newest", "2026-07-28", "2025-11-25"]
Value = str | Secret | tuple[str | Secret, ...]
"""A variable's or header's value: a text, a secret, or pieces of both that belong together: ``("Bearer ", token)``."""

ANYWHERE = "anywhere:0"
"""What a server with a network connects to, as far as a right is concerned."""
DEFAULT = Resources(memory="1G", pids=256, disk="500M")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Server:
    """A server that is run (`command`) or reached (`url`, streamable HTTP). `name` stands for it in rights, in the
    journal and in the list of what was approved.

    `env`: all of its environment but PATH, HOME, TMPDIR and LANG. `headers`: sent with each request. `read`, `write`:
    folders that it sees, relative to the workspace; `folder`: which of them it runs in. `network`: it may reach what
    this machine reaches. `sandbox=False`: it runs as you do, with all that you may. `limits`: what it may take of
    the machine. `only`: the tools to use of it. `effect`: what its tools are at most, as for a step; what a server says
    of its own tools can only make it less (a tool that calls itself destructive is never run twice); `effects`: the
    same of single tools, and then nothing makes it less. `timeout`: seconds for a call, `start`: for its start;
    `idle`: seconds without a call after which it is ended. `changed`: what happens when it offers what nobody approved:
    "fail" raises ToolsChanged, "ask" asks a person. `first`: whether what it offers the first time is taken as
    approved ("approve"), or needs approval as well ("fail", "ask"). `answer`: a function that answers the server's
    questions; without it a person is asked.

    Raises BadInput for what cannot be meant.
    """

    name: str
    command: Sequence[str] = ()
    url: str = ""
    env: Mapping[str, Value] = field(default_factory=dict)
    headers: Mapping[str, Value] = field(default_factory=dict)
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    folder: str | None = None
    network: bool = False
    sandbox: bool = True
    limits: Mapping[str, Any] | Resources | None = None
    only: Sequence[str] | None = None
    effect: Effect = "at_most_once"
    effects: Mapping[str, Effect] = field(default_factory=dict)
    revision: Revision = "newest"
    timeout: float = 60.0
    start: float = 30.0
    idle: float = 300.0
    changed: Literal["fail", "ask"] = "fail"
    first: Literal["approve", "fail", "ask"] = "approve"
    answer: Callable[[Question], Answer | Awaitable[Answer]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BadInput(f"Server({self.name!r}): a server's name is up to 64 letters, digits, _ and -")
        if bool(self.command) == bool(self.url):
            raise self._bad("give command=[...] to run it, or url= to reach it, one of the two")
        if self.url:
            self._check_reached()
        else:
            self._check_run()
        for effect in (self.effect, *self.effects.values()):
            if effect not in get_args(Effect):
                raise self._bad(f"effect={effect!r} must be one of {', '.join(get_args(Effect))}")
        if self.revision not in get_args(Revision):
            raise self._bad(f"revision={self.revision!r} must be one of {', '.join(get_args(Revision))}")
        if min(self.timeout, self.start, self.idle) <= 0:
            raise self._bad("timeout, start and idle are seconds, above 0")
        if self.changed not in ("fail", "ask") or self.first not in ("approve", "fail", "ask"):
            raise self._bad("changed is 'fail' or 'ask', first is 'approve', 'fail' or 'ask'")
        object.__setattr__(self, "limits", resources_of(self.limits))

    def _check_reached(self) -> None:
        if not re.match("https?://", self.url, re.IGNORECASE):
            raise self._bad(f"url={self.url!r} is no web address: write it as https://host/path")
        url_resource(self.url)
        if self.read or self.write or self.folder or self.env or self.network or not self.sandbox or self.limits:
            raise self._bad("env, read, write, folder, network, sandbox and limits are of a server that is run")

    def _check_run(self) -> None:
        if isinstance(self.command, str) or not all(
            isinstance(word, str) and "\0" not in word for word in self.command
        ):
            raise self._bad(f"command={self.command!r} must be a list of texts, such as ['mcp-server-time']")
        if self.headers:
            raise self._bad("headers are of a server that is reached")
        if not self.sandbox and (self.read or self.write or self.limits):
            raise self._bad("without a sandbox nothing keeps it to read, write or limits; leave them out")
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise self._bad(f"env={{{name!r}: ...}}: names of variables are letters, digits and _")

    def _bad(self, why: str) -> BadInput:
        return BadInput(f"Server({self.name!r}): {why}")

    def reach(self) -> Iterator[tuple[str, Any]]:
        """What must be allowed to use it at all, as `needs` of a step."""
        if self.url:
            yield "net.connect", self.url
        elif self.sandbox:
            yield "sandbox.run", list(self.command)
            yield from (("file.read", str(path)) for path in (*self.read, *self.write))
            yield from (("file.write", str(path)) for path in self.write)
            if self.network:
                yield "net.connect", ANYWHERE
        else:
            yield "shell.run", list(self.command)
        for value in (*self.env.values(), *self.headers.values()):
            for piece in value if isinstance(value, tuple | list) else (value,):
                if isinstance(piece, Secret):
                    yield "secret.open", piece.name

    # --- using it -------------------------------------------------------------------------------------------------

    async def tools(self) -> Toolset:
        """Its tools, in the order of their names. In a workflow that is one effect; so is each call of one.

        Raises ToolsChanged if nobody approved what it offers now, ServerMisfit for what no model could be shown, and
        McpError for a server that fails."""
        from weft.tool.mcp.tools import toolset

        return await toolset(self)

    async def approve(self) -> tuple[str, ...]:
        """Take what it offers now as approved; what that changed, a line each. For a script of yours: a run can't
        approve for itself, and raises BadInput (`changed="ask"` asks a person)."""
        from weft.tool.mcp.tools import approve

        return await approve(self)

    async def resources(self) -> list[Resource]:
        """The resources that it offers, and templates of more. An effect."""
        from weft.tool.mcp.offers import resources

        return await resources(self)

    async def read_resource(self, uri: str) -> list[Content]:
        """What a resource holds: texts and blobs. An effect that needs `tool:NAME/resource/URI`."""
        from weft.tool.mcp.offers import read_resource

        return await read_resource(self, uri)

    async def prompts(self) -> list[Prompt]:
        """The prompts that it offers. An effect."""
        from weft.tool.mcp.offers import prompts

        return await prompts(self)

    async def prompt(self, name: str, /, **arguments: str) -> list[Said]:
        """The messages of a prompt, filled in. An effect that needs `tool:NAME/prompt/NAME`."""
        from weft.tool.mcp.offers import prompt

        return await prompt(self, name, arguments)

    async def changes(self) -> int:
        """How often it said, since this process is connected to it, that what it offers has changed. An effect."""
        from weft.tool.mcp.offers import changes

        return await changes(self)

    async def close(self) -> None:
        """End its process, or the connection to it; the next call makes another. Of this process only."""
        from weft.tool.mcp.connect import close

        await close(self.name)


def opened(values: Mapping[str, Value]) -> dict[str, str]:
    """The values with their secrets in them: in a step that may open those. Raises Denied, SecretUnset."""
    found = {}
    for name, value in values.items():
        pieces = value if isinstance(value, tuple | list) else (value,)
        found[name] = "".join(piece.reveal() if isinstance(piece, Secret) else str(piece) for piece in pieces)
    return found

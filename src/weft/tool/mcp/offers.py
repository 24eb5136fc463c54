"""A server's resources and prompts. Each use of them is one journaled effect."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from weft.core.content import Content
from weft.core.step import Effect, Primitive
from weft.tool.mcp.connect import use
from weft.tool.mcp.connection import Connection
from weft.tool.mcp.content import Prompt, Resource, Said
from weft.tool.mcp.server import Server

T = TypeVar("T")


async def resources(server: Server) -> list[Resource]:
    async def ask(connection: Connection) -> list[Resource]:
        from weft.tool.mcp import client

        return await client.list_resources(connection)

    async def work(name: str) -> list[Resource]:
        return await use(server, ask)

    return await _step(server, "mcp.resources", work)(server.name)


async def read_resource(server: Server, uri: str) -> list[Content]:
    async def work(name: str, uri: str) -> list[Content]:
        async def ask(connection: Connection) -> list[Content]:
            from weft.tool.mcp import client

            return list(await client.read_resource(connection, uri))

        return await use(server, ask)

    return await _step(server, "mcp.read_resource", work, f"resource/{uri}")(server.name, uri)


async def prompts(server: Server) -> list[Prompt]:
    async def ask(connection: Connection) -> list[Prompt]:
        from weft.tool.mcp import client

        return await client.list_prompts(connection)

    async def work(name: str) -> list[Prompt]:
        return await use(server, ask)

    return await _step(server, "mcp.prompts", work)(server.name)


async def prompt(server: Server, name: str, arguments: Mapping[str, str]) -> list[Said]:
    async def work(server_name: str, name: str, arguments: Mapping[str, str]) -> list[Said]:
        async def ask(connection: Connection) -> list[Said]:
            from weft.tool.mcp import client

            return list(await client.get_prompt(connection, name, arguments))

        return await use(server, ask)

    return await _step(server, "mcp.prompt", work, f"prompt/{name}")(server.name, name, dict(arguments))


async def changes(server: Server) -> int:
    async def ask(connection: Connection) -> int:
        return connection.changes

    async def work(name: str) -> int:
        return await use(server, ask)

    return await _step(server, "mcp.changes", work, effect="idempotent")(server.name)


def _step(
    server: Server, name: str, work: Callable[..., Coroutine[Any, Any, T]], what: str = "", effect: Effect = "pure"
) -> Primitive[..., T]:
    """A step that uses the server, and needs what that needs; and the right to `what` of it, if it says so."""

    def needs(**_: Any) -> Iterator[tuple[str, Any]]:
        if what:
            yield "tool.call", f"{server.name}/{what}"
        yield from server.reach()

    return Primitive(work, name=name, effect=effect, needs=needs)

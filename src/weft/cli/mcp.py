"""`weft serve-mcp`, and `weft mcp`: what servers offer, and what was approved of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import INTERRUPTED, complain, reported
from weft.cli.place import default_store
from weft.cli.words import Allow, AsJson, Ask, Base, Deny, Everything, Spend, StorePlace
from weft.core.url import mask

if TYPE_CHECKING:
    from weft.core.workflow import Workflow
    from weft.tool.declare import Tool
    from weft.tool.mcp.server import Server

servers = typer.Typer(name="mcp", help="MCP servers: what they offer, and what was approved.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A server's name.")]
Where = Annotated[
    str | None,
    typer.Option("--file", "-f", help="The Python file or mcp.json that declares it; else weft.toml, .mcp.json."),
]


@reported
def serve_mcp(
    target: Annotated[str, typer.Argument(metavar="FILE[:NAME,...]", help="Its tools and workflows, or these.")],
    http: Annotated[
        bool, typer.Option("--http", help="Streamable HTTP, instead of standard input and output.")
    ] = False,
    host: Annotated[str, typer.Option(help="With --http: others than loopback need WEFT_MCP_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="With --http; 0 is any free one.")] = 0,
    host_name: Annotated[list[str] | None, typer.Option(help="Another name of this machine in requests.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="A page that may send requests, as https://host.")] = None,
    base: Base = None,
    everything: Everything = False,
    allow: Allow = None,
    asks: Ask = None,
    deny: Deny = None,
    budget: Spend = None,
    store: StorePlace = None,
) -> None:
    """Serve tools, workflows and agents of a file to any MCP client; each call is a run.

    What those may do is settled here, as for `weft run`. With WEFT_MCP_TOKEN set, callers over HTTP must give it.
    """
    import asyncio
    import os
    import sys
    from pathlib import Path

    from weft.cli.rights import policy_of, whole_policy
    from weft.tool.mcp.serve import prepare, served, server

    policy = whole_policy(policy_of(base, everything, allow, asks, deny, budget))
    prepare()
    offered = served(_named(target))
    token = os.environ.get("WEFT_MCP_TOKEN") or None

    async def main() -> None:
        import signal

        from weft import __version__
        from weft.runtime.runtime import Runtime
        from weft.tool.mcp.listening import over_http, over_pipes

        async with Runtime(store or default_store(), policy=policy) as runtime:
            made = server(Path(target.partition(":")[0]).stem, offered, runtime, __version__)
            if http:
                work = over_http(
                    made, host, port, token, host_name or (), origin or (),
                    lambda url: complain(f"serving {', '.join(one.name for one in offered)} at {url}"),
                )  # fmt: skip
            else:
                work = over_pipes(made)
            task = asyncio.ensure_future(work)

            def stop() -> None:
                runtime.closing = True  # what runs is left to be resumed, not cancelled
                task.cancel()

            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop)
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    sys.stderr.flush()
    os._exit(0)  # a thread may still wait for an input that nobody writes, or a step be in the middle of something


def _named(target: str) -> list[Tool[..., Any] | Workflow[..., Any]]:
    """What a file declares, or those of these names."""
    from weft.cli.load import load
    from weft.core.capability import nearest
    from weft.core.errors import BadInput
    from weft.core.workflow import registry
    from weft.tool.declare import Tool

    file, separator, words = target.rpartition(":")
    if not separator:
        file, words = target, ""
    module = load(file)
    here: dict[str, Tool[..., Any] | Workflow[..., Any]] = {
        one.name.removeprefix(f"{module.__name__}."): one
        for one in registry.values()
        if one.fn.__module__ == module.__name__
    }
    here |= {one.shown: one for one in vars(module).values() if isinstance(one, Tool)}
    if not here:
        raise BadInput(f"{file} declares nothing to serve: mark a function with @weft.tool.tool or @weft.workflow")
    if not words:
        return [*here.values()]
    found = []
    for name in words.split(","):
        if name not in here:
            near = nearest(name, here)
            raise BadInput(
                f"{file} has no tool or workflow {name!r}; "
                + (f"did you mean {near!r}?" if near else f"it has: {', '.join(sorted(here))}")
            )
        found.append(here[name])
    return found


# --- what others offer --------------------------------------------------------------------------------------------


@servers.command("list")
@reported
def list_(file: Where = None, json: AsJson = False) -> None:
    """The servers that are declared."""
    from weft.cli.render import out

    found = _declared(file)
    if json:
        out([{"name": one.name, "command": list(one.command), "url": mask(one.url)} for one in found.values()])
        return
    for name, one in found.items():
        print(f"{name}: {mask(one.url) or ' '.join(one.command)}")


@servers.command()
@reported
def show(name: Name, file: Where = None, json: AsJson = False) -> None:
    """Start a server, and show its tools as a model sees them, and what of them nobody approved."""
    from weft.cli.render import out

    offers, changes = _asked(_one(name, file))
    if json:
        tools = [{"name": o.name, "description": o.description, "schema": o.schema, "hints": o.hints} for o in offers]
        out({"tools": tools, "changes": changes})
        return
    for offer in offers:
        print(f"{offer.name}({', '.join(offer.schema.get('properties', {}))})")
        for line in offer.description.splitlines():
            print(f"    {line}")
    for line in changes:
        print(f"not approved: {line}")


@servers.command()
@reported
def approve(name: Name, file: Where = None) -> None:
    """Start a server, and take what it offers now as approved: in this folder's .weft/mcp.lock."""
    import os

    from weft.tool.mcp import pins

    offers, changes = _asked(_one(name, file))
    pins.approve(os.path.realpath(os.curdir), name, offers)
    for line in changes:
        print(line)
    print(f"{name}: {len(offers)} tools are approved")


@servers.command()
@reported
def forget(name: Name) -> None:
    """Take back what was approved of a server in this folder."""
    import os

    from weft.tool.mcp import pins

    known = pins.forget(os.path.realpath(os.curdir), name)
    print(f"{name}: nothing is approved" if known else f"{name}: nothing was approved")


def _asked(server: Server) -> tuple[list[Any], list[str]]:
    """What it offers now, and how that differs from what was approved."""
    import asyncio
    import os

    from weft.tool.mcp import connect, pins
    from weft.tool.mcp.tools import offers

    async def main() -> list[Any]:
        try:
            return await offers(server)
        finally:
            await connect.close()

    found = asyncio.run(main())
    return found, pins.changes(os.path.realpath(os.curdir), server.name, found)


def _declared(file: str | None) -> dict[str, Server]:
    from weft.cli.load import load
    from weft.tool.mcp.server import Server
    from weft.tool.mcp.settings import servers

    if file is None or file.endswith(".json"):
        return servers(file)
    return {one.name: one for one in vars(load(file)).values() if isinstance(one, Server)}


def _one(name: str, file: str | None) -> Server:
    from weft.core.capability import nearest
    from weft.core.errors import BadInput

    found = _declared(file)
    if name not in found:
        near = nearest(name, found)
        hint = f"did you mean {near!r}?" if near else f"declared: {', '.join(sorted(found)) or 'none'}"
        raise BadInput(f"no MCP server {name!r} is declared; {hint} Name the file that declares it with --file")
    return found[name]

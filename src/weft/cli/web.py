"""`weft web`: the page on which a person sees what happened, and what happens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import complain, reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.web.page.safety import Access

TOKEN = "WEFT_WEB_TOKEN"
PORT = 8484
"""Where the page is unless it is told otherwise."""


@reported
def web(
    host: Annotated[str, typer.Option(help="Where to listen; others than this machine's need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = PORT,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for a token here, too: $WEFT_WEB_TOKEN, else one made now.")
    ] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="A further name of this server, where a token is asked for; repeat.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and change nothing.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Serve the page: runs, live and past, what they ask, and a hand on them, until ctrl-C or SIGTERM.

    What is resumed or forked from the page is executed here.
    """
    import asyncio
    import signal

    from weft.cli.host import me
    from weft.cli.place import default_store
    from weft.cli.render import out
    from weft.store import open_store
    from weft.web.page.actions import OwnHands
    from weft.web.page.serve import serving

    access = access_at(host, token, tuple(name or ()), read_only)
    place = store or default_store()

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serving(open_store(place), access, OwnHands(place), host, port, me()) as address:
            if json:
                out({"address": address, "url": link(address, access)})
            complain(f"the page is at {link(address, access)}")
            await stop.wait()

    asyncio.run(main())


def access_at(host: str, token: bool, names: tuple[str, ...], read_only: bool) -> Access:
    """Who may ask a page at this place. Never is a token read from the command line, which everybody can see."""
    import secrets

    from weft.web.page.safety import Access

    given = os.environ.get(TOKEN, "")
    return Access.at(host, given or (secrets.token_urlsafe(32) if token else ""), names, read_only)


def link(address: str, access: Access) -> str:
    """Where to go; with a token that was made now and is said nowhere else. What follows `#` stays in the browser."""
    made = access.token and access.token != os.environ.get(TOKEN, "")
    return f"{address}/#token={access.token}" if made else address

"""`weft serve-model`: the embedded engine for every program that speaks OpenAI's API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weft.cli.failures import complain, reported
from weft.cli.words import AsJson


@reported
def serve_model(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of the catalogue, or a .gguf file.")] = "smollm2-135m",
    host: Annotated[str, typer.Option(help="Where to listen; others than this machine's need a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 is any that is free.")] = 8080,
    slots: Annotated[int, typer.Option(min=1, help="Generations at once; others wait.")] = 4,
    context: Annotated[int, typer.Option(min=16, help="Tokens of each, prompt and answer together.")] = 4096,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the key that clients must send; else $WEFT_SERVE_KEY, else none.")
    ] = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that generations get to end in after SIGTERM.")] = 30.0,
    json: AsJson = False,
) -> None:
    """Serve a model of this machine, and embeddings, to any client of OpenAI's API, until SIGTERM."""
    import asyncio

    from weft.cli.render import out
    from weft.model.engine import close_engines
    from weft.model.spec import CONTEXT, SLOTS
    from weft.web.model_server import ModelServer, serving, until_told

    changed = {k: v for k, v, usual in (("slots", slots, SLOTS), ("context", context, CONTEXT)) if v != usual}
    query = "&".join(f"{k}={v}" for k, v in changed.items())
    server = ModelServer(f"{name}?{query}" if query and "?" not in name else name, _key(key_file))

    async def main() -> None:
        async with serving(server, host, port, grace) as (address, listener):
            await server.start()
            if json:
                out({"address": address, "model": server.name})
            complain(f"serving {server.name} at {address}" + ("" if server.key else ", to this machine, without a key"))
            await until_told(listener)
            complain("ending what is under way")

    try:
        asyncio.run(main())
    finally:
        close_engines()


def _key(file: Path | None) -> str:
    """What clients must send. Never from the command line, which everybody on a machine can read."""
    import os

    from weft.core.errors import BadInput

    if file is None:
        place, key = "WEFT_SERVE_KEY", os.environ.get("WEFT_SERVE_KEY", "")
        if not key:
            return ""
    else:
        place = str(file)
        try:
            key = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the key could not be read from {file}: {error}") from None
    key = key.strip()
    if not key or not key.isascii() or any(letter.isspace() for letter in key):
        raise BadInput(f"{place} holds no key; it must be one word of ASCII")
    return key

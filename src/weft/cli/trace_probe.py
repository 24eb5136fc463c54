"""`weft trace probe`: a WebAssembly program is run with probes in it, and what they counted is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weft.cli.failures import FAILED, complain, reported


@reported
def probe(
    program: Annotated[Path, typer.Argument(metavar="FILE.wasm", help="A module or a program for WASI.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARG]...", help="What a WASI program is told.")
    ] = None,
    monitor: Annotated[
        str,
        typer.Option(help="hotness, coverage, blocks, branches, loops, calls, opcodes, memory or globals."),
    ] = "hotness",
    code: Annotated[bool, typer.Option("--code", help="With the program's text.")] = False,
    export: Annotated[str | None, typer.Option(help="The function to call. [default: main, else _start]")] = None,
) -> None:
    """Count what a WebAssembly program does, without changing it. It sees no files and no network.

    Exits with 1 if a trap or its own exit status ended the program; what was counted until then is told all the same.
    """
    from weft.core.errors import BadInput
    from weft.runtime.probes import monitor as named
    from weft.runtime.probes import observe, published
    from weft.runtime.probes.published import form_of

    try:
        data = program.read_bytes()
    except OSError as error:
        raise BadInput(f"{program} can't be read: {error.strerror}") from error
    watching = named(monitor)
    form_of(watching, code=code)  # said before the program runs
    ended = observe(data, watching, export=export, arguments=[str(program), *(arguments or ())])
    print(published(watching, code=code), end="", flush=True)
    if ended is not None:
        complain(f"the program ended early: {ended.splitlines()[0]}")
        raise typer.Exit(FAILED)

"""`weft bench-model`: how fast a model is on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson


@reported
def bench_model(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of the catalogue, or a .gguf file.")] = "smollm2-135m",
    tokens: Annotated[int, typer.Option(min=1, help="That each sequence draws.")] = 24,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="The most sequences together.")] = 8,
    reads: Annotated[int, typer.Option(min=4, help="Tokens of the longest prompt.")] = 256,
    json: AsJson = False,
) -> None:
    """Measure how fast a model of this machine draws, reads and keeps, in seconds of CPU; it takes about 20."""
    import asyncio

    from weft.cli.render import out
    from weft.core.errors import BadInput
    from weft.model.engine.speed import measured
    from weft.model.spec import Local, where

    found = where(name)
    if not isinstance(found, Local):
        raise BadInput(f"{name!r} is no model of this machine; measure one of the catalogue, or a .gguf file")
    counts = tuple(sorted({1, *(2**n for n in range(7) if 2**n < at_once), at_once}))
    speed = asyncio.run(measured(found.path(), tokens, counts, reads))
    if json:
        out(speed)
        return
    print(f"{found.name}, in one thread; seconds are of CPU" + (", on a busy machine" if speed.wall > 1.5 else ""))
    for drawn in speed.draws:
        print(f"  draws {drawn.a_second:>7,.1f} tokens a second, {drawn.at_once} at once")
    for count, seconds in speed.reads:
        print(f"  reads {count / seconds:>7,.1f} tokens a second, {count} of them")
    count, seconds = speed.reads[-1]
    print(
        f"  keeps a token in {speed.bytes_a_token / 1000:,.1f} kB; {count} are saved in {speed.saves * 1000:,.0f} ms "
        f"and loaded in {speed.loads * 1000:,.0f} ms, where computing them takes {seconds * 1000:,.0f} ms"
    )

"""`weft audit`: are the journals what was written, and who decided what?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.place import default_store

if TYPE_CHECKING:
    from weft.trace.audit import Flaw, Judgement

app = typer.Typer(help="Check that journals are what was written; show what was decided.", no_args_is_help=True)
Place = Annotated[str | None, typer.Option("--store", help="The journal. [default: $WEFT_STORE, or .weft/journal.db]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]


@app.command()
@reported
def verify(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="One run. [default: all]")] = None,
    store: Place = None,
    json: AsJson = False,
) -> None:
    """Check the chain of every journal. Exits with 1 if a record was edited, removed or reordered."""
    from weft.cli.render import out
    from weft.store import open_store
    from weft.trace.audit import verify

    async def main() -> tuple[int, list[Flaw]]:
        opened = open_store(store or default_store())
        try:
            ids = None if run is None else [await _whole(opened, run)]
            count, flaws = 0, []
            async for checked, found in verify(opened, ids):
                count += checked
                flaws += found
            return count, flaws
        finally:
            await opened.close()

    count, flaws = asyncio.run(main())
    if json:
        out({"checked": count, "flaws": [flaw._asdict() for flaw in flaws]})
    else:
        for flaw in flaws:
            print(f"run {flaw.process}: {flaw.what}")
        print(f"{count:,} journals checked, {len(flaws):,} not what was written")
    if flaws:
        raise typer.Exit(1)


@app.command()
@reported
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or any part of it that is unique.")],
    store: Place = None,
    json: AsJson = False,
) -> None:
    """Every decision about a run's effects, with the capabilities that it came from."""
    from weft.cli.render import out
    from weft.store import open_store
    from weft.trace.audit import judgements

    async def main() -> list[Judgement]:
        opened = open_store(store or default_store())
        try:
            return await judgements(opened, await _whole(opened, run))
        finally:
            await opened.close()

    found = asyncio.run(main())
    if json:
        out([one._asdict() for one in found])
        return
    for one in found:
        by = " <- ".join(reversed(one.by)) or "no capability"
        print(f"{one.effect:>5}  {one.verdict:<6} {one.action} {one.resource}  by {by} ({one.issuer or 'nobody'})")


async def _whole(store: Any, part: str) -> str:
    from weft.core.errors import UnknownRun

    if await store.row(part) is not None:
        return part
    found = await store.find(part)
    if len(found) != 1:
        raise UnknownRun(f"{part!r} fits {len(found)} runs in {store.url}; `weft ps` lists those there are")
    return str(found[0])

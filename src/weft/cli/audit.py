"""`weft audit`: are the journals what was written, and who decided what?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, find_run
from weft.cli.words import AsJson, RunId, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.audit import Flaw, Judgement

audits = typer.Typer(help="Check that journals are what was written; show what was decided.", no_args_is_help=True)


@audits.command(name="verify")
@reported
def verify_(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="One run. [default: all]")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Check the chain of every journal. Exits with 1 if a record was edited, removed or reordered."""
    from weft.cli.render import out
    from weft.trace.audit import verify

    async def check(opened: Store) -> tuple[int, list[Flaw]]:
        ids = None if run is None else [(await find_run(opened, run)).id]
        count, flaws = 0, []
        async for checked, found in verify(opened, ids):
            count += checked
            flaws += found
        return count, flaws

    count, flaws = ask(store, check)
    if json:
        out({"checked": count, "flaws": [flaw._asdict() for flaw in flaws]})
    else:
        for flaw in flaws:
            print(f"run {flaw.process}: {flaw.what}")
        print(f"{count:,} journals checked, {len(flaws):,} not what was written")
    if flaws:
        raise typer.Exit(1)


@audits.command(name="show")
@reported
def show_(run: RunId, store: StorePlace = None, json: AsJson = False) -> None:
    """Every decision about a run's effects, with the capabilities that it came from."""
    from weft.cli.render import out
    from weft.trace.audit import judgements

    async def look(opened: Store) -> list[Judgement]:
        return await judgements(opened, (await find_run(opened, run)).id)

    found = ask(store, look)
    if json:
        out([one._asdict() for one in found])
        return
    for one in found:
        by = " <- ".join(reversed(one.by)) or "no capability"
        print(f"{one.effect:>5}  {one.verdict:<6} {one.action} {one.resource}  by {by} ({one.issuer or 'nobody'})")

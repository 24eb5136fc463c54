"""`weft signal`: pause a run, let it go on, or kill it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import present
from weft.cli.words import AsJson, File, RunId, StorePlace

if TYPE_CHECKING:
    from weft.runtime.signals import Signal

HEARD = 10.0
"""Seconds that are waited for a run to do as it was told."""


@reported
def signal(
    run: RunId,
    what: Annotated[str, typer.Argument(help="pause, resume or kill.")],
    tree: Annotated[bool, typer.Option("--tree", help="All runs below it too (kill always does).")] = False,
    file: File = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Pause a run (its steps under way end, no others begin), let it go on with the workers, or kill it at once.

    `weft resume` lets a paused run go on here.
    """
    import asyncio

    from weft.cli.host import declare
    from weft.cli.place import default_store
    from weft.cli.render import out
    from weft.core.errors import BadInput
    from weft.runtime.runtime import Runtime
    from weft.runtime.signals import SIGNALS
    from weft.store.base import FINISHED

    if what not in SIGNALS:
        raise BadInput(f"{what!r} is no signal; there are {', '.join(SIGNALS)}")
    row = present(store, run)
    if row.state not in FINISHED and what != "resume":
        declare(row, file)
    wanted: Signal = what

    async def main() -> str:
        async with Runtime(store or default_store()) as runtime:
            await runtime.signal(row.id, wanted, tree=tree)
            return await _state(runtime, row.id, wanted)

    state = asyncio.run(main())
    if json:
        out({"run": row.id, "signal": what, "state": state})
    else:
        print(f"run {row.id}: {state}")


async def _state(runtime: object, id: str, what: str) -> str:
    """What it has become; a run that is executed elsewhere needs a moment."""
    import asyncio

    from weft.runtime.runtime import Runtime
    from weft.store.base import FINISHED, PAUSED

    assert isinstance(runtime, Runtime)
    row = await runtime.row(id)
    for _ in range(int(HEARD / 0.1)):
        row = await runtime.row(id)
        if what == "resume" or row.state in FINISHED or (what == "pause" and row.state == PAUSED):
            return row.state
        await asyncio.sleep(0.1)
    return f"{row.state}, and will hear of it"

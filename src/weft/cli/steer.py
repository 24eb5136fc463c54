"""`weft cancel` and `send`: a word to a run, wherever it is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import present
from weft.cli.words import AsJson, File, RunId, StorePlace

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


@reported
def cancel(run: RunId, file: File = None, store: StorePlace = None, json: AsJson = False) -> None:
    """Ask a run to stop. It may clean up; wherever it is executed, its executor is told."""
    import asyncio

    from weft.cli.host import declare, say, with_runtime
    from weft.store.base import FINISHED

    row = present(store, run)
    if row.state not in FINISHED:
        declare(row, file)

    async def go(runtime: Runtime) -> str:
        await runtime.cancel(row.id)
        return (await runtime.end_of(row.id)).state

    state = row.state if row.state in FINISHED else asyncio.run(with_runtime(store, "full", go))
    say({"run": row.id, "state": state}, f"run {row.id}: {state}", json)


@reported
def send(
    run: RunId,
    box: Annotated[str, typer.Argument(help="The mailbox's name.")],
    value: Annotated[str, typer.Argument(help="JSON.")],
    file: File = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Send a letter to a run's mailbox. It waits there until the run receives it."""
    import asyncio

    from weft.cli.host import declare, from_json, say, with_runtime

    row = present(store, run)
    letter = from_json(value, "the letter")
    declare(row, file)
    from weft.runtime.effects import mailboxes

    if box in mailboxes:
        letter = mailboxes[box].check(letter)

    async def go(runtime: Runtime) -> None:
        await runtime.send(row.id, box, letter)

    asyncio.run(with_runtime(store, "full", go))
    say({"run": row.id, "box": box, "sent": True}, f"sent to {row.id}, box {box}", json)

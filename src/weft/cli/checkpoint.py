"""`weft checkpoint`: remember a run and all below it, see what it did since, and go on from there."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import complain, reported
from weft.cli.look import ask, find_run
from weft.cli.words import AsJson, Durability, File, RunId, StorePlace

if TYPE_CHECKING:
    from weft.runtime.cut import Cut
    from weft.runtime.handle import Run
    from weft.runtime.runtime import Runtime
    from weft.runtime.since import Touch
    from weft.store.base import Checkpoint, ProcessRow, Store

checkpoints = typer.Typer(help="Remember a run and all below it; go on from there.", no_args_is_help=True)

CheckpointId = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id, a unique part of that, or its name.")]
Leave = Annotated[bool, typer.Option("--leave", help="Leave it to the workers, and do not wait for its result.")]


@checkpoints.command()
@reported
def create(
    run: RunId,
    name: Annotated[str, typer.Option(help="To find it by.")] = "",
    note: Annotated[str, typer.Option(help="Why it was made.")] = "",
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Remember a run and all below it as they are now. They go on, wherever they are executed."""
    row = ask(store, lambda opened: find_run(opened, run))

    async def make(runtime: Runtime) -> str:
        return await runtime.checkpoint(row.id, name, note)

    from weft.cli.host import say

    id = _with_runtime(store, "full", make)
    say({"checkpoint": id, "run": row.id, "name": name}, id, json)


@checkpoints.command(name="list")
@reported
def list_(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Those of one run. [default: all]")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """List checkpoints, the newest first."""
    from time import time

    from weft.cli.render import age, out

    async def look(opened: Store) -> list[Checkpoint]:
        return await opened.checkpoints(None if run is None else (await find_run(opened, run)).id)

    found = ask(store, look)
    if json:
        out([_plain(one) for one in found])
        return
    for one in found:
        by = f"effect {one.effect}" if one.effect else "by hand"
        heir = f"  restored as {one.heir}" if one.heir else ""
        print(f"{one.id}  {one.process}  {age(time() - one.at):>4} ago  {by:<10}  {one.name}{heir}")
    if not found:
        print("no checkpoints; make one with: weft checkpoint create RUN")


@checkpoints.command()
@reported
def show(checkpoint: CheckpointId, store: StorePlace = None, json: AsJson = False) -> None:
    """Show what is in a checkpoint, and what was done outside since, by class.

    irreversible: it can't be undone, and whoever goes on from here does it again; unknown: it was in flight, perhaps it
    happened; reversible: it can be undone, by hand or by another step; repeatable: doing it again changes nothing more.
    """
    from time import time

    from weft.cli.render import age, out, short
    from weft.runtime.checkpoint import find
    from weft.runtime.cut import decode_cut
    from weft.runtime.since import CLASSES, effects_since

    async def look(opened: Store) -> tuple[Checkpoint, list[Touch]]:
        found = await find(opened, checkpoint)
        return found, await effects_since(opened, found)

    found, touches = ask(store, look)
    cut = decode_cut(found.body)
    if json:
        out({**_plain(found), **_within(cut), "since": [_plain_touch(one) for one in touches]})
        return
    states = ", ".join(f"{count} {state}" for state, count in Counter(place.state for place in cut.places).items())
    print(f"checkpoint  {found.id}{f'  {found.name}' if found.name else ''}")
    print(f"run         {found.process}, {age(time() - found.at)} ago{f', {found.note}' if found.note else ''}")
    print(f"processes   {states}; {len(cut.letters)} letters, {len(cut.questions)} open questions")
    if found.heir:
        print(f"restored as {found.heir}")
    for of in CLASSES:
        some = [one for one in touches if one.of == of]
        print(f"\n{of}: {len(some) or 'nothing'}")
        for one in some:
            failed = "" if one.ok is not False else "  failed"
            print(f"  {one.process} {one.effect:>5}  {one.name} {short(one.args, 60)}{failed}  {one.place}")


@checkpoints.command()
@reported
def fork(
    checkpoint: CheckpointId,
    file: File = None,
    leave: Leave = False,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Go on from a checkpoint as a new run, beside its origin.

    It holds its origin's rights, but for those revoked or used only so often, and spends its origin's budget.
    """
    id, row = _declared(checkpoint, store, file, needed=not leave)

    async def go(runtime: Runtime) -> Run[Any]:
        return await runtime.fork_checkpoint(id, here=not leave)

    _go_on(go, leave, row, store, durability, json)


@checkpoints.command()
@reported
def restore(
    checkpoint: CheckpointId,
    file: File = None,
    leave: Leave = False,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Go back to a checkpoint: what runs now ends, and a new run goes on from there in its place.

    What was done outside since is not undone. Repeat the command if it was interrupted.
    """
    from weft.runtime.checkpoint import find
    from weft.runtime.since import effects_since

    id, row = _declared(checkpoint, store, file, needed=not leave)

    async def look(opened: Store) -> list[Touch]:
        return await effects_since(opened, await find(opened, id))

    since = Counter(one.of for one in ask(store, look))
    if since:
        counts = ", ".join(f"{count} {of}" for of, count in since.items())
        complain(f"done outside since, and not undone: {counts} (weft checkpoint show {id})")

    async def go(runtime: Runtime) -> Run[Any]:
        return await runtime.restore(id, here=not leave)

    _go_on(go, leave, row, store, durability, json)


# --- shared -----------------------------------------------------------------------------------------------------


def _declared(checkpoint: str, store: str | None, file: str | None, needed: bool) -> tuple[str, ProcessRow]:
    """The checkpoint's id and its process, whose workflow is loaded if it is to be executed here."""
    from weft.cli.host import declare
    from weft.runtime.checkpoint import find

    async def look(opened: Store) -> tuple[str, ProcessRow]:
        found = await find(opened, checkpoint)
        return found.id, await find_run(opened, found.process)

    id, row = ask(store, look)
    if needed:
        declare(row, file)
    return id, row


def _go_on(go: Any, leave: bool, row: ProcessRow, store: str | None, durability: str, json: bool) -> None:
    from weft.cli.host import finish, host, say

    if not leave:
        finish(host(store, durability, go), json)
        return
    run: Run[Any] = _with_runtime(store, durability, go)
    say({"run": run.id, "workflow": row.workflow}, run.id, json)


def _with_runtime(store: str | None, durability: str, use: Any) -> Any:
    import asyncio

    from weft.cli.host import with_runtime

    return asyncio.run(with_runtime(store, durability, use))


def _plain(one: Checkpoint) -> dict[str, Any]:
    from weft.cli.render import moment

    return {
        "checkpoint": one.id, "run": one.process, "name": one.name, "note": one.note, "at": moment(one.at),
        "effect": one.effect or None, "restored_as": one.heir or None,
    }  # fmt: skip


def _within(cut: Cut) -> dict[str, Any]:
    places = [{"process": place.id, "state": place.state, "records": place.length} for place in cut.places]
    return {"processes": places, "letters": len(cut.letters), "questions": len(cut.questions)}


def _plain_touch(one: Touch) -> dict[str, Any]:
    from weft.cli.render import moment, plain_value

    return {
        "class": one.of, "process": one.process, "workflow": one.workflow, "effect": one.effect, "kind": one.kind,
        "name": one.name, "args": plain_value(one.args), "at": moment(one.at), "ok": one.ok, "place": one.place,
    }  # fmt: skip

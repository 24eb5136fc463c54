"""Checkpoints of a process and all below it: made at one moment, gone on from as often as one likes.

A fork goes on beside its origin, as a run of its own. To restore is to fork and to end the origin in the same
transaction, so that one of the two goes on, whenever the machine dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput, UnknownCheckpoint, WeftError
from weft.core.ids import new_id
from weft.core.workflow import find_workflow
from weft.runtime.cut import cut_through, decode_cut, encode_cut
from weft.runtime.handle import Run
from weft.store.base import Checkpoint, Store

if TYPE_CHECKING:
    from weft.runtime.branch import Branch
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime


async def create(runtime: Runtime, id: str, name: str, note: str) -> str:
    """See `Runtime.checkpoint`."""
    await runtime.row(id)
    made = await _cut(runtime, id, check(name, note))
    runtime.journal.batch.checkpoints[made.id] = made
    await runtime.journal.barrier()
    return made.id


def check(name: str, note: str) -> tuple[str, str]:
    """The words of a checkpoint. Raises BadInput."""
    if not isinstance(name, str) or not isinstance(note, str):
        raise BadInput(f"checkpoint({name!r}, note={note!r}): name and note are texts")
    return name, note


def begin(process: Process, words: tuple[str, str], pending: Pending) -> None:
    """Make one of the process whose effect this is; written with its outcome."""
    runtime = process.runtime

    async def make() -> None:
        try:
            made = await _cut(runtime, process.id, words, pending.number)
        except WeftError as error:
            process.arrive(pending, False, error)
        else:
            process.arrive(pending, True, made.id, lambda _: runtime.journal.batch.checkpoints.update({made.id: made}))

    pending.started = runtime.clock()
    runtime.task(make())


async def _cut(runtime: Runtime, id: str, words: tuple[str, str], effect: int = 0) -> Checkpoint:
    await runtime.journal.barrier()
    cut = cut_through(await runtime.store.subtree(id))
    now = runtime.clock()
    body = encode_cut(cut)
    return Checkpoint(new_id(now), id, words[0], words[1], now, effect, body=body)


async def find(store: Store, part: str) -> Checkpoint:
    """The one whose id or name is `part`, the newest of that name, or whose id alone contains it. Raises
    UnknownCheckpoint."""
    found = await store.checkpoint(part)
    if found is None:
        known = await store.checkpoints(limit=1_000_000)
        fits = [one.id for one in known if one.name == part][:1] or [one.id for one in known if part in one.id]
        if len(fits) > 1:
            raise UnknownCheckpoint(f"{part!r} fits several checkpoints: {', '.join(fits[:5])}; give more of the id")
        found = await store.checkpoint(fits[0]) if fits else None
    if found is None:
        raise UnknownCheckpoint(f"there is no checkpoint {part!r}; `weft checkpoint list` lists those there are")
    return found


async def fork(runtime: Runtime, id: str, here: bool) -> Run[Any]:
    """See `Runtime.fork_checkpoint`."""
    branch = await _branch(runtime, await find(runtime.store, id), here)
    branch.write()
    return await _go_on(runtime, branch, here)


async def restore(runtime: Runtime, id: str, here: bool) -> Run[Any]:
    """See `Runtime.restore`."""
    from weft.runtime.restoring import Restoring, turn

    branch = await _branch(runtime, await find(runtime.store, id), here)
    async with turn(runtime):
        restoring = Restoring(runtime, await find(runtime.store, branch.checkpoint.id), branch.names.new)
        async with restoring.held():
            # From here to the end of the turn nothing else is done: all of it is one transaction.
            restoring.end_all()
            branch.write(restoring.parent)
            restoring.name_heirs(branch.root)
    return await _go_on(runtime, branch, here)


async def _branch(runtime: Runtime, checkpoint: Checkpoint, here: bool) -> Branch:
    from weft.runtime.branch import Branch  # so that whoever only begins pays nothing for it

    branch = Branch(runtime, checkpoint, decode_cut(checkpoint.body))
    await branch.read()
    if here:
        find_workflow(branch.rows[branch.root].workflow)
    return branch


async def _go_on(runtime: Runtime, branch: Branch, here: bool) -> Run[Any]:
    await runtime.journal.barrier()
    await runtime.recovery.set_going(list(branch.rows.values()), here=here)
    return Run(runtime, branch.root)

"""Copying runs from one store to another. What is unfinished moves: it can be executed here or there, never in both.

A family (a run with all that descends from it) goes as a whole, or stays. In this order:

1. its unfinished processes are claimed here: nobody executes them (`claims`);
2. all of it is written there, ARRIVING: nobody there may execute it (`crossing`);
3. it is read back there, and the digests are compared (`digest`); what happened in shared memory up to now follows,
   and nobody here adds to it for these processes any more (`memories`);
4. here what is unfinished becomes MOVED, in one transaction (`handing`);
5. letters that came here meanwhile follow, and there everything becomes what it was here.

Who is killed before 4 has done nothing, but for what lies ARRIVING there: the next copy takes it, or writes it anew if
the run has gone on here. Who is killed after 4 leaves MOVED here and ARRIVING there with one token: the next copy does
what is left of 5. What had ended goes the same way, and stays here too. In memory are some MB, or one journal or one
payload if that is more, and about a KB for each process of one family.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from weft.core.errors import StoreError
from weft.store.base import MOVED, Batch, Family, Store
from weft.store.copy.claims import Claims
from weft.store.copy.crossing import Crossing
from weft.store.copy.handing import Handing
from weft.store.copy.journey import DIGESTS, Journey, Left, Report, Route, Unfit, commit, groups
from weft.store.copy.memories import Memories

__all__ = ["Left", "Report", "copy", "size"]


async def size(store: Store) -> int:
    """How many processes a copy of this store has to look at."""
    count = after = 0
    while families := await store.families(after):
        after = families[-1].at
        count += sum(len(family.sizes) for family in families)
    return count


async def copy(source: Store, target: Store, saw: Callable[[int], None] = lambda count: None) -> Report:
    """Copy all runs of `source` to `target`, and hand the unfinished ones over: from then on `target` is where they
    can be resumed. What is there already, the same, is passed over, so this can be called again whatever happened.
    `saw` is called with the number of processes that are done with. Register nobody in the two stores before.

    Raises BadInput if they are one store; StoreCorrupt for a process that reads back otherwise than it was written,
    which stays as it is in `source`; and the errors of the stores.
    """
    copying = _Copying(Route(source, target))
    await copying.route.register()
    await commit(target, Batch(revocations=await source.revocations()))  # a fork may be bound by those of any run
    after = 0
    try:
        await copying.memories.bring()
        while families := await source.families(after):
            after = families[-1].at
            for group in groups(families):
                await copying.bring(group)
                saw(sum(len(family.sizes) for family in group))
    finally:
        with contextlib.suppress(StoreError):  # they are free when the source is closed
            await copying.claims.give_back(list(copying.claims.held))
    return copying.report


class _Copying:
    def __init__(self, route: Route) -> None:
        self.route = route
        self.report = Report()
        self.claims = Claims(route)
        self.crossing = Crossing(route)
        self.memories = Memories(route, self.report)
        self.handing = Handing(route, self.claims, self.report)

    async def bring(self, families: Sequence[Family], again: bool = False) -> None:
        """Copy these families, those that can go. `again`: the target has refused this one before."""
        rows = await self.claims.rows([id for family in families for id in family.sizes])
        await self.handing.complete([row for row in rows.values() if row.state == MOVED])
        every = [Journey.of(family, rows) for family in families]
        journeys = [one for one in every if one.sizes]
        await self.claims.hold(journeys, rows)
        try:
            await self.crossing.cross(journeys)
        except Unfit as error:
            if len(families) > 1 or not again:  # which of them? or has another copy just written it?
                for family in families:
                    await self.bring([family], again=len(families) == 1)
                return
            journeys[0].leave("conflict", str(error))
        await self.memories.bring(journeys)
        for one in journeys:
            if one.left is not None:
                self.report.left.append(one.left)
                await self.crossing.undo(one)
                await self.claims.give_back(one.unfinished)
        going = [one for one in journeys if one.left is None]
        await self.handing.hand_over(going)
        self.report.gone += len(every) - len(journeys)
        self.report.copied += sum(one.fresh for one in going)
        self.report.there += sum(not one.fresh for one in going)
        self.report.here = (self.report.here + sum(one.here for one in going)) % DIGESTS
        self.report.beyond = (self.report.beyond + sum(one.beyond for one in going)) % DIGESTS

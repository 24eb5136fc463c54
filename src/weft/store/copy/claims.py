"""What this copy has claimed in the source: nobody else may execute it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from weft.core.clock import monotonic
from weft.store.base import ARRIVING, COPY, MOVED, Batch, ProcessRow
from weft.store.copy.journey import PATIENCE, Journey, Route, commit, pages

Rows = dict[str, ProcessRow]


class Claims:
    """`held`: the rows, without their inputs, which no later write changes."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.source = route.source
        self.held: Rows = {}

    async def rows(self, ids: Sequence[str]) -> Rows:
        """The rows of the source, without what may be large."""
        found: Rows = {}
        for page in pages(ids):
            for row in await self.source.rows(ids=page, limit=len(page)):
                found[row.id] = replace(row, input=b"", result=None, error=row.error if row.state == MOVED else None)
        return found

    async def hold(self, journeys: Sequence[Journey], rows: Rows) -> None:
        """Claim what is unfinished; families of which something can't be had are left."""
        for journey in journeys:
            if any(rows[id].state == ARRIVING for id in journey.sizes):
                text = f"run {journey.run} has not arrived in {self.source.url} yet; repeat the copy that brings it"
                journey.leave("busy", text)
        staying = [journey for journey in journeys if journey.left is None and journey.unfinished]
        await self._claim([id for journey in staying for id in journey.unfinished], rows)
        for journey in staying:
            missing = [id for id in journey.unfinished if id not in self.held]
            if missing:
                journey.leave("busy", await self._why(missing[0]))
            elif await self._has_grown(journey, rows):
                journey.leave("busy", f"run {journey.run} was being executed just now; copy again")

    async def give_back(self, ids: Sequence[str]) -> None:
        """Let others have it."""
        for page in pages([id for id in ids if id in self.held]):
            await commit(self.source, Batch(rows={id: replace(self.held.pop(id), owner=None) for id in page}))

    async def _claim(self, ids: Sequence[str], rows: Rows) -> None:
        deadline = monotonic() + PATIENCE
        states = tuple({rows[id].state for id in ids})
        while missing := [id for id in ids if id not in self.held]:
            taken = await self.source.claim(self.route.name, missing, len(missing), states=states)
            self.held.update((row.id, replace(row, input=b"")) for row in taken)
            owners = {row.owner for id, row in (await self.rows(missing)).items() if id not in self.held}
            if not await self._passes(owners, deadline):
                break

    async def _passes(self, owners: set[str | None], deadline: float) -> bool:
        """Wait a moment and say yes, if one of these owners is perhaps dead and not cleared away yet."""
        for owner in owners:
            a_copy = owner is not None and owner.startswith(COPY) and owner not in self.route.others
            if owner is None or a_copy or not await self.source.alive(owner):
                if monotonic() < deadline:
                    await asyncio.sleep(0.05)
                    return True
                if a_copy and owner is not None:
                    self.route.others.add(owner)
        return False

    async def _why(self, id: str) -> str:
        row = await self.source.row(id)
        owner = None if row is None else row.owner
        return f"run {id} is being executed by another process ({owner}); stop that one, or let the run end, copy again"

    async def _has_grown(self, journey: Journey, rows: Rows) -> bool:
        """Whether it got children between the look at it and the claim."""
        found = await self.source.families(journey.at - 1, 1)
        return not found or not found[0].sizes.keys() <= rows.keys()

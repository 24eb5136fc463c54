"""The end of a move: here a run becomes MOVED, then letters follow, then there it becomes what it was here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weft.core.codec import encode
from weft.store.base import ARRIVING, FINISHED, MOVED, Batch, ProcessRow
from weft.store.copy.claims import Claims
from weft.store.copy.journey import Journey, Left, Report, Route, commit, pages
from weft.store.handover import arrival, arrived, departed, departing

Events = Sequence[tuple[str, bytes, str]]


class Handing:
    def __init__(self, route: Route, claims: Claims, report: Report) -> None:
        self.route = route
        self.source = route.source
        self.target = route.target
        self.claims = claims
        self.report = report

    async def hand_over(self, journeys: Sequence[Journey]) -> None:
        """From its first commit on, nothing of these families can be executed here; after it, there."""
        unfinished = [id for journey in journeys for id in journey.unfinished]
        letters = [id for journey in journeys for id in journey.letters]
        questions = [id for journey in journeys for id in journey.questions]
        # Whether this commit is applied decides. If nobody can tell, they are not given back.
        note = self.target.url, self.route.name, self.source.clock()
        rows = {id: departing(self.claims.held.pop(id), *note) for id in unfinished}
        waits: dict[str, list[str]] = {id: [] for id in unfinished}
        await commit(self.source, Batch(rows=rows, taken=letters, waits=waits, answered=questions))
        await self._follow(list(rows.values()))
        tokens = {id: self.route.name for journey in journeys if journey.fresh for id in journey.sizes}
        await self._release(tokens, [event for journey in journeys for event in journey.events])
        self.report.handed += len(unfinished)

    async def complete(self, moved: Sequence[ProcessRow]) -> None:
        """Do what copies that were killed had left to do for these rows."""
        tokens: dict[str, str] = {}
        there: dict[str, ProcessRow] = {}
        for page in pages([row.id for row in moved]):
            for row in await self.target.rows(ids=page, states=(ARRIVING,), limit=len(page)):
                there[row.id] = row
        for row in moved:
            token = departed(row).token
            if row.id in there and arrival(there[row.id]).token == token and await self.route.over(token):
                tokens[row.id] = token
        await self._follow(moved)
        for page in pages(list(tokens)):
            await self._release({id: tokens[id] for id in page}, (await self.source.about(page)).events)
        self.report.handed += len(tokens)

    async def _follow(self, moved: Sequence[ProcessRow]) -> None:
        """Send letters after their addressees. The mark that goes with each says so, if we are killed in between."""
        tokens = {row.id: departed(row) for row in moved}
        for page in pages(list(tokens)):
            letters = await self.source.inbox(page)
            if not letters:
                continue
            marks = {letter.id: f"weft.letter:{tokens[letter.process].token}:{letter.id}" for letter in letters}
            sent = await self.target.events(list(marks.values()))
            states = {row.id: row.state for row in await self.target.rows(ids=page, limit=len(page))}
            there = [letter for letter in letters if states.get(letter.process, MOVED) not in FINISHED]
            new = [letter for letter in there if marks[letter.id] not in sent]
            marked = [(marks[letter.id], encode(None), letter.process) for letter in new]
            await commit(self.target, Batch(messages=new, events=marked))
            await commit(self.source, Batch(taken=[letter.id for letter in there]))
            for letter in letters:
                if letter not in there and tokens[letter.process].store == self.target.url:
                    text = f"a letter for run {letter.process} came to {self.source.url}, and it has ended elsewhere"
                    self.report.left.append(Left(letter.process, "conflict", f"{text}; box {letter.box!r}"))

    async def _release(self, tokens: Mapping[str, str], events: Events) -> None:
        """Let go there what is arriving with these tokens. Descendants come first: nobody finds a child missing."""
        known = await self.target.events([event[0] for event in events]) if events else {}
        fresh = [event for event in events if event[0] not in known]
        for page in pages(list(tokens)[::-1]):
            rows = await self.target.rows(ids=page, states=(ARRIVING,), limit=len(page))
            free = {row.id: arrived(row) for row in rows if arrival(row).token == tokens[row.id]}
            await commit(self.target, Batch(rows=free, events=fresh))
            fresh = []

"""Writing families to the target, where they are arriving, and reading them back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from weft.core.errors import StoreCorrupt
from weft.core.record import content_hash
from weft.store.base import ARRIVING, FINISHED, MOVED, Batch
from weft.store.copy.digest import Content, Payloads, contents
from weft.store.copy.journey import DIGESTS, LARGE, Journey, Route, chunks, commit, pages
from weft.store.handover import arrival, arriving, departing

Verdict = Literal["new", "stale", "kept", "there"]
"""Of a process: not there; there as an earlier copy left it, and not what it is here now; left by an earlier copy, and
the same; there to stay."""
REMEMBERED = 10_000


class Crossing:
    def __init__(self, route: Route) -> None:
        self.route = route
        self.source = route.source
        self.target = route.target
        self._sent: set[bytes] = set()
        """Payloads that need not be sent once more."""

    async def cross(self, journeys: Sequence[Journey]) -> None:
        """Write all of them, and compare; those that can't go are left. Raises StoreCorrupt for a process that reads
        back otherwise."""
        home = {id: journey for journey in journeys if journey.left is None for id in journey.sizes}
        for chunk in chunks({id: journey.sizes[id] for id, journey in home.items()}):
            batch = await self.source.about([id for id in chunk if home[id].left is None])
            here, there = contents(batch), contents(await self.target.about(list(batch.rows)))
            await self._look_for_conflicts(home, here, there)
            payloads = Payloads(self.target)
            verdicts = {id: await self._verdict(home[id], here[id], there.get(id), payloads) for id in here}
            going = [id for id in here if home[id].left is None and not home[id].again]
            anew = [here[id] for id in going if verdicts[id] in ("new", "stale")]
            await self.discard([id for id in going if verdicts[id] == "stale"])
            await self._write([here[id] for id in going if verdicts[id] != "there"], anew, batch)
            await self._send(anew, home)
            written = {id: here[id] for id in going if verdicts[id] != "there" and home[id].left is None}
            there |= await self._compare(written)
            for id in going:
                if home[id].left is None:
                    _note(home[id], here[id], there[id], verdicts[id])
        for journey in journeys:
            if journey.again and journey.left is None:
                await self.discard(list(journey.sizes), (*FINISHED, ARRIVING))
                journey.restart()
                await self.cross([journey])

    # --- may it go? ---------------------------------------------------------------------------------------------

    async def _look_for_conflicts(
        self, home: Mapping[str, Journey], here: Mapping[str, Content], there: Mapping[str, Content]
    ) -> None:
        """What a store has once, and another run has there: idempotency keys, and keys of events."""
        new = {id: content for id, content in here.items() if id not in there or there[id].state in (ARRIVING, MOVED)}
        keys = {content.row.key: id for id, content in new.items() if content.row.key is not None}
        for row in await self.target.rows(keys=list(keys), limit=len(keys)) if keys else ():
            id = keys[row.key or ""]
            if row.id != id:
                text = f"the idempotency key {row.key!r} of run {id} belongs to run {row.id} in {self.target.url}"
                home[id].leave("conflict", f"{text}; delete one of them")
        events = {key: (id, value) for id, content in new.items() for key, value, _ in content.events}
        for key, value in (await self.target.events(list(events)) if events else {}).items():
            id, ours = events[key]
            if value != ours:
                text = f"run {id} published the event {key!r}, and another run in {self.target.url} did so otherwise"
                home[id].leave("conflict", f"{text}; delete one of them")

    async def _verdict(self, journey: Journey, content: Content, other: Content | None, payloads: Payloads) -> Verdict:
        id, place = content.row.id, self.target.url
        if content.fault:
            journey.leave("damaged", f"run {id} is damaged in {self.source.url}: {content.fault}")
        if other is None:
            return "new"
        if other.state == MOVED:
            if other.letters:
                text = (
                    f"letters came to run {id} in {place} when it had left; copy from there to {self.source.url} first"
                )
                journey.leave("conflict", text)
            journey.again |= other.bounds
            return "stale"
        same = other.digest == content.digest and await payloads.has(content.payloads)
        if other.state == ARRIVING:
            if other.token != self.route.name and not await self.route.over(other.token):
                journey.leave("busy", f"another copy ({other.token}) is bringing run {id} to {place}; let it end")
            journey.again |= other.bounds and not same
            return "kept" if same else "stale"
        if content.state not in FINISHED:
            text = f"run {id} is unfinished in {self.source.url}, and {other.state} in {place}"
            journey.leave("conflict", f"{text}: one of them was copied by other means; delete it")
        elif not same:
            journey.leave("conflict", f"run {id} is in {place} with other content; delete one of them")
        return "there"

    # --- there and back -------------------------------------------------------------------------------------------

    async def _write(self, entering: Iterable[Content], anew: Iterable[Content], about: Batch) -> None:
        """The rows, and all but payloads of those that are written anew."""
        batch, size = Batch(images=about.images, lineage=about.lineage), 0
        batch.accounts = {id: account for id, account in about.accounts.items() if id not in about.rows}
        batch.revocations = [one for one in about.revocations if one.process not in about.rows]
        batch.rows = {c.row.id: arriving(c.row, self.source.url, self.route.name) for c in entering}
        for content in anew:
            batch.messages += content.letters
            batch.revocations += content.revocations
            batch.questions |= {question.id: question for question in content.questions}
            batch.checkpoints |= {checkpoint.id: checkpoint for checkpoint in content.checkpoints}
            batch.charges |= {charge.key: charge for charge in content.charges}
            if content.waits:
                batch.waits[content.row.id] = content.waits
            if content.account is not None:
                batch.accounts[content.row.id] = content.account
            for segment in content.segments:
                if size and size + len(segment.records) > LARGE:
                    await self.route.put(batch)
                    batch, size = Batch(), 0
                batch.segments.append(segment)
                size += len(segment.records)
        await self.route.put(batch)

    async def _send(self, anew: Iterable[Content], home: Mapping[str, Journey]) -> None:
        """The payloads."""
        batch, size = Batch(), 0
        for content in anew:
            id = content.row.id
            for hash in content.payloads:
                batch.references.add((id, hash))
                if hash in self._sent:
                    continue
                data = await self._payload(home[id], id, hash)
                if data is None:
                    continue
                batch.payloads[hash] = data
                self._sent.add(hash)
                size += len(data)
                if size > LARGE:
                    await self.route.put(batch)
                    batch, size = Batch(), 0
        await self.route.put(batch)
        if len(self._sent) > REMEMBERED:
            self._sent.clear()

    async def _payload(self, journey: Journey, id: str, hash: bytes) -> bytes | None:
        try:
            data = await self.source.payload(hash)
        except StoreCorrupt as error:
            journey.leave("damaged", f"run {id}: {error}")
            return None
        if content_hash(data) != hash:
            journey.leave("damaged", f"the payload {hash.hex()} of run {id} is damaged in {self.source.url}")
            return None
        return data

    async def _compare(self, written: Mapping[str, Content]) -> dict[str, Content]:
        """What can be read back there. Raises StoreCorrupt."""
        payloads = Payloads(self.target)
        there = contents(await self.target.about(list(written)))
        for id, content in written.items():
            same = id in there and there[id].digest == content.digest
            if not same or not await payloads.has(content.payloads):
                raise StoreCorrupt(
                    f"run {id} reads back from {self.target.url} otherwise than it was written, so it was not handed "
                    f"over and is in {self.source.url} as before; check the disk there, and copy again"
                )
        return there

    async def discard(self, ids: Sequence[str], states: Sequence[str] = (ARRIVING, MOVED)) -> None:
        """Delete those of these processes that are in these states there."""
        for page in pages(ids):
            rows = await self.target.rows(ids=page, states=states, limit=len(page))
            note = self.source.url, self.route.name, self.target.clock()
            left = {row.id: departing(row, *note) for row in rows if row.state == ARRIVING}
            letters = await self.target.inbox(list(left))
            await commit(self.target, Batch(rows=left, taken=[letter.id for letter in letters]))
            await self.target.delete([row.id for row in rows])

    async def undo(self, journey: Journey) -> None:
        """Delete what this copy has written of a family that does not go."""
        for page in pages(list(journey.sizes)):
            rows = await self.target.rows(ids=page, states=(ARRIVING,), limit=len(page))
            await self.discard([row.id for row in rows if arrival(row).token == self.route.name])


def _note(journey: Journey, here: Content, there: Content, verdict: Verdict) -> None:
    journey.here = (journey.here + int.from_bytes(here.digest)) % DIGESTS
    journey.beyond = (journey.beyond + int.from_bytes(there.digest)) % DIGESTS
    if verdict != "there":
        journey.fresh = True
        journey.events += here.events
    if here.state not in FINISHED:
        journey.letters += [letter.id for letter in here.letters]
        journey.questions += [question.id for question in here.questions]

"""Both stores and a plain one in Python answer the same to the same operations, whatever they are."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.plain_store import PlainStore, Refused
from tests.servers.postgres import Postgres
from tests.stores import commit, ids, row
from weft.core.errors import StoreError
from weft.core.queue import Queue
from weft.store import Batch, Message, ProcessRow, Segment, Store, open_store
from weft.store.base import CLAIMABLE, ENDED, FINISHED, QUEUED, RUNNING, UNFINISHED, WAITING, Want

WINDOW = 1e7  # seconds: no rate opens again during a test
QUEUES = [
    Queue("model-wide"),
    Queue("model-narrow", concurrency=2),
    Queue("model-slow", rate=(6, WINDOW)),
    Queue("model-both", concurrency=3, rate=(12, WINDOW)),
    Queue("model-tokens", amounts={"tokens": (100, WINDOW)}),
]
OWNERS = ["ann", "bob"]
PROCESSES = [f"p{n}" for n in range(10)]
TENANTS = ["", "x", "y"]
EVENTS = ["go", "stop"]
HASHES = [b"h1", b"h2"]
PROGRAMS: list[dict[str, str]] = [{}, {"flow.a": "v1"}, {"flow.a": "v2"}, {"flow.a": "v1", "flow.b": "v1"}]
STEPS = 100


def what_it_is(id: str) -> dict[str, Any]:
    """What a process is never changes: it follows from its name."""
    n = PROCESSES.index(id)
    return {
        "workflow": f"flow.{'aab'[n % 3]}",
        "version": f"v{1 + n // 2 % 2}",
        "parent": PROCESSES[n // 2] if n % 2 else None,
        "queue": [*(queue.name for queue in QUEUES), None][n % 6],
        "priority": n % 2,
        "tenant": TENANTS[n % 3],
        "input": id.encode(),
    }


class Stores:
    """`OWNERS`, each in a store of either kind, and the plain store that both kinds are to be like."""

    def __init__(self, chance: Random, places: list[str]) -> None:
        self.chance = chance
        self.places = places
        self.of: dict[str, list[Store]] = {}
        self.plain = PlainStore()
        self.numbers = itertools.count()
        """For all that must differ."""

    async def begin(self, owner: str) -> None:
        programs = self.chance.choice(PROGRAMS)
        self.of[owner] = [open_store(place, "process") for place in self.places]
        for store in self.of[owner]:
            await store.register(owner, programs)
        self.plain.owners[owner] = programs

    async def close(self) -> None:
        for store in itertools.chain(*self.of.values()):
            await store.close()

    async def both(self, owner: str, ask: Callable[[Store], Awaitable[Any]]) -> Any:
        """What the stores answer to `owner`, which is the same."""
        embedded, shared = [await ask(store) for store in self.of[owner]]
        assert embedded == shared
        return embedded

    def some(self, among: list[Any], most: int) -> list[Any]:
        return self.chance.sample(among, self.chance.randint(0, min(most, len(among))))

    async def step(self) -> None:
        operations = {
            self.write: 40, self.admit: 25, self.claim: 14, self.wake: 7, self.delete: 5, self.start_once: 4,
            self.list: 3, self.restart: 2,
        }  # fmt: skip
        [operation] = self.chance.choices([*operations], [*operations.values()])
        await operation(self.chance.choice(OWNERS))
        if self.chance.random() < 0.3:
            owner = self.chance.choice(OWNERS)
            for store in self.of[owner]:
                await self.compare(store, owner)

    # --- writing ----------------------------------------------------------------------------------------

    def row(self, id: str) -> ProcessRow:
        at, chance = next(self.numbers), self.chance
        state = chance.choice([RUNNING, WAITING, WAITING, QUEUED, QUEUED, QUEUED, "paused", "done", "failed"])
        owner = chance.choice([*OWNERS, "gone", None, None]) if state in CLAIMABLE else None
        wake_at = 1000.0 + at if state == WAITING and chance.random() < 0.6 else None
        known = self.plain.rows.get(id)
        created = time.time() if known is None else known.created
        return row(
            id, **what_it_is(id), state=state, owner=owner, wake_at=wake_at, created=created, updated=float(at),
            started=chance.choice([0.0, 1.0]), strikes=chance.choice([0, 0, 4, 5]), length=at,
            result=b"r" if state in FINISHED else None,
        )  # fmt: skip

    def batch(self) -> Batch:
        chance, plain = self.chance, self.plain
        firsts = [(id, next(self.numbers)) for id in self.some(PROCESSES, 3)]
        if chance.random() < 0.08:  # no store may take what is there already, or comes twice
            firsts += self.some([*plain.segments, *firsts], 1)
        payloads = {id: chance.choice(HASHES) for id in self.some([*plain.rows], 2)}
        tickets = self.some([*plain.tickets], 3)
        return Batch(
            payloads={hash: hash * 2 for hash in payloads.values()},
            references=set(payloads.items()),
            rows={id: self.row(id) for id in self.some(PROCESSES, 4)},
            segments=[Segment(id, first, b"%d" % first) for id, first in firsts],
            messages=[Message(0, id, "box", b"%d" % next(self.numbers)) for id in self.some(PROCESSES, 2)],
            events=[(key, b"%d" % next(self.numbers), chance.choice(PROCESSES)) for key in self.some(EVENTS, 1)],
            waits={
                id: self.some([*EVENTS, *(ENDED + other for other in PROCESSES)], 3) for id in self.some(PROCESSES, 3)
            },
            released={ticket: plain.tickets[ticket].queue for ticket in tickets},
            took={
                ticket: chance.choice([{}, {"tokens": float(chance.randint(0, 30))}])
                for ticket in self.some([one.ticket for one in plain.portions], 3)
            },
        )

    async def write(self, by: str) -> None:
        batch = self.batch()
        gone = sorted(self.some([*range(len(self.plain.letters))], 2))
        try:
            self.plain.commit(batch)
        except Refused:
            for store in self.of[by]:
                with pytest.raises(StoreError):
                    await self.commit(store, batch)
            return
        self.plain.letters = [letter for n, letter in enumerate(self.plain.letters) if n not in gone]
        later = [self.batch()] * (self.chance.random() < 0.3)
        try:
            for one in later:
                self.plain.commit(one)
        except Refused:
            later = []
        for store in self.of[by]:
            inbox = await store.inbox(PROCESSES) if gone else []
            await self.commit(store, replace(batch, taken=[inbox[n].id for n in gone]), *later)

    async def commit(self, store: Store, *batches: Batch) -> None:
        """All at once, so that they may go together."""
        fields = [{name: getattr(batch, name) for name in batch.__struct_fields__} for batch in batches]
        await asyncio.gather(*(commit(store, **batch) for batch in fields))

    async def start_once(self, by: str) -> None:
        absent = [id for id in PROCESSES if id not in self.plain.rows]
        if absent:
            given = replace(self.row(absent[0]), key=self.chance.choice(["k1", "k2"]), owner=None)
            expected = self.plain.insert(given)
            assert await self.both(by, lambda store: store.insert(given)) == expected

    async def delete(self, by: str) -> None:
        among = self.some(PROCESSES, 5)
        assert await self.both(by, lambda store: store.delete(among)) == self.plain.delete(among)

    # --- who executes what ------------------------------------------------------------------------------

    async def restart(self, owner: str) -> None:
        for store in self.of[owner]:
            await store.close()
        self.plain.die(owner)
        for other in OWNERS:
            if other != owner:
                assert await self.both(other, lambda store: store.alive(owner)) is False
        await self.begin(owner)

    async def claim(self, owner: str) -> None:
        chance = self.chance
        among = chance.choice([None, self.some(PROCESSES, 6)])
        states = chance.choice([[*CLAIMABLE], self.some([*UNFINISHED, "done"], 4)])
        queues = chance.choice([None, self.some([queue.name for queue in QUEUES], 4)])
        but = self.some(PROCESSES, 2)
        expected = self.plain.claim(owner, among, states, queues, but)
        taken = await self.both(owner, lambda store: store.claim(owner, among, states=states, queues=queues, but=but))
        assert taken == expected

    async def admit(self, owner: str) -> None:
        chance = self.chance
        queue = chance.choice(QUEUES)
        mine = [n for n, t in self.plain.tickets.items() if t.owner == owner and t.queue == queue.name]
        asked = [
            Want(f"t{next(self.numbers)}", chance.choice(TENANTS), chance.choice([0, 0, 1]), self.tokens(queue))
            for _ in range(chance.randint(0, 3))
        ]
        for name in self.some(mine, 2) if chance.random() < 0.3 else ():  # since an answer got lost
            known = self.plain.tickets[name]
            asked.append(Want(name, known.tenant, known.priority, self.tokens(queue)))
        room = chance.randint(0, 3)
        processes, tickets = self.plain.admit(owner, queue, asked, room, time.time())
        for store in self.of[owner]:
            admission = await store.admit(owner, queue, asked, room)
            assert ids(admission.rows) == processes
            assert admission.rows == [self.plain.rows[id] for id in processes]
            assert admission.tickets == tickets
            assert admission.again is None or 0 < admission.again <= WINDOW

    def tokens(self, queue: Queue) -> dict[str, float]:
        return {kind: float(self.chance.choice([0, 10, 40, 150])) for kind in queue.amounts}

    async def wake(self, owner: str) -> None:
        now, limit = self.chance.choice([0.0, 1000.0 + next(self.numbers) / 2, 1e6]), self.chance.randint(0, 3)
        expected = self.plain.due(owner, now, limit)
        assert await self.both(owner, lambda store: store.due(owner, now, limit)) == expected

    # --- reading ----------------------------------------------------------------------------------------

    async def list(self, by: str) -> None:
        chance = self.chance
        states, roots, limit = self.some([*UNFINISHED, *FINISHED], 4), chance.random() < 0.5, chance.randint(0, 6)
        parent = chance.choice([None, *PROCESSES[:4]])
        before = chance.choice([None, next(self.numbers) * chance.random()])
        expected = [
            one
            for one in reversed(self.plain.rows.values())
            if (not states or one.state in states)
            and (not roots or one.parent is None)
            and (parent is None or one.parent == parent)
            and (before is None or one.updated < before)
        ]
        found = await self.both(
            by, lambda store: store.rows(states=states, roots=roots, parent=parent, before=before, limit=limit)
        )
        assert found == expected[:limit]

    async def compare(self, store: Store, owner: str) -> None:
        plain = self.plain
        assert sorted(await store.news(owner)) == plain.news(owner)
        assert await store.next_wake(owner) == plain.next_wake(owner)
        assert sorted(ids(await store.owned(owner))) == plain.owned(owner)
        stats = await store.stats()
        states = [one.state for one in plain.rows.values() if one.state in UNFINISHED]
        assert stats.states == {state: states.count(state) for state in states}
        assert {name: queue.depth for name, queue in stats.queues.items()} == plain.depths()

        assert await store.rows() == [*reversed(plain.rows.values())]
        held = [(s.process, s.first, s.records) for s in await store.segments(PROCESSES)]
        assert held == sorted((process, first, records) for (process, first), records in plain.segments.items())
        assert [(m.process, m.box, m.payload) for m in await store.inbox(PROCESSES)] == plain.letters
        assert await store.events(EVENTS) == {key: value for key, (value, _) in plain.events.items()}
        ended = [one for one in plain.rows.values() if one.state in FINISHED]
        assert sorted(ids(await store.ended(PROCESSES))) == sorted(ids(ended))
        about = await store.about(PROCESSES)
        assert [*about.rows.values()] == [*plain.rows.values()]
        assert {id: {*keys} for id, keys in about.waits.items()} == {
            id: keys for id, keys in plain.waits.items() if id in plain.rows
        }
        assert about.references == {pair for pair in plain.references if pair[0] in plain.rows}
        for hash in HASHES:
            if hash in plain.payloads:
                assert await store.payload(hash) == plain.payloads[hash]
            else:
                with pytest.raises(StoreError):
                    await store.payload(hash)


TABLES = """weft.owners, weft.processes, weft.segments, weft.payloads, weft.payload_references, weft.inbox, weft.events,
    weft.waits, weft.tickets, weft.starts, weft.served, weft.portions, weft.pauses, weft.graves, weft.images"""


def test_random_operations_have_the_same_effect_on_all_stores(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    files = itertools.count()

    # A smaller seed is no simpler one, so there is nothing to shrink.
    @settings(max_examples=5, deadline=None, phases=[Phase.reuse, Phase.generate])
    @given(st.integers(0, 2**32))
    def play(seed: int) -> None:
        async def main() -> None:
            stores = Stores(Random(seed), [f"{tmp_path}/{next(files)}.db", postgres_url])
            try:
                for owner in OWNERS:
                    await stores.begin(owner)
                for _ in range(STEPS):
                    await stores.step()
            finally:
                await stores.close()

        try:
            asyncio.run(asyncio.wait_for(main(), 60))
        finally:
            postgres.execute(f"TRUNCATE {TABLES}", postgres_url.rpartition("/")[2])

    play()

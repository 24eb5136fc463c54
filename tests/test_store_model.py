"""Both stores and a plain one in Python answer the same to the same operations, whatever they are."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from tests.plain_store import PlainStore, Refused
from tests.servers.postgres import Postgres
from tests.stores import commit, ids, row
from weft.core.declare import Queue
from weft.core.errors import StoreError
from weft.store import Batch, Message, ProcessRow, Segment, Store, open_store
from weft.store.base import CLAIMABLE, ENDED, FINISHED, QUEUED, RUNNING, UNFINISHED, WAITING, Want

WINDOW = 1e7  # seconds: no rate opens again during a test
QUEUES = [
    Queue("model-wide"),
    Queue("model-narrow", concurrency=2),
    Queue("model-slow", rate=(4, WINDOW)),
    Queue("model-both", concurrency=3, rate=(6, WINDOW)),
]
OWNERS = ["ann", "bob"]
PROCESSES = [f"p{n}" for n in range(8)]
TENANTS = ["", "x", "y"]
EVENTS = ["go", "stop"]
HASHES = [b"h1", b"h2", b"h3"]
PROGRAMS = [{}, {"flow.a": "v1"}, {"flow.a": "v2"}, {"flow.a": "v1", "flow.b": "v1"}]

some_processes = st.lists(st.sampled_from(PROCESSES), unique=True, max_size=4)
some_states = st.lists(st.sampled_from([*UNFINISHED, *FINISHED]), unique=True, max_size=4)
owners = st.sampled_from(OWNERS)
queues = st.sampled_from(QUEUES)


def what_it_is(id: str) -> dict[str, Any]:
    """What a process is never changes: it follows from its name."""
    n = PROCESSES.index(id)
    return {
        "workflow": f"flow.{'aab'[n % 3]}",
        "version": f"v{1 + n % 2}",
        "parent": PROCESSES[n // 2] if n % 2 else None,
        "queue": [*(queue.name for queue in QUEUES), None][n % 5],
        "priority": n % 2,
        "tenant": TENANTS[n % 3],
        "started": float(n % 4),
        "input": id.encode(),
    }


class Stores(RuleBasedStateMachine):
    server: ClassVar[Postgres]
    database: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="weft-model-"))
        self.places = [str(self.folder / "j.db"), f"{self.server.url(self.database)}"]
        self.loop = asyncio.new_event_loop()
        self.stores: dict[str, list[Store]] = {}
        self.plain = PlainStore()
        self.numbers: Iterator[int] = itertools.count()
        """For all that must differ."""

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def both(self, owner: str, ask: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
        """What the stores answer to `owner`, which is the same."""
        embedded, shared = [self.do(ask(store)) for store in self.stores[owner]]
        assert embedded == shared
        return embedded

    @initialize(programs=st.tuples(*[st.sampled_from(PROGRAMS)] * len(OWNERS)))
    def begin(self, programs: tuple[dict[str, str], ...]) -> None:
        found = self.server.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'processes'", self.database)
        if found:
            self.server.execute(
                "TRUNCATE weft.owners, weft.processes, weft.segments, weft.payloads, weft.payload_references, "
                "weft.inbox, weft.events, weft.waits, weft.tickets, weft.starts, weft.served, weft.graves",
                self.database,
            )
        for owner, known in zip(OWNERS, programs, strict=True):
            self._open(owner, known)

    def _open(self, owner: str, programs: dict[str, str]) -> None:
        self.stores[owner] = [self._opened(place) for place in self.places]
        for store in self.stores[owner]:
            self.do(store.register(owner, programs))
        self.plain.owners[owner] = programs

    def _opened(self, place: str) -> Store:
        async def opened() -> Store:
            return open_store(place)

        return self.do(opened())  # type: ignore[no-any-return]

    def teardown(self) -> None:
        for store in itertools.chain(*self.stores.values()):
            self.do(store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    # --- writing ----------------------------------------------------------------------------------------

    def _row(self, id: str, state: str, owner: str | None, sleeps: bool, strikes: int) -> ProcessRow:
        at = next(self.numbers)
        return row(
            id, **what_it_is(id), state=state, owner=owner, wake_at=1000.0 + at if sleeps else None, strikes=strikes,
            created=time.time(), updated=float(at), length=at, result=b"r" if state in FINISHED else None,
        )  # fmt: skip

    @rule(
        by=owners,
        changes=st.dictionaries(
            st.sampled_from(PROCESSES),
            st.tuples(
                st.sampled_from([RUNNING, WAITING, QUEUED, QUEUED, "paused", "done", "failed"]),
                st.sampled_from([*OWNERS, "gone", None]),
                st.booleans(),
                st.sampled_from([0, 0, 0, 1, 4, 5]),
            ),
            max_size=4,
        ),
        journals=some_processes,
        letters=st.lists(st.sampled_from(PROCESSES), max_size=3),
        taken=st.lists(st.integers(0, 5), max_size=2),
        events=st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(PROCESSES)), max_size=2),
        waits=st.dictionaries(
            st.sampled_from(PROCESSES),
            st.lists(st.sampled_from([*EVENTS, *(ENDED + id for id in PROCESSES)]), max_size=3),
            max_size=3,
        ),
        payloads=st.dictionaries(st.sampled_from(PROCESSES), st.sampled_from(HASHES), max_size=2),
        released=st.lists(st.integers(0, 20), max_size=3),
        wrong=st.sampled_from([None, None, None, None, "again", "twice"]),
        two=st.booleans(),
    )
    def write(
        self, by: str, changes: dict[str, tuple[str, str | None, bool, int]], journals: list[str], letters: list[str],
        taken: list[int], events: list[tuple[str, str]], waits: dict[str, list[str]], payloads: dict[str, bytes],
        released: list[int], wrong: str | None, two: bool,
    ) -> None:  # fmt: skip
        firsts = [(id, next(self.numbers)) for id in journals]
        if wrong == "again" and self.plain.segments:
            firsts.append(next(iter(self.plain.segments)))
        if wrong == "twice" and firsts:
            firsts.append(firsts[0])
        tickets = [list(self.plain.tickets)[n] for n in released if n < len(self.plain.tickets)]
        gone = sorted({n for n in taken if n < len(self.plain.letters)})
        batch = Batch(
            payloads={hash: hash * 2 for hash in payloads.values()},
            references=set(payloads.items()),
            rows={id: self._row(id, *change) for id, change in changes.items()},
            segments=[Segment(id, first, b"%d" % first) for id, first in firsts],
            messages=[Message(0, id, "box", b"%d" % next(self.numbers)) for id in letters],
            events=[(key, b"%d" % next(self.numbers), id) for key, id in events],
            waits=waits,
            released={ticket: self.plain.tickets[ticket].queue for ticket in tickets},
        )
        later = Batch(rows={id: replace(one, updated=one.updated + 0.5) for id, one in batch.rows.items()})
        try:
            self.plain.commit(batch)
        except Refused:
            for store in self.stores[by]:
                with pytest.raises(StoreError):
                    self._commit(store, batch)
            return
        self.plain.letters = [letter for n, letter in enumerate(self.plain.letters) if n not in gone]
        if two:
            self.plain.commit(later)
        for store in self.stores[by]:
            inbox = self.do(store.inbox(PROCESSES)) if gone else []
            mine = replace(batch, taken=[inbox[n].id for n in gone])
            self._commit(store, mine, *[later] * two)

    def _commit(self, store: Store, *batches: Batch) -> None:
        async def together() -> None:
            await asyncio.gather(
                *(commit(store, **{name: getattr(b, name) for name in b.__struct_fields__}) for b in batches)
            )

        self.do(together())

    @rule(by=owners, id=st.sampled_from(PROCESSES), key=st.sampled_from(["k1", "k2"]), state=st.sampled_from(CLAIMABLE))
    def start_once(self, by: str, id: str, key: str, state: str) -> None:
        if id in self.plain.rows:
            return
        given = replace(self._row(id, state, None, False, 0), key=key)
        expected = self.plain.insert(given)
        assert self.both(by, lambda store: store.insert(given)) == expected

    @rule(by=owners, among=some_processes)
    def delete(self, by: str, among: list[str]) -> None:
        assert self.both(by, lambda store: store.delete(among)) == self.plain.delete(among)

    # --- who executes what ------------------------------------------------------------------------------

    @rule(owner=owners, programs=st.sampled_from(PROGRAMS))
    def restart(self, owner: str, programs: dict[str, str]) -> None:
        for store in self.stores[owner]:
            self.do(store.close())
        self.plain.die(owner)
        for other in OWNERS:
            if other != owner:
                assert self.both(other, lambda store: store.alive(owner)) is False
        self._open(owner, programs)

    @rule(
        owner=owners,
        among=st.none() | some_processes,
        states=st.just(CLAIMABLE) | some_states,
        of=st.none() | st.lists(st.sampled_from([queue.name for queue in QUEUES]), unique=True),
        but=some_processes,
    )
    def claim(
        self, owner: str, among: list[str] | None, states: list[str], of: list[str] | None, but: list[str]
    ) -> None:
        expected = self.plain.claim(owner, among, states, of, but)
        taken = self.both(owner, lambda store: store.claim(owner, among, states=states, queues=of, but=but))
        assert taken == expected

    @rule(
        owner=owners,
        queue=queues,
        wants=st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from([0, 0, 1])), max_size=4),
        again=st.lists(st.integers(0, 20), max_size=2),
        room=st.integers(0, 3),
    )
    def admit(self, owner: str, queue: Queue, wants: list[tuple[str, int]], again: list[int], room: int) -> None:
        known = [n for n, t in self.plain.tickets.items() if t.owner == owner and t.queue == queue.name]
        asked = [Want(f"t{next(self.numbers)}", tenant, priority) for tenant, priority in wants]
        for n in dict.fromkeys(again):  # asked anew, since an answer got lost
            if n < len(known):
                ticket = self.plain.tickets[known[n]]
                asked.append(Want(known[n], ticket.tenant, ticket.priority))
        processes, tickets = self.plain.admit(owner, queue, asked, room, time.time())
        for store in self.stores[owner]:
            admission = self.do(store.admit(owner, queue, asked, room))
            assert ids(admission.rows) == processes
            assert admission.rows == [self.plain.rows[id] for id in processes]
            assert admission.tickets == tickets
            assert admission.again is None or 0 < admission.again <= WINDOW

    @rule(owner=owners, now=st.sampled_from([0.0, 1010.0, 1e6]), limit=st.integers(0, 3))
    def wake(self, owner: str, now: float, limit: int) -> None:
        assert self.both(owner, lambda store: store.due(owner, now, limit)) == self.plain.due(owner, now, limit)

    # --- reading ----------------------------------------------------------------------------------------

    @rule(
        by=owners, states=some_states, roots=st.booleans(), parent=st.none() | st.sampled_from(PROCESSES),
        before=st.none() | st.floats(0, 100), limit=st.integers(0, 4),
    )  # fmt: skip
    def list(
        self, by: str, states: list[str], roots: bool, parent: str | None, before: float | None, limit: int
    ) -> None:
        found = self.both(
            by,
            lambda store: store.rows(states=states, roots=roots, parent=parent, before=before, limit=limit),
        )
        expected = [
            one
            for one in reversed(self.plain.rows.values())
            if (not states or one.state in states)
            and (not roots or one.parent is None)
            and (parent is None or one.parent == parent)
            and (before is None or one.updated < before)
        ]
        assert found == expected[:limit]

    @invariant()
    def all_hold_the_same(self) -> None:
        if not self.stores:
            return
        plain = self.plain
        for owner in OWNERS:
            assert sorted(self.both(owner, lambda store, owner=owner: _sorted(store.news(owner)))) == plain.news(owner)
            assert self.both(owner, lambda store, owner=owner: store.next_wake(owner)) == plain.next_wake(owner)
            for store in self.stores[owner]:
                assert sorted(ids(self.do(store.owned(owner)))) == plain.owned(owner)
        states = [one.state for one in plain.rows.values() if one.state in UNFINISHED]
        for store in self.stores[OWNERS[0]]:
            stats = self.do(store.stats())
            assert stats.states == {state: states.count(state) for state in states}
            assert {name: queue.depth for name, queue in stats.queues.items()} == plain.depths()
            self.do(self._compare(store))

    async def _compare(self, store: Store) -> None:
        plain = self.plain
        assert await store.rows() == [*reversed(plain.rows.values())]
        held = [(s.process, s.first, s.records) for s in await store.segments(PROCESSES)]
        assert held == sorted((process, first, records) for (process, first), records in plain.segments.items())
        assert [(m.process, m.box, m.payload) for m in await store.inbox(PROCESSES)] == plain.letters
        assert await store.events(EVENTS) == {key: value for key, (value, _) in plain.events.items()}
        ended = [one for one in plain.rows.values() if one.state in FINISHED]
        assert sorted(ids(await store.ended(PROCESSES))) == sorted(ids(ended))
        for hash in HASHES:
            if hash in plain.payloads:
                assert await store.payload(hash) == plain.payloads[hash]
            else:
                with pytest.raises(StoreError):
                    await store.payload(hash)


async def _sorted(names: Coroutine[Any, Any, list[str]]) -> list[str]:
    return sorted(await names)


@pytest.mark.timeout(180)
def test_random_operations_have_the_same_effect_on_all_stores(postgres: Postgres) -> None:
    Stores.server = postgres
    Stores.database = postgres.create().rpartition("/")[2]
    try:
        run_state_machine_as_test(
            Stores,
            settings=settings(
                max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[*HealthCheck]
            ),
        )
    finally:
        postgres.drop(Stores.database)

"""Shared memory as a state machine: the real stores do what the plain definition does, and keep what levels promise."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.cells import commit_of
from tests.plain_memory import Answer, Done, PlainMemory
from tests.stores import KINDS, Kind, Place
from weft.core.memory import LEVELS
from weft.store import Store
from weft.store.memory import Commit, Hold, Seen, Verdict, Written

NAMES = ["a", "b", "c"]
SOME = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
LEVEL = st.sampled_from(LEVELS[:4])
"""To the store L4 is what L3 is."""
WHAT = ["begin"] * 4 + ["read_more"] * 2 + ["whole"] * 5 + ["commit"] * 6 + ["retract"] * 2
WHAT += ["hold", "let_go", "let_go", "prune"]


class Memories(RuleBasedStateMachine):
    """Three agents, at one store through two connections. Every value that is written is a new one."""

    place: Place
    loop: asyncio.AbstractEventLoop
    stores: list[Store]
    namespaces: Iterator[int]
    seen: Counter[str]

    @initialize()
    def begin_anew(self) -> None:
        self.namespace = f"n{next(self.namespaces)}"
        self.plain = PlainMemory()
        self.numbers = itertools.count(1)
        self.open: dict[str, Done] = {}
        self.commits: dict[str, Commit] = {}

    def ask(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    @rule(data=st.data(), what=st.sampled_from(WHAT), who=st.integers(0, 1))
    def happens(self, data: st.DataObject, what: str, who: int) -> None:
        """One rule for all: of many, each example would leave some out."""
        getattr(self, what)(data, self.stores[who])

    # --- operations ---------------------------------------------------------------------------------------------

    def begin(self, data: st.DataObject, store: Store) -> None:
        self._begin(data)
        self.read_more(data, store)

    def _begin(self, data: st.DataObject) -> str:
        agent = data.draw(st.integers(0, 2))
        id = f"{self.namespace}-p{agent}:{next(self.numbers)}"
        self.open[id] = Done(id, f"p{agent}", data.draw(LEVEL), 0, {}, {})
        return id

    def read_more(self, data: st.DataObject, store: Store) -> None:
        if self.open:
            self._read(data.draw(st.sampled_from([*self.open])), data.draw(SOME), store)

    def _read(self, id: str, names: list[str], store: Store) -> None:
        found = self.ask(store.look(self.namespace, [f"{self.namespace}/{name}" for name in names]))
        assert found.at == self.plain.clock
        for name, one in zip(names, found.objects, strict=True):
            newest = self.plain.newest(name)
            assert (one.version, one.value, one.operation) == (newest.number, newest.value, newest.writer)
            self.open[id].read.setdefault(name, (one.version, one.operation, found.at, one.value))

    def whole(self, data: st.DataObject, store: Store) -> None:
        """An operation that nobody disturbs."""
        id = self._begin(data)
        self._read(id, data.draw(SOME), store)
        self._commit([id], data, store)

    def commit(self, data: st.DataObject, store: Store) -> None:
        """Several at once, or again one that was let in."""
        if known := [*self.open, *self.open, *self.commits]:
            self._commit(data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3)), data, store)

    def _commit(self, ids: list[str], data: st.DataObject, store: Store) -> None:
        answers = []
        for id in ids:
            if id not in self.commits:
                self._write(id, data)
            expect = {self._name(c): w.expect for c, w in self.commits[id].writes.items() if w.expect is not None}
            answers.append(self.plain.commit(self.plain.done.get(id) or self.open[id], expect))
        verdicts = self.ask(store.operate([self.commits[id] for id in ids]))
        assert [self._answer(verdict) for verdict in verdicts] == answers
        for id, answer in zip(ids, answers, strict=True):
            self.seen["stale"] += bool(answer.stale)
            self.seen["dead"] += bool(answer.dead and not answer.stale)
            self.seen["held"] += answer.held
            if answer.at:
                self.plain.let_go(id)
        for id in ids:
            self.open.pop(id, None)
            if id not in self.plain.done:  # refused: it does not come back
                self.commits.pop(id, None)

    def _write(self, id: str, data: st.DataObject) -> None:
        done = self.open[id]
        names = data.draw(st.sampled_from([[], *([name] for name in NAMES * 2), NAMES[:2], NAMES[1:]]))
        done.wrote = {name: f"{id}/{name}".encode() for name in names}
        if names and data.draw(st.integers(0, 7)) == 7:
            done.wrote[names[0]] = None
        expecting = data.draw(st.sampled_from([None] * 9 + [0, 1, 2]))
        writes = {name: Written(value, expect=expecting) for name, value in done.wrote.items()}
        reads = {name: Seen(one[0], one[1]) for name, one in done.read.items()}
        self.commits[id] = commit_of(id, reads, writes, done.level, self.namespace)

    def _name(self, cell: str) -> str:
        return cell.partition("/")[2]

    def _answer(self, verdict: Verdict) -> Answer:
        versions = {self._name(cell): number for cell, number in verdict.versions.items()}
        return Answer(verdict.at, versions, [self._name(c) for c in verdict.stale], verdict.dead, verdict.held)

    # --- what else happens --------------------------------------------------------------------------------------

    def retract(self, data: st.DataObject, store: Store) -> None:
        if done := [id for id, one in self.plain.done.items() if one.wrote]:
            id, level = data.draw(st.sampled_from(done)), data.draw(LEVEL)
            told = self.ask(store.retract(id, level))
            restored = {self._name(cell): number for cell, number in told.restored.items()}
            assert (told.at, told.operations, restored) == self.plain.retract(id, level)
            self.seen["cascades"] += len(told.operations) > 2

    def hold(self, data: st.DataObject, store: Store) -> None:
        if self.open and len(self.plain.line) < 2:
            id, names = data.draw(st.sampled_from([*self.open])), data.draw(SOME)
            cells = [f"{self.namespace}/{name}" for name in names]
            one = Hold(operation=id, namespace=self.namespace, cells=cells, until=store.clock() + 1e6)
            assert self.ask(store.hold(one)) == self.plain.hold(id, set(names))

    def let_go(self, data: st.DataObject, store: Store) -> None:
        if self.plain.line:
            id = data.draw(st.sampled_from([id for id, _ in self.plain.line]))
            self.ask(store.let_go(id))
            self.plain.let_go(id)

    def prune(self, data: st.DataObject, store: Store) -> None:
        keep = data.draw(st.integers(1, 3))
        assert self.ask(store.prune(self.namespace, keep)) == self.plain.prune(keep)

    # --- what must be true --------------------------------------------------------------------------------------

    @invariant()
    def the_past_is_the_same(self) -> None:
        if not hasattr(self, "plain"):
            return
        past = self.ask(self.stores[1].past(self.namespace, 0, self.plain.clock))
        states = {id: (one.at, self.plain.state(id), one.retracted_at) for id, one in self.plain.done.items()}
        assert {one.id: (one.at, one.state, one.retracted_at) for one in past.operations} == states
        versions = {(name, v.number): v for name, every in self.plain.cells.items() for v in every}
        found = {(self._name(one.cell), one.version): one for one in past.objects}
        assert {key: (one.value, one.operation, one.at) for key, one in found.items()} == {
            key: (one.value, one.writer, one.at) for key, one in versions.items()
        }

    @invariant()
    def no_level_breaks_its_promise(self) -> None:
        if not hasattr(self, "plain"):
            return
        levels = {id: one.level for id, one in self.plain.done.items()}
        stale, cascades = self.plain.stale_generations(), self.plain.cascades()
        assert {levels[id] for id in stale} <= {"L0"}
        assert {levels[id] for id in cascades} <= {"L0", "L1"}
        self.seen["A1 at L0"] += bool(stale)
        self.seen["A3 at L1"] += any(levels[id] == "L1" for id in cascades)


@pytest.mark.timeout(600)  # a failure is made small first, which takes up to 5 minutes
@pytest.mark.parametrize("kind", KINDS)
def test_memory_agrees_with_its_definition(kind: Kind, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/j.db"
    loop = asyncio.new_event_loop()
    Memories.place, Memories.loop, Memories.namespaces = Place(kind, url), loop, itertools.count()
    Memories.stores = [loop.run_until_complete(Memories.place.owner(name)) for name in ("one", "two")]
    Memories.seen = Counter()
    limits = settings(
        max_examples={"sqlite-process": 100, "sqlite-full": 20, "postgres": 25}[kind],
        stateful_step_count=50,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Memories, settings=limits)
    finally:
        for store in Memories.stores:
            loop.run_until_complete(store.close())
        loop.close()
    # Below its level each anomaly comes about, and each refusal was met: nothing here is true of an empty history.
    wanted = {"A1 at L0", "A3 at L1", "stale", "dead", "held", "cascades"}
    assert wanted <= {what for what, count in Memories.seen.items() if count}, Memories.seen

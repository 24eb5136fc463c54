"""Budgets in the store against a plain model, which adds everything up anew each time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.stores import KINDS, Kind, Place, commit, row, rows
from weft.store import Account, Charge, Store

KINDS_OF_MONEY = ("money", "turns")
QUARTERS = st.integers(0, 24).map(lambda n: n / 4)  # their sums are exact
AMOUNTS = st.dictionaries(st.sampled_from(KINDS_OF_MONEY), QUARTERS)


class Ledger(RuleBasedStateMachine):
    """Two runtimes of one store, and a model that adds everything up anew each time."""

    place: Place
    loop: asyncio.AbstractEventLoop
    stores: list[Store]
    trees: Iterator[int]

    @initialize(limits=AMOUNTS)
    def begin(self, limits: dict[str, float]) -> None:
        root = f"t{next(self.trees)}"
        self.parents: dict[str, str | None] = {root: None}
        self.limits = {root: limits}
        self.open: dict[str, tuple[str, dict[str, float]]] = {}
        self.booked: list[tuple[str, dict[str, float]]] = []
        self.known: set[str] = set()
        self.deleted: set[str] = set()
        self.keys = itertools.count()
        self.write(rows=rows(row(root)), accounts={root: Account(root, None, limits)})

    def write(self, **fields: Any) -> None:
        self.loop.run_until_complete(commit(self.stores[0], **fields))

    def chain(self, account: str | None) -> list[str]:
        return [account, *self.chain(self.parents[account])] if account is not None else []

    def total(self, charges: Any, account: str, kind: str) -> float:
        return sum(amounts.get(kind, 0.0) for payer, amounts in charges if account in self.chain(payer))

    def living(self) -> list[str]:
        return [account for account in self.parents if account not in self.deleted]

    @rule(data=st.data(), limits=AMOUNTS)
    def spawn(self, data: st.DataObject, limits: dict[str, float]) -> None:
        if living := self.living():
            parent = data.draw(st.sampled_from(living))
            name = f"{parent}.{len(self.parents)}"
            self.parents[name], self.limits[name] = parent, limits
            self.write(rows=rows(row(name, parent=parent)), accounts={name: Account(name, parent, limits)})

    @rule(data=st.data(), wanted=st.lists(AMOUNTS, min_size=1, max_size=3), who=st.integers(0, 1))
    def reserve(self, data: st.DataObject, wanted: list[dict[str, float]], who: int) -> None:
        if not (living := self.living()):
            return
        charges, expected = [], []
        for amounts in wanted:
            account = data.draw(st.sampled_from(living))
            repeated = [key for key in sorted(self.known) if key.startswith(f"{account}:")]
            key = data.draw(st.sampled_from([f"{account}:{next(self.keys)}:1", *repeated]))
            charges.append(Charge(key, account, amounts))
            broken = any(
                self.total(self.open.values(), above, kind) + self.total(self.booked, above, kind) + amount
                > self.limits[above].get(kind, float("inf"))
                for above in self.chain(account)
                for kind, amount in amounts.items()
            )
            if key not in self.known and not broken:
                self.open[key] = (account, amounts)
                self.known.add(key)
            expected.append(key in self.known)
        answers = self.loop.run_until_complete(self.stores[who].reserve(charges))
        assert [answer is None for answer in answers] == expected

    @rule(data=st.data(), amounts=AMOUNTS)
    def settle(self, data: st.DataObject, amounts: dict[str, float]) -> None:
        if self.known:
            keys = data.draw(st.lists(st.sampled_from(sorted(self.known)), max_size=3, unique=True))
            for key in keys:
                if key in self.open:
                    self.booked.append((self.open.pop(key)[0], amounts))
            self.write(settled=dict.fromkeys(keys, amounts))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if len(living := self.living()) > 1:
            name = data.draw(st.sampled_from(living))
            self.deleted.add(name)
            own = {key for key in self.known if key.startswith(f"{name}:")}
            self.known -= own
            self.open = {key: charge for key, charge in self.open.items() if key not in own}
            self.write(rows=rows(row(name, parent=self.parents[name], state="done")))
            assert self.loop.run_until_complete(self.stores[1].delete([name])) == 1

    @rule()
    def crash(self) -> None:
        self.loop.run_until_complete(self.stores[1].close())
        self.stores[1] = self.loop.run_until_complete(self.place.owner("two"))

    @invariant()
    def books_agree(self) -> None:
        for name in self.living() if hasattr(self, "parents") else ():
            found = self.loop.run_until_complete(self.stores[1].accounts(name))
            assert [one.process for one in found] == self.chain(name)
            for one in found:
                assert one.limits == self.limits[one.process]
                for kind in KINDS_OF_MONEY:
                    assert one.spent.get(kind, 0.0) == self.total(self.booked, one.process, kind)
                    assert one.reserved.get(kind, 0.0) == self.total(self.open.values(), one.process, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_agrees_with_a_plain_model(kind: Kind, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/j.db"
    loop = asyncio.new_event_loop()
    Ledger.place, Ledger.loop, Ledger.trees = Place(kind, url), loop, itertools.count()
    Ledger.stores = [loop.run_until_complete(Ledger.place.owner(name)) for name in ("one", "two")]
    limits = settings(
        max_examples=15 if kind == "postgres" else 40,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Ledger, settings=limits)
    finally:
        for store in Ledger.stores:
            loop.run_until_complete(store.close())
        loop.close()

"""Shared memory in the store: operations that hold their cells, and owners that are dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from tests.cells import commit_of, now, operate, seen
from tests.servers.postgres import Postgres
from tests.servers.relay import Relay
from tests.stores import KINDS, Place, eventually
from weft.core.errors import LeaseLost, StoreError
from weft.store import Store
from weft.store.memory import Hold, Verdict

WAITS = Verdict(held=True)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


def hold_of(store: Store, operation: str, *names: str, seconds: float = 60.0, namespace: str = "notes") -> Hold:
    cells = [f"{namespace}/{name}" for name in names]
    return Hold(operation=operation, namespace=namespace, cells=cells, until=store.clock() + seconds)


def test_what_is_held_others_wait_to_write(place: Place) -> None:
    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        await operate(store, "o:1", writes={"a": b"0", "b": b"0"})
        assert await store.hold(hold_of(store, "p:1", "a", "new"))
        read = await seen(other, "a", "b")
        waiting = commit_of("q:1", read, {"a": b"q"})
        assert await other.operate([waiting]) == [WAITS]
        assert await operate(other, "q:2", {}, {"new": b"q"}, "L0") == WAITS  # at every level, be it new
        assert await other.operations(["q:1", "q:2"]) == [] and await now(other, "a") == {"a": b"0"}
        assert (await operate(other, "q:3", read, {"b": b"q"})).at == 2  # what is not held; reading is free
        assert (await operate(other, "q:4", await seen(store, "a"), {})).at == 3
        assert (await operate(other, "q:5", {}, {"a": b"q"}, namespace="other")).at == 1
        assert (await operate(store, "p:1", await seen(store, "a"), {"a": b"p", "new": b"p"})).at == 4
        # The hold is over with the commit; who waited has meanwhile lost.
        assert await other.operate([waiting]) == [Verdict(stale=["notes/a", "notes/b"])]
        assert (await operate(other, "q:2", {}, {"new": b"q"}, "L0")).at == 5

    place.run(main)


def test_who_is_refused_or_gives_up_lets_go_only_when_it_says_so(place: Place) -> None:
    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        read = await seen(store, "b")
        await operate(store, "o:1", writes={"b": b"0"})
        assert await store.hold(hold_of(store, "p:1", "a"))
        assert await operate(store, "p:1", read, {"a": b"p"}) == Verdict(stale=["notes/b"])
        assert await operate(other, "q:1", {}, {"a": b"q"}) == WAITS
        await store.let_go("p:1")
        await store.let_go("p:1")
        assert (await operate(other, "q:1", {}, {"a": b"q"})).at == 2

    place.run(main)


def test_those_that_hold_stand_in_line(place: Place) -> None:
    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        first, second, third = (hold_of(store, f"{name}:1", *cells) for name, *cells in ("pab", "qbc", "rcd"))
        apart = hold_of(other, "s:1", "e")
        assert await store.hold(first)
        assert not await other.hold(second)  # behind p for b
        assert not await store.hold(third)  # behind q for c, though q is not at the head itself
        assert await other.hold(apart)
        assert await store.hold(first) and not await other.hold(second)  # asked again they keep their places
        assert await operate(other, "q:1", {}, {"b": b"q", "c": b"q"}) == WAITS
        assert await operate(store, "r:1", {}, {"d": b"r"}) == Verdict(1, {"notes/d": 1})  # nobody before it holds d
        assert (await operate(store, "p:1", {}, {"a": b"p", "b": b"p"})).at == 2
        assert await other.hold(second)
        assert (await operate(other, "q:1", {}, {"b": b"q", "c": b"q"})).at == 3

    place.run(main)


def test_two_that_hold_crosswise_both_get_through(place: Place) -> None:
    """Each writes, besides what it holds, a cell that the other one holds: the first in the line goes first."""

    async def main() -> None:
        stores = [await place.owner("me"), await place.owner("you")]

        async def work(k: int) -> int:
            store = stores[k]
            holding = hold_of(store, f"p{k}:1", "ab"[k])
            await eventually(lambda: store.hold(holding))
            while (verdict := await operate(store, f"p{k}:1", {}, {"a": b"%d" % k, "b": b"%d" % k})).held:
                await asyncio.sleep(0.01)
            return verdict.at

        assert sorted(await asyncio.gather(work(0), work(1))) == [1, 2]
        assert len(set((await now(stores[0], "a", "b")).values())) == 1

    place.run(main)


def test_a_hold_ends_by_itself(place: Place) -> None:
    """Even if its owner died: whoever waits gets through."""

    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        holding = hold_of(store, "p:1", "a", seconds=0.3)
        assert await store.hold(holding)
        behind = hold_of(other, "q:1", "a")
        assert not await other.hold(behind)
        assert await operate(other, "r:1", {}, {"a": b"r"}) == WAITS
        await eventually(lambda: other.hold(behind))
        # Its time is over: it holds nothing, and has nothing to wait for.
        assert await store.hold(holding)
        assert await operate(store, "p:1", {}, {"a": b"p"}) == WAITS
        assert (await operate(other, "q:1", {}, {"a": b"q"})).at == 1
        assert (await operate(store, "p:1", {}, {"a": b"p"})).at == 2

    place.run(main)


def test_who_comes_back_to_a_commit_that_was_let_in_holds_nothing_after_it(place: Place) -> None:
    """A runtime that dies after a commit makes the hold, and then the commit, once more."""

    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        commit = commit_of("p:1", {}, {"a": b"p"})
        assert await store.hold(hold_of(store, "p:1", "a"))
        [verdict] = await store.operate([commit])
        assert await other.hold(hold_of(other, "p:1", "a"))
        assert await other.operate([commit]) == [verdict]
        assert (await operate(store, "q:1", {}, {"a": b"q"})).at == 2

    place.run(main)


# --- who is dead ------------------------------------------------------------------------------------------------


@pytest.fixture
def relay(postgres: Postgres) -> Iterator[Relay]:
    with Relay("127.0.0.1", postgres.port) as relay:
        yield relay


def test_a_frozen_owner_commits_nothing(postgres_url: str, relay: Relay) -> None:
    """Its runs go on elsewhere meanwhile, so what it sends when it wakes is refused whole."""
    place = Place("postgres", postgres_url)

    async def main() -> None:
        frozen = await place.beside("postgres", relay.url(place.url)).owner("frozen", heartbeat=0.5)
        other = await place.owner("other", heartbeat=1.0)
        await operate(frozen, "p:1", {}, {"a": b"1"})
        assert await frozen.hold(hold_of(frozen, "p:2", "b"))
        relay.freeze()
        late = asyncio.ensure_future(operate(frozen, "p:2", {}, {"b": b"late"}))

        async def over() -> bool:
            return not await other.alive("frozen")

        await eventually(over)
        connection = await asyncpg.connect(place.url)
        while await connection.fetchval("SELECT count(*) FROM weft.owners") == 2:
            await asyncio.sleep(0.05)
        await connection.close()
        relay.thaw()
        for use in (
            late,
            operate(frozen, "p:3", {}, {"a": b"later"}, "L0"),
            frozen.hold(hold_of(frozen, "p:3", "a")),
            frozen.let_go("p:2"),
            frozen.retract("p:1", "L2"),
        ):
            with pytest.raises(LeaseLost):
                await use
        assert await now(other, "a", "b") == {"a": b"1", "b": None}
        assert [one.id for one in await other.recent("notes")] == ["p:1"]
        assert (await operate(other, "q:1", {}, {"a": b"2"})).at == 2

    place.run(main)


def test_somebody_must_be_registered_to_operate(postgres_url: str) -> None:
    place = Place("postgres", postgres_url)

    async def main() -> None:
        with pytest.raises(StoreError, match="nobody is registered"):
            await operate(place.open(), "p:1", {}, {"a": b"1"})

    place.run(main)

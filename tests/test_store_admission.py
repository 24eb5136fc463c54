"""Whom a queue lets in: the rule by itself, and all stores that apply it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_store import Waiter, in_turn
from tests.stores import KINDS, Place, commit, eventually, ids, row, rows
from weft.core.queue import Queue
from weft.store import Store
from weft.store.admission import Candidate, choose, within_room
from weft.store.base import MAX_STRIKES, Want


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


# --- the rule ---------------------------------------------------------------------------------------------------

NOW = 1000.0
tenants = st.sampled_from(["", "a", "b", "c"])
times = st.integers(0, 5).map(float)  # some of them at once


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    waiting = draw(st.lists(st.tuples(tenants, st.integers(0, 2), times), max_size=14))
    return {
        "queue": Queue(
            "rule",
            concurrency=draw(st.none() | st.integers(1, 6)),
            rate=draw(st.none() | st.tuples(st.integers(1, 5), st.just(10.0))),
        ),
        "waiting": [Candidate((f"w{n}", None if n % 2 else "me", "process"), *one) for n, one in enumerate(waiting)],
        "holders": draw(st.dictionaries(tenants, st.integers(1, 3))),
        "starts": draw(st.lists(st.floats(NOW - 15, NOW), max_size=7)),
        "served": draw(st.dictionaries(tenants, st.integers(1, 9).map(float))),
    }


@settings(deadline=None, max_examples=150)
@given(situations())
def test_who_is_let_in_is_who_would_be_one_by_one(situation: dict[str, Any]) -> None:
    queue, holders, served = situation["queue"], situation["holders"], situation["served"]
    turn = choose(**situation, now=NOW)
    line = [Waiter(c.key[0], c.key[1], c.tenant, c.priority, c.order) for c in situation["waiting"]]
    recent = [at for at in situation["starts"] if queue.rate and at > NOW - queue.rate[1]]
    expected = in_turn(queue, line, holders, len(recent), served)
    assert [one.key[0] for one in turn.chosen] == [one.name for one in expected]
    if queue.concurrency is not None and turn.chosen:
        assert sum(holders.values()) + len(turn.chosen) <= queue.concurrency


@settings(deadline=None, max_examples=150)
@given(situations())
def test_the_rate_says_when_it_lets_in_the_next(situation: dict[str, Any]) -> None:
    queue = situation["queue"]
    turn = choose(**situation, now=NOW)
    left = len(situation["waiting"]) - len(turn.chosen)
    full = queue.concurrency is not None and (
        sum(situation["holders"].values()) + len(turn.chosen) >= queue.concurrency
    )
    if turn.again is None:
        assert not left or full
        return
    assert left and not full and queue.rate is not None
    limit, seconds = queue.rate
    starts = [*situation["starts"], *[NOW] * len(turn.chosen)]
    then = NOW + turn.again
    assert len([at for at in starts if at > NOW - seconds]) >= limit  # it is full now
    assert len([at for at in starts if at > then - seconds + 1e-6]) < limit  # and not any more then
    assert len([at for at in starts if at > then - seconds - 1e-6]) >= limit  # nor a little earlier


@settings(deadline=None, max_examples=100)
@given(situations(), st.integers(0, 5))
def test_room_bounds_those_of_nobody_alone(situation: dict[str, Any], room: int) -> None:
    turn = choose(**situation, now=NOW)
    cut = within_room(turn, room)
    mine = [one for one in turn.chosen if one.key[1] is not None]
    free = [one for one in turn.chosen if one.key[1] is None]
    assert [one for one in cut.chosen if one.key[1] is not None] == mine
    assert [one for one in cut.chosen if one.key[1] is None] == free[:room]
    assert cut.again == turn.again


# --- steps ------------------------------------------------------------------------------------------------------


def wants(*names: str, tenant: str = "", priority: int = 0) -> list[Want]:
    return [Want(name, tenant, priority) for name in names]


async def let_in(store: Store, owner: str, queue: Queue, *given: Want) -> list[str]:
    return (await store.admit(owner, queue, given, 0)).tickets


def test_at_most_so_many_steps_over_all_runtimes(place: Place) -> None:
    queue = Queue("narrow", concurrency=2)

    async def main() -> None:
        mine, theirs = await place.owner("me"), await place.owner("you")
        assert await let_in(mine, "me", queue, *wants("a", "b", "c")) == ["a", "b"]
        assert await let_in(theirs, "you", queue, *wants("d", "e")) == []
        assert await let_in(mine, "me", Queue("other", concurrency=1), *wants("z")) == ["z"]
        await commit(mine, released={"a": "narrow"})
        # c came before d, and only its own runtime can let it in.
        assert await let_in(theirs, "you", queue) == []
        assert await let_in(mine, "me", queue) == ["c"]
        await commit(mine, released={"b": "narrow", "c": "narrow"})
        assert await let_in(theirs, "you", queue) == ["d", "e"]
        assert await let_in(mine, "me", queue, *wants("f")) == []
        # Who gives up waiting leaves the line; who dies leaves it and his places.
        await commit(mine, released={"f": "narrow"})
        assert await let_in(mine, "me", queue, *wants("g")) == []
        await theirs.close()
        assert await let_in(mine, "me", queue) == ["g"]
        assert await let_in(mine, "me", queue, *wants("h", "i")) == ["h"]

    place.run(main)


def test_a_step_that_asks_again_keeps_its_turn_and_takes_no_second_place(place: Place) -> None:
    queue = Queue("narrow", concurrency=1)

    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", queue, *wants("a", "b")) == ["a"]
        assert await let_in(store, "me", queue, *wants("c")) == []
        # As after an answer that got lost: it says once more what was said already.
        assert await let_in(store, "me", queue, *wants("b", "a")) == ["a"]
        assert await let_in(store, "me", queue) == []
        await commit(store, released={"a": "narrow"})
        assert await let_in(store, "me", queue, *wants("c")) == ["b"]
        await commit(store, released={"b": "narrow"})
        assert await let_in(store, "me", queue) == ["c"]

    place.run(main)


def test_the_urgent_first_then_in_order_of_arrival(place: Place) -> None:
    queue = Queue("narrow", concurrency=1)

    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", queue, *wants("first")) == ["first"]
        await let_in(store, "me", queue, *wants("low", priority=-1), *wants("b1", "b2"))
        await let_in(store, "me", queue, *wants("high", priority=7), *wants("b3"))
        order, last = [], "first"
        while last:
            await commit(store, released={last: "narrow"})
            found = await let_in(store, "me", queue)
            assert len(found) <= 1
            last = found[0] if found else ""
            order.append(last)
        assert order == ["high", "b1", "b2", "b3", "low", ""]

    place.run(main)


@pytest.mark.parametrize("names", [("x", "y"), ("", "y"), ("x", "")])
def test_tenants_take_turns(place: Place, names: tuple[str, str]) -> None:
    one, two = names
    queue = Queue("narrow", concurrency=1)

    async def main() -> None:
        store = await place.owner("me")
        last = (await let_in(store, "me", queue, *wants(*(f"1.{n}" for n in range(8)), tenant=one)))[0]
        assert last == "1.0"
        await let_in(store, "me", queue, *wants(*(f"2.{n}" for n in range(4)), tenant=two))
        order = []
        while last:
            await commit(store, released={last: "narrow"})
            found = await let_in(store, "me", queue)
            last = found[0] if found else ""
            order.append(last)
        assert [name[:1] for name in order[:8]] in (list("21212121"), list("12121212"))
        assert [name for name in order if name.startswith("1")] == [f"1.{n}" for n in range(1, 8)]
        assert [name for name in order if name.startswith("2")] == [f"2.{n}" for n in range(4)]

    place.run(main)


def test_a_tenant_with_thousands_in_line_hides_nobody(place: Place) -> None:
    queue = Queue("narrow", concurrency=2)

    async def main() -> None:
        store = await place.owner("me")
        many = [Want(f"many-{n}", "many") for n in range(2500)]
        assert await let_in(store, "me", queue, *many) == ["many-0", "many-1"]
        assert await let_in(store, "me", queue, Want("one", "one")) == []
        await commit(store, released={"many-0": "narrow"})
        assert await let_in(store, "me", queue) == ["one"]
        created = time.time()
        await commit(
            store,
            rows=rows(
                *(row(f"p{n}", state="queued", queue="q", tenant="many", created=created) for n in range(2500)),
                row("single", state="queued", queue="q", tenant="one", created=created + 1),
            ),
        )
        await store.register("me", {"shop.order": "v1"})
        let = await store.admit("me", Queue("q", concurrency=2), [], 10)
        assert ids(let.rows) == ["p0", "single"]

    place.run(main)


# --- processes --------------------------------------------------------------------------------------------------


def test_processes_that_are_let_in_run_and_are_ours(place: Place) -> None:
    queue = Queue("narrow", concurrency=3)

    async def main() -> None:
        store = await place.owner("me", {"shop.order": "v1"})
        await commit(
            store,
            rows=rows(
                row("mine", state="queued", queue="narrow", owner="me", created=1.0, workflow="unknown.here"),
                row("dead's", state="queued", queue="narrow", owner="gone", created=2.0),
                row("nobody's", state="queued", queue="narrow", created=3.0, wake_at=9.0),
                row("foreign", state="queued", queue="narrow", created=0.0, workflow="unknown.here"),
                row("elsewhere", state="queued", queue="wide", created=0.0),
                row("runs", state="running", queue="wide"),
            ),
        )
        assert ids((await store.admit("me", queue, [], 0)).rows) == ["mine"]
        admission = await store.admit("me", queue, [], 1)
        assert [(p.id, p.state, p.owner, p.wake_at) for p in admission.rows] == [("dead's", "running", "me", None)]
        assert admission.rows == [await store.row("dead's")]
        assert ids((await store.admit("me", queue, [], 5)).rows) == ["nobody's"]
        assert sorted(ids(await store.owned("me"))) == ["dead's", "mine", "nobody's"]
        await commit(store, rows=rows(row("late", state="queued", queue="narrow", created=4.0)))
        assert (await store.admit("me", queue, [], 5)).rows == []
        # A process that waits for something keeps its place; one that ended gives it back.
        await commit(store, rows=rows(row("mine", state="waiting", owner="me")))
        assert (await store.admit("me", queue, [], 5)).rows == []
        await commit(store, rows=rows(row("mine", state="done")))
        assert ids((await store.admit("me", queue, [], 5)).rows) == ["late"]

    place.run(main)


def test_those_of_one_instant_come_in_the_order_in_which_they_were_written(place: Place) -> None:
    queue = Queue("narrow", concurrency=4)

    async def main() -> None:
        store = await place.owner("me")
        line = [row(f"p{n}", state="queued", queue="narrow", owner="me", created=5.0) for n in range(9)]
        await commit(store, rows=rows(*line))
        assert ids((await store.admit("me", queue, [], 0)).rows) == ["p0", "p1", "p2", "p3"]

    place.run(main)


def test_what_was_left_alone_holds_no_place_and_what_lost_its_owner_does(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(
                row("stuck", queue="q", strikes=MAX_STRIKES),
                row("orphan", queue="q", owner="gone"),
                row("free", queue="q"),
            ),
        )
        assert await let_in(store, "me", Queue("q", concurrency=2), *wants("a")) == []
        await commit(store, rows=rows(row("free", state="done")))
        assert await let_in(store, "me", Queue("q", concurrency=2)) == ["a"]

    place.run(main)


def test_steps_and_processes_stand_in_one_line(place: Place) -> None:
    queue = Queue("narrow", concurrency=1)

    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", queue, *wants("s1")) == ["s1"]
        await let_in(store, "me", queue, *wants("s2"))
        await commit(store, rows=rows(row("p", state="queued", queue="narrow", owner="me", created=store.clock())))
        await let_in(store, "me", queue, *wants("s3"))
        order = []
        for _ in range(3):
            last = order[-1] if order else "s1"
            change = {"rows": rows(row("p", state="done"))} if last == "p" else {"released": {last: "narrow"}}
            await commit(store, **change)
            admission = await store.admit("me", queue, [], 0)
            order += ids(admission.rows) + admission.tickets
        assert order == ["s2", "p", "s3"]

    place.run(main)


# --- rates ------------------------------------------------------------------------------------------------------


def test_a_rate_holds_over_all_runtimes_and_opens_again(place: Place) -> None:
    queue = Queue("slow", rate=(2, 0.4))

    async def main() -> None:
        stores = {"me": await place.owner("me"), "you": await place.owner("you")}
        asked: dict[str, list[Want]] = {"me": wants("a", "c", "e"), "you": wants("b", "d", "f")}
        spans: list[tuple[float, float]] = []
        agains = 0

        async def look(owner: str) -> int:
            nonlocal agains
            before = time.monotonic()
            admission = await stores[owner].admit(owner, queue, asked.pop(owner, []), 0)
            spans.extend([(before, time.monotonic())] * len(admission.tickets))
            assert len(admission.tickets) <= 2
            if admission.again is not None:
                assert 0 < admission.again <= 0.4
                agains += 1
            return len(admission.tickets)

        assert await look("me") == 2
        assert await look("me") == 0

        async def all_in() -> bool:
            await look("you")
            await look("me")
            return len(spans) == 6

        await eventually(all_in)
        # Two after each other begin at any time, three never within 0.4 seconds.
        for (began, _), (_, ended) in zip(spans, spans[2:], strict=False):
            assert ended - began >= 0.4 - 1e-3
        assert agains >= 2

    place.run(main)


def test_processes_and_steps_count_for_one_rate(place: Place) -> None:
    queue = Queue("slow", rate=(3, 10_000.0))

    async def main() -> None:
        store = await place.owner("me", {"shop.order": "v1"})
        line = [row(f"p{n}", state="queued", queue="slow", created=float(n)) for n in range(3)]
        await commit(store, rows=rows(*line))
        first = await store.admit("me", queue, wants("a", "b"), 2)
        # The third process would be before the steps, but there is no room for it.
        assert (ids(first.rows), first.tickets) == (["p0", "p1"], [])
        second = await store.admit("me", queue, [], 0)
        assert (ids(second.rows), second.tickets) == ([], ["a"])
        assert second.again is not None and 9_000 < second.again <= 10_000
        third = await store.admit("me", queue, [], 5)
        assert (third.rows, third.tickets) == ([], [])

    place.run(main)


def test_a_queue_without_limits_lets_everybody_in(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", {"shop.order": "v1"})
        line = [row(f"p{n}", state="queued", queue="wide", created=float(n)) for n in range(20)]
        await commit(store, rows=rows(*line))
        admission = await store.admit("me", Queue("wide"), wants("a", "b"), 100)
        assert ids(admission.rows) == [f"p{n}" for n in range(20)]
        assert admission.tickets == ["a", "b"] and admission.again is None

    place.run(main)


# --- all at once ------------------------------------------------------------------------------------------------


def test_runtimes_that_ask_at_the_same_time_never_let_in_too_many(place: Place) -> None:
    queue = Queue("narrow", concurrency=2)
    inside: set[str] = set()
    at_work, most = 4, 0

    async def work(owner: str) -> None:
        nonlocal at_work, most
        store = await place.owner(owner)
        for n in range(15):
            ticket = f"{owner}-{n}"
            found = await let_in(store, owner, queue, *wants(ticket))
            while not found:
                await asyncio.sleep(0.001)
                found = await let_in(store, owner, queue)
            assert found == [ticket]
            inside.add(ticket)
            most = max(most, len(inside))
            assert len(inside) <= 2
            while len(inside) < 2 and at_work > 1:  # the other place is for somebody else
                await asyncio.sleep(0.001)
            inside.remove(ticket)
            await commit(store, released={ticket: "narrow"})
        at_work -= 1

    async def main() -> None:
        await asyncio.gather(*(work(f"o{n}") for n in range(4)))
        assert most == 2

    place.run(main)

"""Limits by amount, and pauses: the rule by itself, and all stores that apply it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.plain_store import Waiter, in_turn
from tests.servers.postgres import Postgres
from tests.stores import KINDS, Place, commit, eventually, ids, row, rows
from weft.core.errors import BadInput
from weft.core.queue import Queue, find_queue
from weft.store import Store
from weft.store.admission import Candidate, choose
from weft.store.base import Want
from weft.store.postgres import schema as postgres_schema
from weft.store.sqlite import schema as sqlite_schema


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


# --- the rule ---------------------------------------------------------------------------------------------------

NOW = 1000.0
LIMITS = {"tokens": (20.0, 10.0), "money": (6.0, 4.0)}
tenants = st.sampled_from(["", "a", "b"])


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    kinds = draw(st.sets(st.sampled_from(sorted(LIMITS)), min_size=1))
    said = st.fixed_dictionaries({kind: st.integers(0, 26).map(float) for kind in kinds}) | st.just({})
    waiting = draw(st.lists(st.tuples(tenants, st.integers(0, 1), st.integers(0, 5).map(float), said), max_size=10))
    taken = st.tuples(st.sampled_from(sorted(LIMITS)), st.floats(NOW - 12, NOW), st.integers(0, 12).map(float))
    return {
        "queue": Queue(
            "rule",
            concurrency=draw(st.none() | st.integers(1, 6)),
            rate=draw(st.none() | st.tuples(st.integers(1, 5), st.just(10.0))),
            amounts={kind: LIMITS[kind] for kind in kinds},
        ),
        "waiting": [Candidate((f"w{n}", "me", "ticket"), *one) for n, one in enumerate(waiting)],
        "holders": draw(st.dictionaries(tenants, st.integers(1, 2))),
        "starts": draw(st.lists(st.floats(NOW - 12, NOW), max_size=4)),
        "served": draw(st.dictionaries(tenants, st.integers(1, 9).map(float))),
        "taken": draw(st.lists(taken, max_size=6)),
    }


def fits(queue: Queue, taken: list[tuple[str, float, float]], said: Mapping[str, float], now: float) -> bool:
    """Whether there is room at `now`: by looking at everything that was ever taken."""
    for kind, amount in said.items():
        limit, seconds = queue.amounts[kind]
        lately = sum(much for k, at, much in taken if k == kind and at > now - seconds)
        if lately + amount > limit and not (amount > limit and lately == 0):
            return False
    return True


def one_by_one(situation: dict[str, Any]) -> tuple[list[str], Candidate | None]:
    """Who goes in without overtaking, and who is the first that time alone holds up by its amounts."""
    queue, taken = situation["queue"], list(situation["taken"])
    line = [Waiter(c.key[0], c.key[1], c.tenant, c.priority, c.order) for c in situation["waiting"]]
    recent = [at for at in situation["starts"] if queue.rate and at > NOW - queue.rate[1]]
    by_name = {c.key[0]: c for c in situation["waiting"]}
    went: list[str] = []
    for one in in_turn(queue, line, situation["holders"], len(recent), situation["served"]):
        said = by_name[one.name].amounts
        if not fits(queue, taken, said, NOW):
            return went, by_name[one.name]
        taken += [(kind, NOW, amount) for kind, amount in said.items()]
        went.append(one.name)
    return went, None


@settings(deadline=None, max_examples=250)
@given(situations())
def test_amounts_let_in_whom_a_look_at_everything_would_one_by_one(situation: dict[str, Any]) -> None:
    turn = choose(**situation, now=NOW)
    went, _ = one_by_one(situation)
    assert [one.key[0] for one in turn.chosen] == went


@settings(deadline=None, max_examples=250)
@given(situations())
def test_amounts_say_when_the_next_may_go_in(situation: dict[str, Any]) -> None:
    queue = situation["queue"]
    turn = choose(**situation, now=NOW)
    _, next = one_by_one(situation)
    if next is None or queue.rate is not None:  # when a rate opens is shown with rates
        return
    assert turn.again is not None
    taken = [*situation["taken"], *((kind, NOW, much) for one in turn.chosen for kind, much in one.amounts.items())]
    then = NOW + turn.again
    assert fits(queue, taken, next.amounts, then + 1e-6)
    assert not fits(queue, taken, next.amounts, then - 1e-6)


@settings(deadline=None, max_examples=100)
@given(situations(), st.floats(NOW - 5, NOW + 5))
def test_nobody_goes_in_before_a_pause_is_over(situation: dict[str, Any], until: float) -> None:
    free, paused = choose(**situation, now=NOW), choose(**situation, now=NOW, until=until)
    if until <= NOW:
        assert paused == free
        return
    assert paused.chosen == []
    if free.chosen:
        assert paused.again == pytest.approx(until - NOW)
    elif paused.again is not None:
        assert paused.again >= until - NOW


@pytest.mark.parametrize(
    "amounts",
    [{"tokens": (0, 60)}, {"tokens": (5, 0)}, {"tokens": (-1, 1)}, {"words": (5, 60)}, {"tokens": (5,)},
     {"tokens": (float("inf"), 1)}, {"tokens": (float("nan"), 1)}],
)  # fmt: skip
def test_a_limit_that_means_nothing_is_refused(amounts: Any) -> None:
    with pytest.raises(BadInput, match="amounts are"):
        Queue("bad", amounts=amounts)


def test_a_queue_with_amounts_is_the_one_that_its_name_means() -> None:
    Queue("by-name")
    limited = Queue("by-name", amounts={"tokens": (5, 60)})
    assert find_queue("by-name") is limited


# --- all stores -------------------------------------------------------------------------------------------------

LONG = 10_000.0
TOKENS = Queue("tpm", amounts={"tokens": (100, LONG)})


def want(name: str, tokens: float, **fields: Any) -> Want:
    return Want(name, amounts={"tokens": tokens}, **fields)


async def let_in(store: Store, owner: str, queue: Queue, *given: Want) -> list[str]:
    return (await store.admit(owner, queue, given, 0)).tickets


def test_as_much_as_there_is_room_for_over_all_runtimes(place: Place) -> None:
    async def main() -> None:
        mine, theirs = await place.owner("me"), await place.owner("you")
        assert await let_in(mine, "me", TOKENS, want("a", 60), want("b", 30), want("c", 30)) == ["a", "b"]
        first = await theirs.admit("you", TOKENS, [want("d", 5)], 0)
        assert first.tickets == []  # there is room for d, but it is c's turn
        assert first.again is not None and LONG - 60 < first.again <= LONG
        await commit(mine, released={"a": "tpm", "b": "tpm"})
        assert await let_in(mine, "me", TOKENS) == []  # that they have ended gives nothing back
        assert await let_in(mine, "me", Queue("other", amounts={"tokens": (9, LONG)}), want("z", 9)) == ["z"]
        await commit(mine, released={"c": "tpm"}, took={"c": {}})
        assert await let_in(theirs, "you", TOKENS) == ["d"]

    place.run(main)


def test_what_was_taken_really_counts_in_place_of_what_was_said(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", TOKENS, want("a", 90), want("b", 60), want("c", 1)) == ["a"]
        await commit(store, released={"a": "tpm"}, took={"a": {"tokens": 40}})
        assert await let_in(store, "me", TOKENS) == ["b"]
        await commit(store, released={"b": "tpm"}, took={"b": {"tokens": 160}})  # more than it said
        assert await let_in(store, "me", TOKENS) == []
        await commit(store, took={"b": {"tokens": 0}, "unknown": {"tokens": 7}})
        assert await let_in(store, "me", TOKENS, want("d", 0)) == ["c", "d"]

    place.run(main)


def test_one_above_the_whole_limit_goes_in_alone(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", TOKENS, want("a", 1), want("huge", 1000), want("b", 1)) == ["a"]
        await commit(store, released={"a": "tpm"}, took={"a": {"tokens": 0}})
        assert await let_in(store, "me", TOKENS) == ["huge"]
        await commit(store, released={"huge": "tpm"}, took={"huge": {"tokens": 99}})
        assert await let_in(store, "me", TOKENS) == ["b"]

    place.run(main)


def test_the_window_goes_on_by_itself(place: Place) -> None:
    quick = Queue("quick", amounts={"tokens": (10, 0.3)})

    async def main() -> None:
        store = await place.owner("me")
        before = asyncio.get_running_loop().time()
        assert await let_in(store, "me", quick, *(want(f"t{n}", 10) for n in range(3))) == ["t0"]
        again = (await store.admit("me", quick, [], 0)).again
        assert asyncio.get_running_loop().time() - before > 0.3 or 0 < again <= 0.3  # type: ignore[operator]
        assert await eventually(lambda: let_in(store, "me", quick)) == ["t1"]
        assert await eventually(lambda: let_in(store, "me", quick)) == ["t2"]
        assert asyncio.get_running_loop().time() - before >= 0.6

    place.run(main)


def test_several_kinds_and_a_rate_hold_together(place: Place) -> None:
    both = Queue("both", rate=(3, LONG), amounts={"tokens": (100, LONG), "money": (1.0, LONG)})

    async def main() -> None:
        store = await place.owner("me")
        asked = [Want(f"t{n}", amounts={"tokens": 10, "money": 0.4}) for n in range(3)]
        assert await let_in(store, "me", both, *asked) == ["t0", "t1"]
        await commit(store, took={"t0": {"money": 0.1}})  # of tokens stays what was said
        assert await let_in(store, "me", both, Want("t3", amounts={"tokens": 1, "money": 0})) == ["t2"]
        assert await let_in(store, "me", both) == []

    place.run(main)


def test_tenants_and_priorities_as_without_amounts(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        line = [want(f"x{n}", 30, tenant="x") for n in range(3)] + [want("y", 30, tenant="y")]
        assert await let_in(store, "me", TOKENS, *line, want("high", 30, priority=3)) == ["high", "x0", "y"]

    place.run(main)


def test_processes_take_nothing_but_their_turn(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", TOKENS, want("a", 100)) == ["a"]
        await commit(store, rows=rows(row("p", state="queued", queue="tpm", owner="me")))
        assert ids((await store.admit("me", TOKENS, [], 0)).rows) == ["p"]

    place.run(main)


def test_who_dies_in_line_takes_nothing_and_who_dies_at_work_has_taken_it(place: Place) -> None:
    async def main() -> None:
        mine, theirs = await place.owner("me"), await place.owner("you")
        assert await let_in(theirs, "you", TOKENS, want("p:1:1", 60), want("q:1:1", 60)) == ["p:1:1"]
        assert await let_in(mine, "me", TOKENS, want("a", 40)) == []  # q came before
        await theirs.close()
        assert await let_in(mine, "me", TOKENS) == ["a"]
        # The step goes on with another runtime, under its old name: nobody knows how much it had taken before.
        assert await let_in(mine, "me", TOKENS, want("p:1:1", 60)) == []

    place.run(main)


def test_one_that_asks_again_takes_no_second_portion(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", TOKENS, want("a", 60), want("b", 50)) == ["a"]
        assert await let_in(store, "me", TOKENS, want("b", 50), want("c", 10)) == []
        await commit(store, released={"b": "tpm"}, took={"b": {}})
        assert await let_in(store, "me", TOKENS) == ["c"]
        assert await let_in(store, "me", TOKENS, want("d", 31), want("e", 1)) == []

    place.run(main)


# --- pauses -----------------------------------------------------------------------------------------------------


def test_a_pause_holds_all_runtimes_and_ends(place: Place) -> None:
    plain = Queue("gpt")

    async def main() -> None:
        mine, theirs = await place.owner("me"), await place.owner("you")
        assert await let_in(mine, "me", plain, Want("a")) == ["a"]
        began = asyncio.get_running_loop().time()
        await commit(mine, pauses={"gpt": 0.4})
        await commit(theirs, pauses={"gpt": 0.05})  # the longer one counts
        admission = await theirs.admit("you", plain, [Want("b")], 0)
        assert admission.tickets == []
        assert admission.again is not None and 0.05 < admission.again <= 0.4
        assert await let_in(theirs, "you", Queue("other"), Want("z")) == ["z"]
        assert await eventually(lambda: let_in(theirs, "you", plain)) == ["b"]
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert await let_in(mine, "me", plain, Want("c")) == ["c"]

    place.run(main)


def test_pauses_of_one_moment_are_the_longest_of_them(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await asyncio.gather(*(commit(store, pauses={"gpt": seconds}) for seconds in (5.0, 500.0, 50.0)))
        admission = await store.admit("me", Queue("gpt"), [Want("a")], 0)
        assert admission.again is not None and 400 < admission.again <= 500

    place.run(main)


@pytest.mark.parametrize("hours", [-5, 5])
def test_times_are_those_of_the_server_whatever_a_machine_takes_them_for(postgres_url: str, hours: int) -> None:
    place = Place("postgres", postgres_url)

    async def main() -> None:
        right, wrong = await place.owner("right"), await place.owner("wrong")
        wrong.clock = lambda: right.clock() + hours * 3600  # type: ignore[method-assign]
        assert await let_in(wrong, "wrong", TOKENS, want("a", 70)) == ["a"]
        assert await let_in(right, "right", TOKENS, want("b", 70)) == []
        await commit(wrong, took={"a": {"tokens": 1}}, pauses={"tpm": 300.0})
        for name, store in (("right", right), ("wrong", wrong)):
            admission = await store.admit(name, TOKENS, [], 0)
            assert admission.tickets == [] and admission.again is not None and 290 < admission.again <= 300

    place.run(main)


# --- older stores and older workers -----------------------------------------------------------------------------


def test_a_file_of_before_is_brought_up_to_date(tmp_path: Any) -> None:
    with sqlite3.connect(tmp_path / "j.db") as file:
        for statement in (s for version in sqlite_schema.MIGRATIONS[:5] for s in version):
            file.execute(statement)
        file.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}")
        file.execute("PRAGMA user_version = 5")
        place = Place("sqlite-full", f"sqlite:///{tmp_path}/j.db")

    async def main() -> None:
        store = await place.owner("me")
        assert await let_in(store, "me", TOKENS, want("a", 60), want("b", 60)) == ["a"]
        # An older Weft that had the file open then goes on writing its tickets as it did.
        with sqlite3.connect(tmp_path / "j.db") as file:
            file.execute("INSERT INTO tickets VALUES ('old', 'tpm', '', 9, 'me', 0.0, 0)")
        assert await let_in(store, "me", TOKENS) == ["old"]

    place.run(main)


def test_an_older_worker_goes_on_beside_a_newer_one(postgres: Postgres, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.execute("CREATE SCHEMA weft; CREATE TABLE weft.schema (version integer, oldest integer)", database)
    for step in postgres_schema.MIGRATIONS[:4]:
        postgres.execute(step, database)
    postgres.execute("INSERT INTO weft.schema VALUES (4, 2)", database)
    place = Place("postgres", postgres_url)

    async def main() -> None:
        store = await place.owner("me")
        assert postgres.execute("SELECT version, oldest FROM weft.schema", database).strip() == "5|2"
        assert await let_in(store, "me", TOKENS, want("a", 60), want("b", 60)) == ["a"]
        # What an older one writes and knows: a ticket that says nothing of amounts, and the same tables as before.
        postgres.execute(
            "INSERT INTO weft.tickets (ticket, queue, tenant, priority, owner, since) "
            "VALUES ('old', 'tpm', '', 9, 'me', 0.0)",
            database,
        )
        assert await let_in(store, "me", TOKENS) == ["old"]

    place.run(main)


def test_queues_without_amounts_leave_nothing_of_the_kind_behind(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        queue = Queue("narrow", concurrency=1, rate=(5, LONG))
        assert await let_in(store, "me", queue, Want("a"), Want("b")) == ["a"]
        assert await let_in(store, "me", replace(queue, name="tpm2", amounts=TOKENS.amounts), want("c", 5)) == ["c"]
        if place.embedded:
            with sqlite3.connect(place.url.removeprefix("sqlite:///")) as file:
                assert file.execute("SELECT ticket, queue, amount FROM portions").fetchall() == [("c", "tpm2", 5.0)]

    place.run(main)

"""Who lives, and who takes which process. One suite for SQLite and PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from tests.stores import KINDS, Place, begin, commit, elsewhere, eventually, ids, row, rows
from weft.core.errors import StoreError
from weft.core.queue import Queue
from weft.store import ProcessRow, Store
from weft.store.base import MAX_STRIKES, QUEUED, RUNNING, SUSPECT, WAITING, Want

SOON = {"heartbeat": 1.0}
"""Of the living in a test where others die: taken over late enough on a slow machine, and quick to take over."""


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


# --- life and death ---------------------------------------------------------------------------------------------


def test_an_owner_lives_until_its_store_closes(place: Place) -> None:
    async def main() -> None:
        mine, other = place.open(), place.open()
        assert not await mine.alive("me")
        await mine.register("me", {})
        await mine.register("me", {"shop.order": "v2"})
        assert await mine.alive("me")
        assert await other.alive("me")
        with pytest.raises(StoreError, match="'me' is already at work"):
            await other.register("me", {})
        await commit(mine, rows=rows(row("p", owner="me")))
        assert await mine.alive("me")
        await other.close()  # who was refused takes nothing along
        assert await mine.alive("me")
        await commit(mine, rows=rows(row("q", owner="me")))
        await mine.close()
        again = place.open()
        assert not await again.alive("me")
        await again.register("me", {})
        assert ids(await again.owned("me")) == ["p", "q"]

    place.run(main)


DIE = """
async def main():
    name, progress = arguments
    store = opened(heartbeat=0.5)
    await store.register(name, {"shop.order": "v1"})
    while not (taken := await store.claim(name)):
        await asyncio.sleep(0.02)
    for row in taken:
        row.length += int(progress)
    await commit(store, rows={row.id: row for row in taken})
    print(*sorted(f"{row.id}:{row.strikes}" for row in taken), flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_strikes_count_deaths(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", **SOON)
        given = rows(
            row("line", state="queued", queue="q"), row("park", state="waiting"), row("run", length=3),
            row("over", state="done"),
        )  # fmt: skip
        await commit(store, rows=given)
        for n, progress in enumerate((1, 0, 0, 1)):
            said = await elsewhere(place, DIE, f"o{n}", progress, status=-9)
            assert said.split() == ["line:0", "park:0", f"run:{n}"]
        taken = await eventually(lambda: store.claim("me"))
        assert [(one.id, one.owner, one.strikes, one.length) for one in taken] == [
            ("line", "me", 0, 2),
            ("park", "me", 0, 2),
            ("run", "me", 4, 5),
        ]
        assert not await store.alive("o3")
        assert await store.claim("me") == []

    place.run(main)


CLAIM = """
async def main():
    name, = arguments
    store = opened()
    await store.register(name, {})
    sys.stdin.readline()
    taken = []
    while more := await store.claim(name, limit=7):
        taken += more
    print(*(row.id for row in taken), flush=True)
    sys.stdin.read()
    await store.close()
asyncio.run(main())
"""


def test_a_process_is_claimed_once(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(store, rows=rows(*(row(f"p{n}", owner="dead" if n % 2 else None) for n in range(300))))
        claimers = [await begin(place, CLAIM, name) for name in ("a", "b", "c")]
        for name in ("a", "b", "c"):
            await eventually(lambda name=name: store.alive(name))  # type: ignore[misc]
        taken: list[list[str]] = []
        for claimer in claimers:
            assert claimer.stdin is not None
            claimer.stdin.write(b"go\n")
        for claimer in claimers:
            assert claimer.stdout is not None
            taken.append((await claimer.stdout.readline()).decode().split())
        assert sorted(id for part in taken for id in part) == sorted(f"p{n}" for n in range(300))
        owners = {one.id: one.owner for one in await store.rows()}
        for name, part in zip("abc", taken, strict=True):
            assert {owners[id] for id in part} <= {name}
        for claimer in claimers:
            await claimer.communicate(b"")
            assert claimer.returncode == 0

    place.run(main)


def test_a_living_owner_keeps_its_processes(place: Place) -> None:
    async def main() -> None:
        mine, other = await place.owner("me"), await place.owner("you")
        await commit(mine, rows=rows(*(row(f"p{n}", created=n) for n in range(10)), row("z", state="done")))
        assert ids(await mine.claim("me", ["p4", "p7", "z", "gone"])) == ["p4", "p7"]
        assert await other.claim("you", ["p4"]) == []
        assert ids(await other.claim("you", limit=3)) == ["p0", "p1", "p2"]
        assert await mine.claim("me", []) == []
        assert await mine.claim("me", ["p4"]) == []  # it is ours already
        await mine.close()
        assert ids(await other.claim("you", ["p7"])) == ["p7"]
        assert len(await other.claim("you")) == 6
        assert sorted(ids(await other.owned("you"))) == [f"p{n}" for n in range(10)]

    place.run(main)


def test_who_was_never_registered_is_dead(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(
                row("runs", owner="gone"), row("waits", state="waiting", owner="gone"), row("mine", owner="me"),
                row("free"),
            ),
        )  # fmt: skip
        taken = await store.claim("me")
        # Who was found running with a dead owner may have killed it; who was let go of has not.
        assert {one.id: one.strikes for one in taken} == {"runs": 1, "waits": 0, "free": 0}
        assert await store.row("runs") == taken[0] == replace(taken[0], owner="me", state="running")

    place.run(main)


# --- what a worker takes ----------------------------------------------------------------------------------------


async def asked(store: Store, rows_: dict[str, ProcessRow], owner: str = "me", **claim: Any) -> list[str]:
    """What `claim` takes of these rows, which nobody owns before and after."""
    await commit(store, rows=rows_)
    taken = ids(await store.claim(owner, **claim))
    await commit(store, rows=rows_)
    return taken


def test_only_the_states_that_are_asked_for_are_taken(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        states = ["running", "waiting", "queued", "paused", "done", "failed", "cancelled", "killed", "moved"]
        given = rows(*(row(state, state=state) for state in states))
        assert await asked(store, given) == ["running", "waiting", "queued"]
        assert await asked(store, given, states=[WAITING]) == ["waiting"]
        assert await asked(store, given, states=[QUEUED, RUNNING]) == ["running", "queued"]
        assert await asked(store, given, states=["paused"]) == []
        assert await asked(store, given, ids=states, states=["paused", "done"]) == ["paused"]
        assert await asked(store, given, ids=states) == ["running", "waiting", "queued"]
        assert await asked(store, given, but=["waiting", "queued", "no such"]) == ["running"]
        assert await asked(store, given, ids=["running", "waiting"], but=["waiting"]) == ["running"]
        assert await asked(store, given, limit=0) == []

    place.run(main)


def test_a_worker_takes_what_it_knows_from_its_queues_and_from_none(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", {"shop.order": "v1", "shop.bill": "v1"})
        given = rows(
            row("in a", queue="a"),
            row("in b", queue="b"),
            row("in none"),
            row("another's", workflow="other.flow"),
            row("bill", workflow="shop.bill", queue="a"),
        )
        assert await asked(store, given, queues=["a"]) == ["in a", "in none", "bill"]
        assert await asked(store, given, queues=["b", "c"]) == ["in b", "in none"]
        assert await asked(store, given, queues=[]) == ["in none"]
        assert await asked(store, given, queues=["a"], limit=2) == ["in a", "in none"]
        assert await asked(store, given, queues=["a"], but=["in a"], states=[RUNNING]) == ["in none", "bill"]
        assert await asked(store, given, queues=["a"], ids=["in b", "bill", "another's"]) == ["bill"]
        # Who asks by name, without queues, gets whatever it is.
        assert await asked(store, given, ids=["another's", "in b"]) == ["in b", "another's"]

    place.run(main)


def test_a_worker_leaves_alone_what_has_killed_too_many(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", {"shop.order": "v1"})
        given = rows(*(row(f"s{n}", strikes=n) for n in (0, MAX_STRIKES - 1, MAX_STRIKES, MAX_STRIKES + 1)))
        assert await asked(store, given, queues=["a"]) == ["s0", f"s{MAX_STRIKES - 1}"]
        assert len(await asked(store, given)) == 4

    place.run(main)


def test_a_suspect_of_whom_a_worker_never_heard_is_struck_no_further(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", {"shop.order": "v1"})
        await commit(store, rows=rows(row("p", owner="dead", strikes=SUSPECT - 1)))
        for n in range(3):  # each of these takes it, and is gone before it has written a word
            taker = await place.owner(f"w{n}", {"shop.order": "v1"})
            (taken,) = await taker.claim(f"w{n}", queues=["a"])
            assert (taken.id, taken.strikes) == ("p", SUSPECT)
            await taker.close()
        (taken,) = await store.claim("me", queues=["a"])
        await commit(store, rows={"p": taken})  # the trial begins
        await store.close()
        heir = await place.owner("heir", {"shop.order": "v1"})
        (taken,) = await heir.claim("heir", queues=["a"])
        assert taken.strikes == SUSPECT + 1

    place.run(main)


def test_a_run_goes_to_the_version_that_began_it_while_that_lives(place: Place) -> None:
    async def main() -> None:
        new = await place.owner("new", {"shop.order": "v2"})
        given = rows(
            row("fresh", version="v1"),
            row("begun", version="v1", started=5.0),
            row("mine", version="v2", started=5.0),
            row("other", version="v3", started=5.0),
        )
        # Nobody has its version: better this one than none.
        assert await asked(new, given, "new", queues=[]) == ["fresh", "begun", "mine", "other"]
        old = await place.owner("old", {"shop.order": "v1", "shop.bill": "v3"})
        assert await asked(new, given, "new", queues=[]) == ["fresh", "mine", "other"]
        assert await asked(old, given, "old", queues=[]) == ["fresh", "begun", "other"]
        await old.register("old", {"shop.order": "v3"})
        assert await asked(new, given, "new", queues=[]) == ["fresh", "begun", "mine"]
        await old.close()
        assert await asked(new, given, "new", queues=[]) == ["fresh", "begun", "mine", "other"]

    place.run(main)


LOOK = """
async def main():
    store = opened()
    await store.register("looker", {"w": "v"})
    print("there", flush=True)
    for n in range(400):
        await store.claim("looker", queues=["q"])
        await store.stats()
    await store.close()
asyncio.run(main())
"""


def test_others_may_come_and_go_while_one_looks(place: Place) -> None:
    async def main() -> None:
        looker = await begin(place, LOOK)
        assert looker.stdout is not None and await looker.stdout.readline() == b"there\n"
        came = 0
        while looker.returncode is None and came < 200:
            store = await place.owner(f"o{came}", {"w": f"v{came}"})
            await store.close()
            came += 1
        assert await looker.wait() == 0
        assert came > 3

    place.run(main)


# --- figures ----------------------------------------------------------------------------------------------------


def test_stats_count_the_unfinished_and_those_in_line(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        empty = await store.stats()
        assert (empty.states, empty.queues) == ({}, {})
        now = store.clock()
        await commit(
            store,
            rows=rows(
                *(row(f"r{n}") for n in range(3)),
                *(row(f"w{n}", state="waiting", queue="api") for n in range(2)),
                row("p", state="paused"),
                row("d", state="done", queue="api"),
                row("q1", state="queued", queue="api", created=now - 100),
                row("q2", state="queued", queue="api", created=now - 50),
                row("q3", state="queued", queue="db", created=now + 100),
            ),
        )
        stats = await store.stats()
        assert stats.states == {"running": 3, "waiting": 2, "queued": 3, "paused": 1}
        assert {name: queue.depth for name, queue in stats.queues.items()} == {"api": 2, "db": 1}
        oldest = stats.queues["api"].oldest
        assert oldest is not None and 99 < oldest < 100 + (time.time() - now) + 1
        assert stats.queues["db"].oldest == 0.0

    place.run(main)


DIE_IN_LINE = """
from weft.core.queue import Queue
from weft.store.base import Want
async def main():
    store = opened(heartbeat=0.5)
    await store.register("dies", {})
    print((await store.admit("dies", Queue("api", concurrency=2), [Want(f"t{n}") for n in range(5)], 0)).tickets)
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_steps_of_the_dead_are_in_no_line(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", **SOON)
        assert await elsewhere(place, DIE_IN_LINE, status=-9) == "['t0', 't1']"
        queue = Queue("api", concurrency=2)

        async def let_in() -> bool:
            return (await store.admit("me", queue, [Want("mine")], 0)).tickets == ["mine"]

        await eventually(let_in)
        assert (await store.stats()).queues == {}
        again = await place.owner("you")
        assert (await again.stats()).queues == {}

    place.run(main)

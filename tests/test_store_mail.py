"""What reaches a process while others execute it: letters, events, ends, alarms; and keys. One suite for all stores."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from tests.stores import KINDS, Place, commit, elsewhere, ids, row, rows, until
from weft.core.errors import StoreError
from weft.core.queue import Queue
from weft.store import Message
from weft.store.base import ENDED, Want


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


# --- mail -------------------------------------------------------------------------------------------------------


def test_letters_and_what_was_waited_for_are_news_to_their_owner(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(
                row("runs", owner="me"),
                row("parks", state="waiting", owner="me"),
                row("waits", state="waiting", owner="me"),
                row("parent", state="waiting", owner="me"),
                row("child"),
                row("over", state="done", owner="me"),
                row("theirs", state="waiting", owner="you"),
            ),
            waits={"waits": ["go", "stop", "go"], "runs": ["go"], "parent": [ENDED + "child"], "theirs": ["go"]},
        )
        assert await store.news("me") == []
        await commit(store, messages=[Message(0, id, "b", b"") for id in ("runs", "parks", "over", "theirs", "gone")])
        assert sorted(await store.news("me")) == ["parks", "runs"]
        await commit(store, events=[("go", b"v", "runs")], taken=[m.id for m in await store.inbox(["runs", "parks"])])
        assert await store.news("me") == ["waits"]  # who runs is told otherwise
        assert await store.news("you") == ["theirs"]
        await commit(store, waits={"waits": ["stop"]})
        assert await store.news("me") == []
        await commit(store, rows=rows(row("child", state="failed")))
        assert await store.news("me") == ["parent"]
        await commit(store, waits={"parent": []})
        assert await store.news("me") == []

    place.run(main)


def test_others_are_told_of_what_they_wait_for(place: Place) -> None:
    async def main() -> None:
        heard: set[str] = set()
        # The first to come learns at once, not with a next heartbeat, that there is somebody to tell.
        other = await place.owner("you", heartbeat=600.0)
        other.listen(heard.add, lambda error: pytest.fail(str(error)))
        await until(lambda: place.embedded or "queue" in heard)
        heard.clear()
        store = await place.owner("me", {"shop.order": "v1"})
        await until(lambda: place.embedded or "queue" in heard)
        other.listen(lambda hint: None, lambda error: pytest.fail(str(error)))
        store.listen(heard.add, lambda error: pytest.fail(str(error)))
        await commit(
            store, rows=rows(row("mine", owner="me"), row("parked", state="waiting", owner="me")),
            waits={"parked": ["go"]},
        )  # fmt: skip
        await store.follow("me", ["published", ENDED + "theirs"])
        await store.follow("me", ["published"])  # twice is once
        await commit(other, rows=rows(row("theirs", owner="you")))

        async def told(*hints: str, **batch: Any) -> None:
            store.changed()  # old news
            heard.clear()
            await commit(other, **batch)
            # Files tell nothing: there the store says that it is time to look.
            await until(lambda: store.changed() if place.embedded else heard >= {*hints})

        await told("news", messages=[Message(0, "mine", "box", b"")])
        await told("event", events=[("published", b"", "theirs")])
        await told("news", events=[("go", b"", "theirs")])
        await told("ended", rows=rows(row("theirs", state="done", owner="you")))
        await store.claim("me", queues=["default"])  # it serves that one from now on
        await told("queue", rows=rows(row("work", state="queued", queue="default")))
        line = Queue("default", concurrency=1)
        assert (await other.admit("you", line, [Want("first"), Want("second")], 0)).tickets == ["first"]
        assert (await store.admit("me", line, [Want("third")], 0)).tickets == []
        await told("queue", released={"first": "default"})

    place.run(main)


# --- keys -------------------------------------------------------------------------------------------------------


def test_a_key_belongs_to_the_first(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        first = row("a", key="order-7", input=b"1", owner="me")
        assert await store.insert(first) is None
        assert await store.insert(row("b", key="order-7")) == first
        assert await store.insert(row("c", key="order-8")) is None
        assert await store.insert(row("d")) is None
        assert await store.insert(row("e")) is None
        with pytest.raises(StoreError, match="processes"):
            await store.insert(row("a", key="order-9"))
        with pytest.raises(StoreError, match="processes"):
            await commit(store, rows=rows(row("f", key="order-8")))
        assert sorted(ids(await store.rows())) == ["a", "c", "d", "e"]
        await commit(store, rows=rows(row("c", state="done")))
        assert await store.delete(["c"]) == 1
        assert await store.insert(row("g", key="order-8")) is None

    place.run(main)


INSERT_KEYS = """
async def main():
    store = opened()
    name, = arguments
    await store.register(name, {})
    won = [await store.insert(ProcessRow(id=f"{name}-{n}", workflow="w", key=f"key-{n}")) is None for n in range(200)]
    await store.close()
    print(sum(won))
asyncio.run(main())
"""


def test_a_key_has_one_winner_among_processes(place: Place) -> None:
    async def main() -> None:
        # Nothing is there yet: the three race to make the tables, too.
        won = await asyncio.gather(*(elsewhere(place, INSERT_KEYS, name) for name in "abc"))
        assert sum(map(int, won)) == 200
        found = await place.open().rows()
        assert sorted(one.key or "" for one in found) == sorted(f"key-{n}" for n in range(200))

    place.run(main)


# --- time -------------------------------------------------------------------------------------------------------


def test_parked_processes_are_found_by_time(place: Place) -> None:
    count = 5_000

    async def main() -> None:
        store = await place.owner("me")
        assert await store.next_wake("me") is None
        parked = [row(f"p{n}", state="waiting", owner="me", wake_at=1000.0 + n) for n in range(count)]
        await commit(store, rows=rows(*reversed(parked)), waits={"p1": ["go"], "p4": ["go"]})
        await commit(
            store,
            rows=rows(
                row("never", state="waiting", owner="me"),
                row("theirs", state="waiting", owner="you", wake_at=1.0),
                row("awake", state="running", owner="me", wake_at=1.0),
            ),
        )
        assert await store.next_wake("me") == 1000.0
        assert await store.due("me", 999.9, 100) == []
        woken = [replace(one, state="running", wake_at=None) for one in parked]
        assert await store.due("me", 1002.0, 100) == woken[:3]
        assert await store.due("me", 9e9, 2) == woken[3:5]
        assert sorted(ids(await store.owned("me"))) == ["awake", "p0", "p1", "p2", "p3", "p4"]
        await commit(store, rows=rows(*(row(f"p{n}", state="done") for n in range(count - 1))))
        assert await store.next_wake("me") == 1000.0 + count - 1
        # Who was woken waits for nothing more.
        await commit(store, rows=rows(replace(parked[1], wake_at=None)), events=[("go", b"", "p0")])
        assert await store.news("me") == []

    place.run(main)


def test_all_stores_of_one_place_have_one_clock(place: Place) -> None:
    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        first, second, third = store.clock(), other.clock(), store.clock()
        assert abs(first - second) < 1 and third >= first > 1.7e9

    place.run(main)

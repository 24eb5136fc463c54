"""Shared memory in the store: large values, old versions, private memories, and the past as another store takes it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.cells import commit_of, now, operate, seen, states
from tests.servers.postgres import Postgres
from tests.stores import KINDS, Kind, Place, commit, row, rows
from weft.core.errors import BadInput, StoreCorrupt
from weft.core.record import Blob, content_hash
from weft.store import Store
from weft.store.memory import Past, Retraction, Verdict

LARGE = b"large" * 10_000
LARGER = b"larger" * 10_000


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


async def held(store: Store, *values: bytes) -> list[bool]:
    """Whether the store has these large values."""

    async def has(value: bytes) -> bool:
        try:
            return await store.payload(content_hash(value)) == value
        except StoreCorrupt:
            return False

    return [await has(value) for value in values]


def test_large_values_live_as_long_as_a_cell_has_them(place: Place) -> None:
    """Whoever wrote them may be deleted; what other processes hold by the same hash stays theirs."""

    async def main() -> None:
        store = await place.owner("me")
        await commit(store, rows=rows(row("p", state="done"), row("q", state="done")))
        hash = content_hash(LARGE)
        await commit(store, payloads={hash: LARGE}, references={("q", hash)})
        await operate(store, "p:1", {}, {"a": LARGE, "b": LARGER})
        await operate(store, "p:2", {}, {"b": b"small"})
        found = await now(store, "a", "b")
        assert found == {"a": Blob(hash, len(LARGE)), "b": b"small"}
        assert await store.delete(["p", "q"]) == 2
        assert await held(store, LARGE, LARGER) == [True, True]
        assert await store.retract("p:2", "L2") == Retraction(3, ["p:2"], {"notes/b": 3})
        assert await now(store, "b") == {"b": Blob(content_hash(LARGER), len(LARGER))}
        refused = await operate(store, "p:3", {"a": (await seen(store, "b"))["b"]}, {"a": b"never" * 10_000})
        assert refused.stale == ["notes/a"] and await held(store, b"never" * 10_000) == [False]

    place.run(main)


def test_old_versions_go_and_the_newest_stay(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        for n in range(1, 6):
            await operate(store, f"p:{n}", {}, {"a": b"%d" % n, "b": LARGE if n in (1, 5) else LARGER})
        await operate(store, "q:1", {}, {"c": LARGER + b"!", "d": b"1"})
        await operate(store, "q:2", {}, {"c": b"small", "d": None})
        await operate(store, "r:1", {}, {"a": b"other"}, namespace="notes2")
        for wrong in (0, -1):
            with pytest.raises(BadInput, match="at least 1"):
                await store.prune("notes", wrong)
        assert await store.prune("notes", 9) == 0
        assert await store.prune("notes", 2) == 6
        assert [(one.version, one.value) for one in await store.versions("notes/a")] == [(5, b"5"), (4, b"4")]
        assert await held(store, LARGE, LARGER, LARGER + b"!") == [True, True, True]
        assert await store.prune("notes", 1) == 4
        assert await held(store, LARGE, LARGER, LARGER + b"!") == [True, False, False]
        assert await now(store, "a", "c", "d") == {"a": b"5", "c": b"small", "d": None}
        assert [len(await store.versions(f"notes/{name}")) for name in "abcd"] == [1, 1, 1, 1]
        assert len(await store.versions("notes2/a")) == 1 and await store.prune("nothing", 1) == 0
        # Versions go on counting; what is gone can't be restored.
        assert (await operate(store, "p:6", await seen(store, "a"), {"a": b"6"})).versions == {"notes/a": 6}
        assert (await store.look("notes", [])).at == 8
        assert await store.retract("p:6", "L2") == Retraction(9, ["p:6"], {"notes/a": 7})
        assert await now(store, "a") == {"a": b"5"}
        await store.retract("p:5", "L2")
        assert await now(store, "a", "b") == {"a": None, "b": None}
        assert (await operate(store, "p:2", {}, {"a": b"again"})).at == 2  # still known

    place.run(main)


def test_private_memories_go_with_their_process(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(store, rows=rows(row("p", state="done"), row("q", state="done"), row("r")))
        for id in ("p", "q", "r"):
            await operate(store, f"{id}:1", {}, {"a": LARGE, "b": id.encode() * 20_000}, namespace=f"notes@{id}")
            read = await seen(store, "a", namespace=f"notes@{id}")
            await operate(store, f"{id}:2", read, {"c": b"1"}, namespace=f"notes@{id}")
        await operate(store, "p:3", {}, {"a": b"shared"})
        assert await store.clocks(["p", "nobody"]) == {"notes": 1, "notes@p": 2}
        assert await store.clocks([]) == {"notes": 1}
        assert await store.delete(["p", "r"]) == 1  # r is not finished
        assert await store.clocks() == {"notes": 1, "notes@q": 2, "notes@r": 2}
        assert await store.look("notes@p", ["notes@p/a"]) == replace(await store.look("no", ["notes@p/a"]), at=0)
        assert await store.operations(["p:1", "p:2"]) == [] and len(await store.operations(["p:3", "q:1", "r:2"])) == 3
        assert await held(store, LARGE, b"p" * 20_000, b"q" * 20_000) == [True, False, True]
        assert await now(store, "a") == {"a": b"shared"}
        await commit(store, rows=rows(row("r", state="killed")))
        assert await store.delete(["q", "r"]) == 2
        assert await store.clocks() == {"notes": 1} and await held(store, LARGE, b"r" * 20_000) == [False, False]

    place.run(main)


# --- the past ---------------------------------------------------------------------------------------------------


async def live_through(store: Store) -> None:
    """A memory in which everything happened that can happen."""
    await operate(store, "p:1", {}, {"a": b"1", "b": LARGE})
    await operate(store, "q:1", await seen(store, "a", "b"), {"c": b"2"}, "L1")
    await operate(store, "q:2", await seen(store, "c"), {"d": b"3"}, "L0")
    await operate(store, "r:1", await seen(store, "b"), {"e": LARGER}, "L2")
    await operate(store, "r:2", await seen(store, "e"), {})
    await store.retract("p:1", "L1")
    await operate(store, "s:1", {}, {"a": b"new", "d": None})
    await store.retract("q:1", "L2")
    await operate(store, "s:2", {}, {"x": b"x"}, namespace="other")


async def everything(store: Store) -> dict[str, Any]:
    clocks = await store.clocks()
    return {
        namespace: (at, await store.past(namespace, 0, at), (await store.under(namespace)).objects)
        for namespace, at in clocks.items()
    }


@pytest.mark.parametrize("kind", ["sqlite-full", "postgres"])
def test_the_past_is_taken_in_pieces_by_another_store(
    place: Place, kind: Kind, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    server: Postgres = request.getfixturevalue("postgres")
    target = place.beside(kind, server.create() if kind == "postgres" else f"sqlite:///{tmp_path}/there.db")

    async def main() -> None:
        store, there = await place.owner("me"), await target.owner("me")
        await live_through(store)
        payloads = {content_hash(value): value for value in (LARGE, LARGER)}
        for after in range(8):
            past = await store.past("notes", after, after + 1)
            mine = await states(store, "p:1", "q:1", "q:2", "r:1", "r:2")
            await commit(there, pasts=[past], payloads=payloads)
            assert await there.past("notes", 0, after + 1) == await store.past("notes", 0, after + 1)
            if after == 4:
                assert set((await states(there, *mine)).values()) == {"live"}
        assert await states(there, *mine) == mine == {
            "p:1": "retracted", "q:1": "retracted", "q:2": "retracted", "r:1": "retracted", "r:2": "tainted",
        }  # fmt: skip
        assert await held(there, LARGE, LARGER) == [True, True]
        # What does not go on from what is there is left out.
        await commit(there, pasts=[await store.past("notes", 2, 5), Past(namespace="notes", after=9, at=12)])
        await commit(there, pasts=[await store.past("other", 0, 1)])
        assert await everything(there) == await everything(store)
        # The two go on alike.
        for one in (store, there):
            assert await one.retract("s:1", "L2") == Retraction(9, ["s:1"], {"notes/a": 4, "notes/d": 3})
            assert await now(one, "a", "b", "d") == {"a": None, "b": None, "d": None}

    place.run(main)


@pytest.mark.parametrize("kind", ["sqlite-full", "postgres"])
def test_everything_has_shared_memory_in_it(
    place: Place, kind: Kind, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    server: Postgres = request.getfixturevalue("postgres")
    target = place.beside(kind, server.create() if kind == "postgres" else f"sqlite:///{tmp_path}/there.db")

    async def main() -> None:
        store, there = await place.owner("me"), await target.owner("me")
        await commit(store, rows=rows(row("p")))
        await live_through(store)
        many = [commit_of(f"m:{n}", {}, {"n": b"%d" % n}, namespace="many") for n in range(250)]
        assert (await store.operate(many))[-1] == Verdict(250, {"many/n": 250})
        await store.prune("many", 30)
        batches = [batch async for batch in store.everything()]
        for batch in batches:
            await commit(there, **{name: getattr(batch, name) for name in batch.__struct_fields__})
        assert await everything(there) == await everything(store) and len(await there.versions("many/n")) == 30
        assert await held(there, LARGE, LARGER) == [True, True] and await there.row("p") == await store.row("p")
        before = await everything(there)
        await commit(there, pasts=[past for batch in batches for past in batch.pasts])  # once more is no more
        assert await everything(there) == before

    place.run(main)

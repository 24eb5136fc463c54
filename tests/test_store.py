"""What every store keeps: rows, journals, payloads, letters, events. One suite for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.stores import KINDS, SOURCE, Place, commit, ids, row, rows, until
from weft.core.errors import BadInput, StoreCorrupt, StoreError
from weft.store import Batch, Message, ProcessRow, Segment, Store, open_store


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


FULL_ROW = ProcessRow(
    id="p1",
    workflow="shop.order",
    source="shop.py",
    version="abc",
    state="waiting",
    parent="p0",
    forked="p9@4",
    key="order-7",
    queue="api",
    priority=3,
    tenant="acme",
    created=1.5,
    started=2.25,
    updated=2.5,
    wake_at=3.5,
    owner="me",
    strikes=2,
    length=5,
    input=b"\x00in",
    result=b"\xffout",
    error=b"bad",
)


# --- writing ----------------------------------------------------------------------------------------------------


def test_everything_comes_back_after_reopening(place: Place) -> None:
    async def write() -> None:
        store = await place.owner("me")
        await commit(
            store,
            payloads={b"h1": b"large"},
            references={("p1", b"h1")},
            rows=rows(FULL_ROW),
            segments=[Segment("p1", 3, b"later"), Segment("p1", 0, b"first"), Segment("p2", 0, b"other")],
            messages=[Message(0, "p1", "box", b"one"), Message(0, "p1", "box", b"two"), Message(0, "p2", "b", b"")],
            events=[("go", b"1", "p1"), ("go", b"2", "p1")],
        )

    async def read() -> None:
        store = await place.owner("me")
        assert await store.row("p1") == FULL_ROW
        assert await store.row("p2") is None
        mine = [Segment("p1", 0, b"first"), Segment("p1", 3, b"later")]
        assert await store.segments(["p1"]) == mine
        assert await store.segments(["p2", "p1", "p3"]) == [*mine, Segment("p2", 0, b"other")]
        assert await store.segments([]) == []
        assert await store.payload(b"h1") == b"large"
        inbox = await store.inbox(["p1"])
        assert [(m.process, m.box, m.payload) for m in inbox] == [("p1", "box", b"one"), ("p1", "box", b"two")]
        assert 0 < inbox[0].id < inbox[1].id
        assert [m.payload for m in await store.inbox(["p2", "p1"])] == [b"one", b"two", b""]
        assert await store.events(["go", "stop"]) == {"go": b"2"}
        with pytest.raises(StoreCorrupt, match=r"lacks the payload 6e6f6e65; restore"):
            await store.payload(b"none")

        await commit(
            store,
            taken=[inbox[0].id],
            rows=rows(replace(FULL_ROW, length=9, state="done", wake_at=None, workflow="another", key="k")),
        )
        assert [m.payload for m in await store.inbox(["p1"])] == [b"two"]
        # What a process is stays; how it is doing changes.
        assert await store.row("p1") == replace(FULL_ROW, length=9, state="done", wake_at=None)

    place.run(write)
    place.run(read)


def test_batches_are_applied_in_order_and_answered_in_order(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        answers: list[int] = []
        thread = threading.get_ident()

        def answer(number: int, error: BaseException | None) -> None:
            assert error is None
            assert threading.get_ident() == thread
            answers.append(number)

        for number in range(700):
            batch = Batch(
                rows=rows(row("p", length=number)),
                segments=[Segment("p", number, str(number).encode())],
                messages=[Message(0, "p", "box", str(number).encode())],
                events=[("last", str(number).encode(), "p")],
            )
            store.commit(batch, lambda error, number=number: answer(number, error))  # type: ignore[misc]
            if number % 100 == 0:  # some go together, some alone
                await asyncio.sleep(0.005)
        await commit(store, rows=rows(row("q")))
        assert answers == list(range(700))
        wanted = [str(number).encode() for number in range(700)]
        assert [s.records for s in await store.segments(["p"])] == wanted
        assert [m.payload for m in await store.inbox(["p"])] == wanted
        assert await store.events(["last"]) == {"last": b"699"}
        last = await store.row("p")
        assert last is not None and last.length == 699

    place.run(main)


def test_one_batch_with_many_rows_of_every_kind(place: Place) -> None:
    count = 1777

    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            payloads={f"h{n}".encode(): b"x" for n in range(count)},
            references={(f"p{n}", f"h{n}".encode()) for n in range(count)},
            rows=rows(*(row(f"p{n}", state="waiting", owner="me") for n in range(count))),
            segments=[Segment("p0", n, b"s") for n in range(count)],
            messages=[Message(0, "p0", "b", str(n).encode()) for n in range(count)],
            events=[(f"e{n}", b"v", "p0") for n in range(count)],
            waits={f"p{n}": ["one", f"e{n}"] for n in range(count)},
        )
        assert ids(await store.rows(limit=5000)) == [f"p{n}" for n in reversed(range(count))]
        assert [s.first for s in await store.segments(["p0"])] == list(range(count))
        inbox = await store.inbox(["p0"])
        assert [m.payload for m in inbox] == [str(n).encode() for n in range(count)]
        assert len(await store.events([f"e{n}" for n in range(count)])) == count
        assert sorted(await store.news("me")) == sorted(f"p{n}" for n in range(count))
        await commit(store, taken=[m.id for m in inbox], waits={f"p{n}": [] for n in range(count)})
        assert await store.inbox(["p0"]) == []
        assert await store.news("me") == []

    place.run(main)


def test_an_empty_batch_is_a_batch(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(store)
        await commit(store, rows=rows(row("p")))
        assert ids(await store.rows()) == ["p"]

    place.run(main)


def test_a_batch_that_fails_leaves_nothing_and_takes_those_behind_it_along(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(store, segments=[Segment("p", 0, b"a")])
        errors: list[BaseException | None] = []
        bad = Batch(
            rows=rows(row("p")), segments=[Segment("p", 0, b"twice")], events=[("e", b"", "p")], payloads={b"h": b""}
        )
        store.commit(bad, errors.append)
        told = len(errors)  # the embedded store answers at once under "process": then its caller knows
        store.commit(Batch(segments=[Segment("p", 1, b"")]), errors.append)
        store.commit(Batch(segments=[Segment("p", 2, b"")]), errors.append)
        await until(lambda: len(errors) == 3)
        assert isinstance(errors[0], StoreError) and store.url.rpartition("/")[2] in str(errors[0])
        assert [error is None for error in errors] == [False, bool(told), bool(told)]
        assert await store.row("p") is None
        assert await store.events(["e"]) == {}
        with pytest.raises(StoreError):
            await store.payload(b"h")
        kept = [0, 1, 2] if told else [0]
        assert [s.first for s in await store.segments(["p"])] == kept

        with pytest.raises(StoreError, match="segments"):  # told of it, the caller may go on
            await commit(store, segments=[Segment("p", 0, b"b")])
        await commit(store, segments=[Segment("p", 9, b"c")])
        assert [s.first for s in await store.segments(["p"])] == [*kept, 9]

    place.run(main)


def test_who_is_told_of_a_failure_may_commit_there_and_then(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(store, segments=[Segment("p", 0, b"a")])
        answers: list[BaseException | None] = []

        def again(error: BaseException | None) -> None:
            assert isinstance(error, StoreError)
            store.commit(Batch(segments=[Segment("p", 1, b"b")]), answers.append)

        store.commit(Batch(segments=[Segment("p", 0, b"twice")]), again)
        await until(lambda: bool(answers))
        assert answers == [None]
        assert [s.first for s in await store.segments(["p"])] == [0, 1]

    place.run(main)


def test_a_value_that_no_store_can_hold_is_refused_at_once(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me", patience=600.0)
        with pytest.raises(StoreError) as caught:
            await asyncio.wait_for(commit(store, rows=rows(row("p", length=2**70))), 20)
        assert "does not answer" not in str(caught.value)
        await commit(store, rows=rows(row("q")))
        assert ids(await store.rows()) == ["q"]

    place.run(main)


# --- reading ----------------------------------------------------------------------------------------------------


def test_rows_are_filtered_and_newest_first(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(
                row("a", state="done", created=1, updated=10),
                row("b", state="running", created=2, updated=20),
                row("b1", state="waiting", created=3, updated=30, parent="b"),
                row("b2", state="done", created=4, updated=40, parent="b"),
                row("c", state="failed", created=5, updated=50),
            ),
        )

        async def found(**filters: Any) -> list[str]:
            return ids(await store.rows(**filters))

        assert await found() == ["c", "b2", "b1", "b", "a"]
        assert await found(limit=2) == ["c", "b2"]
        assert await found(roots=True) == ["c", "b", "a"]
        assert await found(parent="b") == ["b2", "b1"]
        assert await found(states=["done"]) == ["b2", "a"]
        assert await found(states=["done", "failed", "waiting"]) == ["c", "b2", "b1", "a"]
        assert await found(states=["done", "failed", "waiting"], limit=2) == ["c", "b2"]
        assert await found(states=["done", "failed"], roots=True, before=50.0) == ["a"]
        assert await found(states=["done"], parent="b", before=40.5) == ["b2"]
        assert await found(states=["cancelled"]) == []
        assert sorted(await store.find("b")) == ["b", "b1", "b2"]
        assert await store.find("%") == []
        await commit(store, rows=rows(*(row(f"many-{n}") for n in range(12))))
        assert await store.find("many") == [f"many-{n}" for n in range(11, 1, -1)]

    place.run(main)


def test_the_ended_are_told_from_the_others(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        states = ["running", "waiting", "queued", "done", "failed", "cancelled", "moved"]
        given = [row(state, state=state, result=b"r") for state in states]
        await commit(store, rows=rows(*given))
        found = await store.ended(["nobody", *states])
        assert sorted(found, key=lambda one: one.id) == sorted(given[3:], key=lambda one: one.id)
        assert await store.ended([]) == []

    place.run(main)


def test_payloads_are_stored_once_and_deleted_with_the_last_that_needs_them(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        for id in ("a", "b"):
            await commit(
                store,
                payloads={b"shared": b"large", id.encode(): b"own"},
                references={(id, b"shared"), (id, id.encode())},
                rows=rows(row(id, state="done", owner="me")),
                segments=[Segment(id, 0, b"x")],
                messages=[Message(0, id, "box", b"m")],
                events=[(f"event-{id}", b"v", id)],
                waits={id: ["k"]},
            )
        await commit(store, rows=rows(row("alive"), row("sleeps", state="waiting"), row("line", state="queued")))

        assert await store.delete(["a", "alive", "sleeps", "line", "nobody"]) == 1
        assert await store.row("a") is None
        assert await store.segments(["a"]) == []
        assert await store.inbox(["a"]) == []
        assert await store.events(["event-a", "event-b"]) == {"event-b": b"v"}
        assert await store.payload(b"shared") == b"large"
        assert await store.payload(b"b") == b"own"
        with pytest.raises(StoreError):
            await store.payload(b"a")

        # Its id is free again, and nothing of the first clings to it.
        await commit(store, rows=rows(row("a", state="waiting", owner="me")), events=[("k", b"", "alive")])
        assert await store.news("me") == []
        await commit(store, rows=rows(row("a", state="done")))

        assert await store.delete(["a", "b"]) == 2
        with pytest.raises(StoreError):
            await store.payload(b"shared")
        assert sorted(ids(await store.rows())) == ["alive", "line", "sleeps"]
        assert await store.delete([]) == 0

    place.run(main)


def test_more_are_deleted_at_once_than_are_read_at_once(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        many = [f"p{n}" for n in range(1203)]
        await commit(store, rows=rows(*(row(id, state="done") for id in many), row("kept", state="done")))
        assert await store.delete([*many, *many[:5]]) == 1203
        assert ids(await store.rows()) == ["kept"]

    place.run(main)


def test_a_payload_that_is_stored_again_while_its_last_run_is_deleted_stays(place: Place) -> None:
    async def main() -> None:
        store, other = await place.owner("me"), await place.owner("you")
        await commit(store, payloads={b"h": b"x"}, references={("p0", b"h")}, rows=rows(row("p0", state="done")))
        for n in range(1, 40):
            deleted, _ = await asyncio.gather(
                other.delete([f"p{n - 1}"]),
                commit(
                    store,
                    payloads={b"h": b"x"},
                    references={(f"p{n}", b"h")},
                    rows=rows(row(f"p{n}", state="done")),
                ),
            )
            assert deleted == 1
            assert await store.payload(b"h") == b"x"

    place.run(main)


# --- the whole --------------------------------------------------------------------------------------------------


async def contents(store: Store) -> list[Any]:
    """All that `everything` gives, in an order of its own; messages without the numbers a store gave them."""
    batches = [batch async for batch in store.everything()]
    return [
        {hash: data for b in batches for hash, data in b.payloads.items()},
        set[Any]().union(*(b.references for b in batches)),
        [one for b in batches for one in b.rows.values()],
        sorted((s.process, s.first, s.records) for b in batches for s in b.segments),
        [(m.process, m.box, m.payload) for b in batches for m in b.messages],
        sorted(event for b in batches for event in b.events),
        {id: sorted(keys) for b in batches for id, keys in b.waits.items()},
    ]


@pytest.mark.parametrize("kind", ["sqlite-full", "postgres"])
def test_everything_moves_to_another_store(place: Place, kind: Any, request: pytest.FixtureRequest) -> None:
    if kind == "postgres":
        url = request.getfixturevalue("postgres").create()
    else:
        url = f"sqlite:///{request.getfixturevalue('tmp_path')}/moved.db"
    target = place.beside(kind, url)
    count = 701

    async def main() -> None:
        store = await place.owner("me")
        assert [batch async for batch in store.everything()] == []
        await commit(
            store,
            payloads={b"h%d" % n: b"x%d" % n for n in range(0, count, 3)},
            references={(f"p{n}", b"h%d" % (n - n % 3)) for n in range(count)},
            rows=rows(*(replace(FULL_ROW, id=f"p{n}", key=f"k{n}", created=float(n)) for n in range(count))),
            segments=[Segment(f"p{n}", first, b"s") for n in range(count) for first in (0, 2)],
            messages=[Message(0, f"p{n}", "b", b"%d" % m) for n in range(0, count, 5) for m in range(2)],
            events=[(f"e{n}", b"v", f"p{n}") for n in range(0, count, 7)],
            waits={f"p{n}": ["one", f"two-{n}"] for n in range(0, count, 2)},
        )
        there = await target.owner("me")
        async for batch in store.everything():
            await commit(there, **{name: getattr(batch, name) for name in batch.__struct_fields__})
        assert await contents(there) == await contents(store)
        assert [len(part) for part in await contents(there)] == [234, 701, 701, 1402, 282, 101, 351]
        assert await there.rows() == await store.rows()

    place.run(main)


# --- opening and closing ----------------------------------------------------------------------------------------


def test_closing_twice_and_using_a_closed_store(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        errors: list[BaseException | None] = []
        store.commit(Batch(segments=[Segment("p", 0, b"")]), errors.append)
        await store.close()
        await store.close()
        assert errors == [None]
        store.commit(Batch(segments=[Segment("p", 1, b"")]), errors.append)
        assert "closed" in str(errors[1])
        for use in (
            store.row("p"), store.claim("me"), store.register("me", {}), store.insert(row("p")), store.delete(["p"]),
            store.due("me", 0, 1), store.news("me"), store.stats(),
        ):  # fmt: skip
            with pytest.raises(StoreError, match="closed"):
                await use
        other = await place.owner("you")
        assert not await other.alive("me")
        assert [s.first for s in await other.segments(["p"])] == [0]

    place.run(main)


def test_places_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEFT_STORE", raising=False)
    asyncio.run(open_store().close())
    assert (tmp_path / ".weft" / "journal.db").is_file()
    assert (tmp_path / ".weft" / ".gitignore").read_text() == "*\n"
    monkeypatch.setenv("WEFT_STORE", "sqlite:///from-environment.db")
    asyncio.run(open_store().close())
    assert (tmp_path / "from-environment.db").is_file()
    store = open_store(f"sqlite:///{tmp_path}/deep/down/j.db", "process")
    assert store.url == f"sqlite:///{tmp_path}/deep/down/j.db"
    asyncio.run(store.close())
    assert (tmp_path / "deep" / "down" / "j.db").is_file()
    asyncio.run(open_store("odd name?mode=memory#.db").close())
    assert (tmp_path / "odd name?mode=memory#.db").is_file()


def test_places_of_a_server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setenv("WEFT_STORE", postgres_url)
        for place in (None, postgres_url.replace("postgresql://", "postgres://")):
            store = open_store(place)
            await store.register("me", {})
            await commit(store, rows=rows(row(f"p{place}")))
            await store.close()
        store = open_store(postgres_url.replace("//postgres@", "//postgres:s3cret@"), "process")
        assert store.url == postgres_url.replace("//postgres@", "//postgres:***@")
        assert len(await store.rows()) == 2
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("redis://host", "there is no store"),
        ("redis://user:s3cret@host", r"there is no store for 'redis://user:\*\*\*@host'"),
        ("sqlite://", "there is no store"),
        ("sqlite:///", "names no file"),
        (":memory:", "names no file"),
        (".", "is a folder"),
    ],
)
def test_places_that_are_no_store(place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=message):
        open_store(place)
    with pytest.raises(BadInput, match="'full' or 'process'"):
        open_store(tmp_path / "j.db", "half")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_importing_the_room_loads_no_database() -> None:
    code = "import sys, weft.store; sys.exit(bool({'sqlite3', 'asyncpg'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": SOURCE}).returncode == 0

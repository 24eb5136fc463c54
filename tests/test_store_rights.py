"""What every store keeps of rights: images, links, questions, revocations, and states in which nobody executes."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.stores import KINDS, Place, commit, eventually, ids, row, rows
from weft.core import chain
from weft.core.errors import StoreCorrupt, StoreTooNew
from weft.store import Account, Batch, Charge, Question, Revocation, Segment, Store
from weft.store.base import CLAIMABLE, FINISHED, KILLED, PAUSED, UNFINISHED
from weft.store.postgres import schema as postgres_schema
from weft.store.postgres.commit import REVOKE_LOCK
from weft.store.sqlite import schema as sqlite_schema


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


def revoked(found: list[Revocation]) -> list[tuple[str, int, str]]:
    return [(one.process, one.number, one.by) for one in found]


# --- images and links -------------------------------------------------------------------------------------------


def test_an_image_is_stored_once_and_goes_with_the_last_that_has_it(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            images={b"a": b"image a", b"b": b"image b"},
            rows=rows(*(row(id, state="done", image=image) for id, image in (("p", b"a"), ("q", b"a"), ("r", b"b")))),
        )
        await commit(store, images={b"a": b"never written"}, rows=rows(row("s", image=b"a")))
        assert await store.image(b"a") == b"image a"
        assert (await store.rows(ids=["r"]))[0].image == b"b"
        await store.delete(["p", "r"])
        with pytest.raises(StoreCorrupt, match="lacks the image 62"):
            await store.image(b"b")
        # Who changes to another image lets go of the first.
        await commit(store, images={b"c": b"image c"}, rows=rows(row("s", image=b"c")))
        assert await store.image(b"a") == b"image a"
        await store.delete(["q"])
        with pytest.raises(StoreCorrupt):
            await store.image(b"a")
        assert await store.image(b"c") == b"image c"

    place.run(main)


def test_links_come_back_and_tell_any_change(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        first = chain.link(chain.start("p"), "p", 0, b"one")
        second = chain.link(first, "p", 4, b"two")
        given = [Segment("p", 0, b"one", first), Segment("p", 4, b"two", second), Segment("q", 0, b"unlinked")]
        await commit(store, segments=given)
        assert await store.segments(["p", "q"]) == given
        others = [
            chain.link(first, "p", 4, b"tw0"), chain.link(first, "p", 5, b"two"), chain.link(first, "q", 4, b"two"),
            chain.link(chain.start("p"), "p", 4, b"two"), chain.link(first, "p", 4, b"two", key=b"secret"),
        ]  # fmt: skip
        assert len({second, first, chain.start("p"), chain.start("q"), chain.start("p", b"secret"), *others}) == 10
        assert all(len(link) == chain.SIZE for link in others)

    place.run(main)


# --- questions --------------------------------------------------------------------------------------------------


def test_questions_are_found_oldest_first_until_answered(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        first = Question("p:3", "p", "", "approval", 1.0, 9.0, b"\x00one")
        second, third = Question("q:1", "q", "ops", asked=2.0), Question("p:4", "p", "ops", asked=2.0)
        await commit(store, rows=rows(row("p", state="done"), row("q")), questions={"p:3": first, "q:1": second})
        await commit(store, questions={"p:4": third})
        assert await store.questions() == [first, second, third]
        assert await store.questions("ops") == [second, third]
        assert await store.questions("") == [first]
        assert await store.questions(process="p") == [first, third]
        assert await store.questions("ops", "p") == [third]
        assert await store.questions(limit=1) == [first]
        assert (await store.question("p:3"), await store.question("p:9")) == (first, None)
        escalated = replace(first, queue="ops", expires=None)
        await commit(store, questions={"p:3": escalated}, answered=["q:1", "none"])
        assert await store.questions("ops") == [escalated, third]
        # Of what is written at once the last word counts.
        done: list[BaseException | None] = []
        store.commit(Batch(answered=["p:3"]), done.append)
        store.commit(Batch(questions={"p:3": first, "q:2": Question("q:2", "q", asked=3.0)}), done.append)
        store.commit(Batch(answered=["q:2"]), done.append)
        await commit(store, answered=["p:4"])
        assert done == [None] * 3
        assert await store.questions() == [first]
        await store.delete(["p"])
        assert await store.questions() == []

    place.run(main)


# --- revocations ------------------------------------------------------------------------------------------------


def test_a_revocation_is_made_once_and_seen_by_all(place: Place) -> None:
    async def main() -> None:
        me, other = await place.owner("me"), await place.owner("other")
        hints: list[str] = []
        other.listen(hints.append, lambda error: None)
        await commit(me, rows=rows(row("p"), row("q")))
        if place.embedded:
            other.changed()
        else:  # it listens when it is told of everything once
            await eventually(lambda: _told(hints, "rights"))
            hints.clear()
        before = me.clock()
        await commit(me, revoked=[("p", 1, "ann"), ("q", 7, "ann"), ("p", 1, "ben")])
        await commit(me, revoked=[("q", 7, "ben"), ("p", 2, "ben")])
        if place.embedded:
            assert other.changed()
        else:
            await eventually(lambda: _told(hints, "rights"))
        found = await other.revocations()
        assert revoked(found) == [("p", 1, "ann"), ("q", 7, "ann"), ("p", 2, "ben")]
        assert sorted({one.seq for one in found}) == [one.seq for one in found]
        assert all(before - 1 < one.at < me.clock() + 1 for one in found)
        assert await other.revocations(found[1].seq) == found[2:]
        assert await other.revocations(found[2].seq) == []

    place.run(main)


async def _told(hints: list[str], hint: str) -> bool:
    return hint in hints


def test_who_asks_for_later_revocations_misses_none(place: Place) -> None:
    async def main() -> None:
        stores = [await place.owner(f"r{n}") for n in range(6)]
        reader, seen, busy = await place.owner("reader"), [], True

        async def read() -> None:
            while busy:
                seen.extend(await reader.revocations(seen[-1].seq if seen else 0))
                await asyncio.sleep(0)

        async def write(n: int, store: Store) -> None:
            for number in range(25):
                await commit(store, revoked=[(f"p{n}", number, "me"), ("shared", number, "me")])

        reading = asyncio.create_task(read())
        await asyncio.gather(*(write(n, store) for n, store in enumerate(stores)))
        busy = False
        await reading
        seen.extend(await reader.revocations(seen[-1].seq))
        assert seen == await reader.revocations()
        assert len(seen) == 6 * 25 + 25

    place.run(main)


def test_a_later_number_waits_for_an_earlier_one(postgres_url: str) -> None:
    import asyncpg

    place = Place("postgres", postgres_url)

    async def main() -> None:
        store = await place.owner("me")
        slow = await asyncpg.connect(postgres_url)
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(f"SELECT pg_advisory_xact_lock({REVOKE_LOCK})")
        await slow.execute("INSERT INTO weft.revocations (process, number, at, by) VALUES ('p', 1, 0, 'slow')")
        later = asyncio.create_task(commit(store, revoked=[("p", 2, "me")]))
        await asyncio.wait([later], timeout=0.3)
        assert not later.done()
        assert await store.revocations() == []
        await transaction.commit()
        await later
        assert revoked(await store.revocations()) == [("p", 1, "slow"), ("p", 2, "me")]
        await slow.close()

    place.run(main)


def test_what_bounds_descendants_outlives_the_process_it_was_of(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(
                row("top", state="done"),
                row("mid", parent="top", state=KILLED),
                row("low", parent="mid", state="waiting"),
                row("alone", state="done"),
            ),
            revoked=[("top", 1, "ann"), ("mid", 2, "ann"), ("alone", 1, "ann")],
            accounts={"top": Account("top", None, {"money": 9.0}), "alone": Account("alone", None, {"money": 1.0})},
        )
        assert await store.delete(["top", "alone"]) == 2
        assert await store.delete(["mid"]) == 1
        assert [account.limits for account in await store.accounts("low")] == [{"money": 9.0}]
        assert await store.accounts("alone") == []
        await commit(store, rows=rows(row("low", parent="mid", state="failed")))
        assert await store.delete(["low"]) == 1
        assert revoked(await store.revocations()) == [("top", 1, "ann"), ("mid", 2, "ann"), ("alone", 1, "ann")]
        assert await store.accounts("low") == []
        assert await _leftovers(place, store) == {"revocations": 3}  # forks may be bound by them, wherever they are

    place.run(main)


TABLES = (
    "processes", "segments", "payloads", "payload_references", "images", "questions", "revocations", "graves",
    "accounts", "balances", "charges", "checkpoints",
)  # fmt: skip


async def _leftovers(place: Place, store: Any) -> dict[str, int]:
    """Number of rows of each table that has any."""
    if place.embedded:
        found = {table: store._read(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    else:
        found = {table: (await store._fetch(f"SELECT count(*) FROM weft.{table}"))[0][0] for table in TABLES}
    return {table: count for table, count in found.items() if count}


# --- states -----------------------------------------------------------------------------------------------------


def test_a_paused_process_is_taken_only_by_its_id(place: Place) -> None:
    async def main() -> None:
        me = await place.owner("me", {"shop.order": ""})
        await commit(me, rows=rows(row("p", state=PAUSED, wake_at=1.0), row("q", state="waiting"), row("r")))
        stats = await me.stats()
        assert stats.states == {PAUSED: 1, "waiting": 1, "running": 1}
        assert ids(await me.rows(states=[PAUSED])) == ["p"]
        assert await me.claim("me", ["p"]) == []
        assert ids(await me.claim("me", states=UNFINISHED)) == ["q", "r"]
        assert await me.claim("me", states=(PAUSED,), queues=[]) == []
        assert await me.due("me", 5.0, 10) == []
        assert await me.owned("me") == [replace((await me.rows(ids=["r"]))[0])]
        (taken,) = await me.claim("me", ["p", "q"], states=(*CLAIMABLE, PAUSED))
        assert (taken.id, taken.state, taken.owner, taken.strikes) == ("p", PAUSED, "me", 0)
        other = await place.owner("other", {"shop.order": ""})
        assert await other.claim("other", ["p"], states=UNFINISHED) == []
        await me.close()  # dies before it wrote otherwise: the process can be taken by its id again
        assert ids(await other.claim("other", ["p", "p"], states=UNFINISHED)) == ["p"]
        assert await other.delete(["p"]) == 0

    place.run(main)


def test_killed_is_an_end(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert KILLED in FINISHED
        await commit(store, rows=rows(row("p", owner="me"), row("c", parent="p", state=KILLED)))
        assert ids(await store.ended(["p", "c"])) == ["c"]
        assert ids(await store.claim("me", ["c"], states=(*UNFINISHED, KILLED))) == []
        await commit(store, rows=rows(row("p", owner="me", state="waiting")), waits={"p": ["process:c"]})
        assert await store.news("me") == ["p"]
        assert await store.delete(["c", "p"]) == 1

    place.run(main)


# --- copies and older tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", KINDS)
def test_a_copy_has_all_of_it(place: Place, target: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/copy.db"
    if target == "postgres":
        url = request.getfixturevalue("postgres").create()

    async def whole(store: Store) -> Batch:
        batches = [batch async for batch in store.everything()]
        assert len(batches) == 1
        batches[0].revocations = [replace(one, seq=0) for one in batches[0].revocations]
        return batches[0]

    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            images={b"i": b"image"},
            rows=rows(row("top", state="done"), row("mid", parent="top", image=b"i"), row("low", parent="mid")),
            segments=[Segment("mid", 0, b"x", bytes(16))],
            questions={"mid:1": Question("mid:1", "mid", "ops", "approval", 3.0, 4.0, b"?")},
            revoked=[("top", 1, "ann"), ("low", 1, "ben")],
            accounts={"top": Account("top", None, {"money": 9.0}), "mid": Account("mid", "top", {"money": 5.0})},
        )
        charges = [Charge("low:1:1", "mid", {"money": 2.0}), Charge("low:2:1", "mid", {"money": 1.0, "turns": 1})]
        assert await store.reserve(charges) == [None, None]
        await commit(store, settled={"low:1:1": {"money": 1.5}})
        await store.delete(["top"])
        other = await place.beside(target, url).owner("me")
        given = await whole(store)
        assert given.lineage == {"top": None}
        await commit(other, **{name: getattr(given, name) for name in given.__struct_fields__})
        assert await whole(other) == given
        assert [one.at for one in await other.revocations()] == [one.at for one in await store.revocations()]
        # The copy goes on as the original would: what is reserved and what is settled stays so.
        for each in (store, other):
            assert await each.reserve(charges) == [None, None]
            await commit(each, settled={"low:1:1": {"money": 1.5}, "low:2:1": {"money": 0.5}})
            money = [(one.process, one.spent["money"], one.reserved["money"]) for one in await each.accounts("low")]
            assert money == [("mid", 2.0, 0.0), ("top", 2.0, 0.0)]

    place.run(main)


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_schema(tmp_path: Path, version: int) -> None:
    connection = sqlite3.connect(tmp_path / "j.db")
    for statements in sqlite_schema.MIGRATIONS[:version]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(
        """INSERT INTO processes (id, workflow, source, version, state, priority, created, started, updated, strikes,
            length, input) VALUES ('p', 'w', '', '', 'waiting', 0, 1, 1, 1, 0, 0, x'')"""
    )
    connection.execute("INSERT INTO segments (process, first, records) VALUES ('p', 0, x'00')")
    connection.commit()
    connection.close()
    place = Place("sqlite-full", f"sqlite:///{tmp_path}/j.db")

    async def main() -> None:
        store = await place.owner("me")
        (old,) = await store.rows()
        assert (old.id, old.image) == ("p", b"")
        assert await store.segments(["p"]) == [Segment("p", 0, b"\0", b"")]
        await commit(store, rows=rows(replace(old, state="done", image=b"i")), images={b"i": b"image"})
        assert await store.image(b"i") == b"image"
        assert await store.delete(["p"]) == 1

    place.run(main)


def test_a_server_of_an_older_schema_is_brought_up_and_serves_the_older_weft_no_more(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncpg

    place = Place("postgres", postgres_url)
    insert = """INSERT INTO weft.processes (id, workflow, source, version, state, priority, tenant, created, started,
        updated, strikes, length, input) VALUES ($1, 'w', '', '', 'waiting', 0, '', 1, 1, 1, 0, 0, '')
        ON CONFLICT (id) DO UPDATE SET state = 'done'"""

    async def main() -> None:
        older = await asyncpg.connect(postgres_url)
        await older.execute("CREATE SCHEMA weft; CREATE TABLE weft.schema (version integer, oldest integer)")
        await older.execute(postgres_schema.MIGRATIONS[0])
        await older.execute("INSERT INTO weft.schema VALUES (1, 1)")
        await older.execute(insert, "p")
        await older.execute("INSERT INTO weft.segments VALUES ('p', 0, '')")
        store = await place.owner("me")
        (old,) = await store.rows()
        assert (old.id, old.image) == ("p", b"")
        assert await store.segments(["p"]) == [Segment("p", 0, b"", b"")]
        with monkeypatch.context() as patch:  # it checks no rights
            patch.setattr(postgres_schema, "VERSION", 1)
            with pytest.raises(StoreTooNew, match="it needs schema 2, this one knows 1"):
                await place.open(patience=600.0).rows()
        # Until one that is still there sees that, it goes on writing, and leaves be what it does not know.
        await commit(store, rows=rows(replace(old, image=b"i")), images={b"i": b"image"})
        await older.execute(insert, "p")
        await older.execute(insert, "q")
        assert [(one.id, one.image, one.state) for one in await store.rows()] == [
            ("q", b"", "waiting"),
            ("p", b"i", "done"),
        ]
        await older.close()

    place.run(main)

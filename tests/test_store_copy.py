"""`weft.store.copy`: runs of every kind go to another store whole, and what is unfinished goes on there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import weft
from tests import moves
from tests.moves import RESULTS, asked, copy, digests, executable, inside, move, opened, states, write
from tests.programs import drive, fresh, note, parked, ran  # noqa: F401
from weft.core.errors import BadInput, RunBusy, RunMoved, StoreError, UnknownRun
from weft.store import ProcessRow, Segment, Store, open_store
from weft.store.base import ARRIVING, FINISHED, MOVED, UNFINISHED, Message, Question, Revocation
from weft.store.handover import arrival, departed
from weft.store.ledger import Account, Charge


class Ends(NamedTuple):
    here: str
    there: str


@pytest.fixture(params=["sqlite-sqlite", "sqlite-postgres", "postgres-sqlite"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    def place(kind: str, name: str) -> str:
        return str(tmp_path / name) if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))

    here, there = request.param.split("-")
    return Ends(place(here, "here.db"), place(there, "there.db"))


@pytest.fixture
def files(tmp_path: Path) -> Ends:
    return Ends(str(tmp_path / "here.db"), str(tmp_path / "there.db"))


@pytest.fixture(autouse=True)
def unstalled() -> None:
    moves.stalled.clear()


def test_everything_goes_whole_and_goes_on_there(ends: Ends) -> None:
    ids = drive(ends.here, moves.populate)
    before, unfinished = inside(ends.here), executable(ends.here)
    events = asked(ends.here, lambda store: store.events(["known"]))
    assert {before[ids[name]].state for name in moves.WAITING} == {"waiting", "queued", "running"}
    assert {content.state for content in before.values()} >= {"done", "failed", "cancelled"}
    assert [letter.payload for letter in before[ids["reading"]].letters] and before[ids["listening"]].waits

    report = move(ends.here, ends.there)
    assert report.left == [] and report.copied == len(ids) and report.handed == len(unfinished) == 9
    assert report.here == report.beyond != 0
    after = inside(ends.there)
    assert {id: content.digest for id, content in after.items()} == {id: c.digest for id, c in before.items()}
    for id, content in after.items():
        assert content.state == before[id].state and content.row.owner is None
        assert [(m.box, m.payload) for m in content.letters] == [(m.box, m.payload) for m in before[id].letters]
        assert content.waits == before[id].waits and content.events == before[id].events
    assert asked(ends.there, lambda store: store.events(["known"])) == events
    assert executable(ends.here) == set() and executable(ends.there) == unfinished
    left = states(ends.here)
    assert {id for id, state in left.items() if state == MOVED} == unfinished
    assert {id: s for id, s in left.items() if s != MOVED} == {id: before[id].state for id in left.keys() - unfinished}

    assert drive(ends.there, lambda runtime: moves.go_on(runtime, ids)) == RESULTS
    assert Counter(ran) == moves.RAN
    assert len(drive(ends.there, lambda runtime: runtime.run(moves.carries, 5))) == 5
    assert drive(ends.there, lambda runtime: runtime.run(moves.listens, "known")) == {"a": 1}


def test_twice_is_once(ends: Ends) -> None:
    ids = drive(ends.here, moves.populate)
    first = move(ends.here, ends.there)
    there, here = digests(ends.there), digests(ends.here, *FINISHED)
    again = move(ends.here, ends.there)
    assert (again.copied, again.handed, again.left) == (0, 0, [])
    assert again.gone == len(moves.WAITING) and again.there == len(ids) - again.gone
    assert first.copied == len(ids) and digests(ends.there) == there and digests(ends.here, *FINISHED) == here
    drive(ends.there, lambda runtime: moves.go_on(runtime, ids))
    done = digests(ends.there)
    assert move(ends.here, ends.there).left == [] and digests(ends.there) == done


def test_round_trip_gives_equal_digests(postgres_url: str, tmp_path: Path) -> None:
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    ids = drive(first, moves.populate)
    before = digests(first)
    there = move(first, postgres_url)
    back = move(postgres_url, last)
    assert there.here == there.beyond == back.here == back.beyond
    assert digests(last) == before and executable(postgres_url) == set()
    assert drive(last, lambda runtime: moves.go_on(runtime, ids)) == RESULTS


def test_and_back_to_where_it_came_from(ends: Ends) -> None:
    """What a run left behind when it moved makes way for it when it returns."""
    ids = drive(ends.here, moves.populate)
    before = digests(ends.here)
    move(ends.here, ends.there)
    drive(ends.there, lambda runtime: runtime.send(ids["keyed"], "moves-later", 5))
    report = move(ends.there, ends.here)
    assert report.left == [] and report.handed == 9 and executable(ends.there) == set()
    after = digests(ends.here)
    assert {id for id in after if after[id] != before[id]} == {ids["keyed"]} and after.keys() == before.keys()
    assert len(inside(ends.here)[ids["keyed"]].letters) == 1
    assert move(ends.here, ends.there).handed == 9
    assert drive(ends.there, lambda runtime: moves.go_on(runtime, ids)) == RESULTS


def test_what_bounds_a_family_goes_with_it(ends: Ends) -> None:
    """Rights, budgets, questions, deleted ancestors: and all of it returns."""

    async def fill(store: Store) -> None:
        await store.register("filler", {})
        rows = [ProcessRow(id="top", workflow="w", state="done", image=b"i" * 16)]
        rows += [ProcessRow(id="mid", workflow="w", parent="top", state="paused", image=b"j" * 16, input=b"\x90")]
        rows += [ProcessRow(id="low", workflow="w", parent="mid", state="done", strikes=3)]
        await write(
            store, rows={row.id: row for row in rows}, images={b"i" * 16: b"one", b"j" * 16: b"two"},
            questions={"mid:4": Question("mid:4", "mid", "people", "approval", 1.5, None, b"may I?")},
            revocations=[Revocation(0, "mid", 2, 12.25, "ann"), Revocation(0, "top", 1, 11.0, "bob")],
            accounts={"top": Account("top", None, {"money": 2.5}), "mid": Account("mid", "top", {"turns": 9.0})},
        )  # fmt: skip
        await store.reserve([Charge("mid:1:1", "mid", {"money": 0.25, "turns": 1.0}), Charge("mid:2:1", "mid")])
        await write(store, settled={"mid:2:1": {"money": 0.125}})
        await store.delete(["top"])

    async def bounds(store: Store) -> Any:
        accounts = [
            (a.process, a.parent, a.limits, a.spent.get("money"), a.reserved) for a in await store.accounts("low")
        ]
        revoked = [(r.process, r.number, r.at, r.by) for r in await store.revocations()]
        return accounts, sorted(revoked), await store.image(b"j" * 16), await store.questions()

    asked(ends.here, fill)
    before, bounded = digests(ends.here), asked(ends.here, bounds)
    assert [account[0] for account in bounded[0]] == ["mid", "top"] and bounded[0][1][3:] == (
        0.125,
        {"money": 0.25, "turns": 1.0},
    )
    for source, target in (ends, ends[::-1], ends):
        report = move(source, target)
        assert report.left == [] and report.handed == 1 and report.copied == 1
        assert digests(target) == before and asked(target, bounds) == bounded
        assert asked(source, lambda store: store.questions()) == []


def test_families_are_whole_and_in_order(ends: Ends) -> None:
    """A parent that was deleted, or comes after its child; pages; ids and keys, together and with others."""

    async def look(store: Store) -> None:
        await store.register("filler", {})

        def row(id: str, **fields: Any) -> ProcessRow:
            return ProcessRow(id=id, workflow="w", **fields)

        given = [
            row("a"),
            row("b", key="k"),
            row("a1", parent="a"),
            row("orphan", parent="gone"),
            row("late", parent="x"),
        ]
        given += [row("a11", parent="a1", key="l"), row("x"), row("late1", parent="late", state="done")]
        segments = [Segment("a1", 0, b"abc"), Segment("a1", 3, b"d"), Segment("x", 0, b"ef")]
        for one in given:
            await write(store, rows={one.id: one})
        await write(store, segments=segments)
        first = await store.families(limit=2)
        rest = await store.families(first[-1].at)
        assert [list(family.sizes.items()) for family in first] == [[("a", 0), ("a1", 4), ("a11", 0)], [("b", 0)]]
        assert [list(family.sizes) for family in rest] == [["orphan"], ["x", "late", "late1"]]
        assert rest[1].sizes["x"] == 2 and await store.families(rest[-1].at) == []
        numbers = [family.at for family in (*first, *rest)]
        assert numbers == sorted(set(numbers)) and numbers[0] > 0

        async def ids(**filters: Any) -> list[str]:
            return [one.id for one in await store.rows(**filters)]

        assert await ids(ids=["x", "a", "nobody"]) == ["x", "a"] and await ids(ids=[]) == [] == await ids(keys=[])
        assert await ids(keys=["k", "l", "m"]) == ["a11", "b"] and await ids(ids=["a11", "a"], keys=["k", "l"]) == [
            "a11"
        ]
        assert await ids(ids=["late1", "x"], states=["done"]) == ["late1"] and await ids(ids=["a", "x"], limit=1) == [
            "x"
        ]
        assert await ids(ids=["a1", "x"], roots=True) == ["x"] and await ids(ids=["a1", "x"], parent="a") == ["a1"]
        assert (await store.about(["a1", "nobody"])).rows.keys() == {"a1"} and not await store.about([])

    asked(ends.here, look)


# --- who else there is ------------------------------------------------------------------------------------------


def test_what_somebody_executes_is_left(ends: Ends) -> None:
    free = drive(ends.here, lambda runtime: runtime.start(moves.gets, 1)).id

    async def meanwhile(runtime: weft.Runtime) -> str:
        run = await runtime.start(moves.pair)
        await parked(runtime, run.id)
        here, there = opened(ends.here), opened(ends.there)
        report = await copy(here, there)
        await here.close()
        await there.close()
        assert [(left.run, left.why) for left in report.left] == [(run.id, "busy")]
        assert runtime.owner in report.left[0].text and (report.copied, report.handed) == (1, 1)
        for child in await runtime.store.rows(parent=run.id):
            await runtime.send(child.id, "moves", 4)
        assert await run == 8
        return run.id

    family = drive(ends.here, meanwhile)
    assert executable(ends.there) == {free}
    report = move(ends.here, ends.there)
    assert (report.left, report.copied, report.gone) == ([], 1, 1) and states(ends.there)[family] == "done"


def test_parent_and_children_go_together_or_not_at_all(ends: Ends) -> None:
    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(moves.pair)
        await parked(runtime, run.id)
        return run.id

    family = drive(ends.here, begin)

    async def one_child_is_taken(other: Store) -> None:
        await other.register("somebody", {})
        child = (await other.rows(parent=family))[0].id
        await other.claim("somebody", [child])
        here, there = opened(ends.here), opened(ends.there)
        report = await copy(here, there)
        assert [left.run for left in report.left] == [family] and child in report.left[0].text
        owners = {row.id: row.owner for row in await here.rows()}
        assert owners == {id: "somebody" if id == child else None for id in owners} and len(owners) == 3
        assert await there.rows() == []
        await here.close()
        await there.close()

    asked(ends.here, one_child_is_taken)
    assert move(ends.here, ends.there).handed == 3


def test_two_copies_at_once_do_no_harm(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.store.copy.journey.PATIENCE", 1.0)
    monkeypatch.setattr("weft.store.copy.claims.PATIENCE", 1.0)
    ids = drive(ends.here, moves.populate)
    before, unfinished = digests(ends.here), executable(ends.here)

    async def one() -> moves.Report:
        here, there = opened(ends.here), opened(ends.there)
        try:
            return await copy(here, there)
        finally:
            await here.close()
            await there.close()

    async def both() -> list[moves.Report]:
        return list(await asyncio.gather(one(), one()))

    reports = asyncio.run(both())
    assert {left.why for report in reports for left in report.left} <= {"busy"}
    assert move(ends.here, ends.there).left == []
    assert sum(report.handed for report in reports) <= 9 and executable(ends.there) == unfinished
    assert digests(ends.there) == before and executable(ends.here) == set()
    assert drive(ends.there, lambda runtime: moves.go_on(runtime, ids)) == RESULTS


def test_what_has_left_is_not_old(ends: Ends) -> None:
    """A run that slept for long and left just now is not deleted for its age: its arrival may not be complete."""

    async def long_ago(store: Store) -> None:
        await store.register("filler", {})
        await write(store, rows={"old": ProcessRow(id="old", workflow="w", state="waiting", updated=5.0, wake_at=9e9)})

    asked(ends.here, long_ago)
    began = time.time()
    assert move(ends.here, ends.there).handed == 1
    left = inside(ends.here)["old"].row
    assert left.state == MOVED and left.updated > began - 60 and inside(ends.there)["old"].row.updated == 5.0


def test_workers_there_take_it_up(ends: Ends) -> None:
    ids = drive(ends.here, moves.populate)

    async def wait(runtime: weft.Runtime) -> dict[str, Any]:
        here, there = opened(ends.here), opened(ends.there)
        assert (await copy(here, there)).handed == 9
        await here.close()
        await there.close()
        await runtime.send(ids["reading"], "moves", 10)
        await runtime.run(moves.tells, "coming", "came")
        for child in await runtime.store.rows(parent=ids["family"]):
            await runtime.send(child.id, "moves", 100)
        for number in (1, 2):
            await runtime.send(ids["keyed"], "moves", number)
        return {name: await weft.Run(runtime, ids[name]).result() for name in moves.WAITING}

    assert drive(ends.there, wait, queues=["moves-nobody", "default"]) == RESULTS
    assert Counter(ran) == moves.RAN


def test_whoever_asks_here_is_told_where_it_went(ends: Ends) -> None:
    async def main() -> None:
        async with weft.Runtime(opened(ends.here)) as runtime:
            queued = await runtime.submit(moves.ends.options(queue=moves.nobody, key="k"), 1)
            waiting = asyncio.ensure_future(queued.result())
            await asyncio.sleep(0.1)
            here, there = opened(ends.here), opened(ends.there)
            assert (await copy(here, there)).handed == 1
            place = there.url
            await here.close()
            await there.close()
            same = await runtime.start(moves.ends.options(queue=moves.nobody, key="k"), 1)
            assert same.id == queued.id and await queued.status() == MOVED
            for asking in (
                waiting, same.result(), runtime.send(queued.id, "moves", 1), runtime.resume(queued.id), queued.cancel()
            ):  # fmt: skip
                with pytest.raises(RunMoved) as error:
                    await asking
                assert place in str(error.value) and queued.id in str(error.value)

    asyncio.run(main())
    assert ran == []


def test_no_password_is_written_down(tmp_path: Path, postgres_url: str) -> None:
    here = str(tmp_path / "here.db")
    id = drive(here, lambda runtime: runtime.start(moves.gets, 1)).id
    report = move(here, postgres_url.replace("postgres@", "postgres:sesame@"))
    assert report.handed == 1
    row = inside(here)[id].row
    assert b"sesame" not in (row.error or b"") and "postgres" in departed(row).store
    assert b"sesame" not in b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


def test_a_link_is_the_same_store(files: Ends, tmp_path: Path) -> None:
    drive(files.here, lambda runtime: runtime.run(moves.ends, 1))
    (tmp_path / "link.db").symlink_to(files.here)
    for place in (files.here, str(tmp_path / "link.db"), f"sqlite:///{files.here}"):
        with pytest.raises(BadInput, match="are one store"):
            move(files.here, place)


def test_another_url_of_one_database_is_the_same_store(postgres_url: str) -> None:
    with pytest.raises(BadInput, match="are one store"):
        move(postgres_url, postgres_url.replace("127.0.0.1", "localhost") + "?application_name=x")


def test_a_file_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no journal .*none\.db"):
        open_store(tmp_path / "none.db", create=False)
    assert list(tmp_path.iterdir()) == []


# --- what is in the way -------------------------------------------------------------------------------------------


def test_conflicts_are_named_and_nothing_is_lost(ends: Ends) -> None:
    async def begin(runtime: weft.Runtime) -> dict[str, str]:
        await runtime.run(moves.tells, "news", 1)
        ids = {"keyed": (await runtime.start(moves.gets.options(key="k"), 1)).id}
        ids["same"] = await runtime.run(moves.ends.options(id="same"), "same")
        ids["free"] = (await runtime.start(moves.gets, 1)).id
        return ids

    async def otherwise(runtime: weft.Runtime) -> dict[str, str]:
        runs = {"keyed": await runtime.start(moves.ends.options(key="k"), 9)}
        runs["told"] = await runtime.start(moves.tells, "news", 2)
        runs["same"] = await runtime.start(moves.ends.options(id="same"), "otherwise")
        for run in runs.values():
            await run
        return {name: run.id for name, run in runs.items()}

    ids, others = drive(ends.here, begin), drive(ends.there, otherwise)
    here, there = digests(ends.here), digests(ends.there)
    told = next(id for id in here if id not in ids.values())
    report = move(ends.here, ends.there)
    left = {one.run: one for one in report.left}
    assert left.keys() == {ids["keyed"], ids["same"], told} and {one.why for one in report.left} == {"conflict"}
    assert others["keyed"] in left[ids["keyed"]].text and "'k'" in left[ids["keyed"]].text
    assert "other content" in left["same"].text and "'news'" in left[told].text
    assert executable(ends.there) == {ids["free"]} and executable(ends.here) == {ids["keyed"]}
    after = digests(ends.there)
    assert {id: after[id] for id in there} == there and after.keys() == there.keys() | {ids["free"]}
    now = digests(ends.here)
    assert now == {id: digest for id, digest in here.items() if id != ids["free"]}

    asked(ends.there, lambda store: store.delete([others["keyed"], others["told"]]))
    assert [one.run for one in move(ends.here, ends.there).left] == ["same"]

    async def finish(runtime: weft.Runtime) -> Any:
        await runtime.send(ids["keyed"], "moves", 3)
        return await (await runtime.resume(ids["keyed"]))

    assert drive(ends.there, finish) == [3]
    assert asked(ends.there, lambda store: store.events(["news"])) == asked(ends.here, lambda s: s.events(["news"]))


def test_unfinished_in_both_is_a_conflict(files: Ends) -> None:
    """As after a file was copied by other means: one of the two must not go on."""
    id = drive(files.here, lambda runtime: runtime.start(moves.gets, 1)).id
    Path(files.there).write_bytes(Path(files.here).read_bytes())
    report = move(files.here, files.there)
    assert [(left.run, left.why) for left in report.left] == [(id, "conflict")] and "unfinished" in report.left[0].text
    assert executable(files.here) == executable(files.there) == {id}


def test_what_the_target_can_not_hold_stays(tmp_path: Path, postgres_url: str) -> None:
    here = str(tmp_path / "here.db")

    async def begin(runtime: weft.Runtime) -> list[str]:
        runs = [await runtime.start(moves.gets.options(tenant=tenant), 1) for tenant in ("a", "nul\0", "b")]
        runs.append(await runtime.start(moves.gets.options(priority=2**40), 1))
        return [run.id for run in runs]

    ids = drive(here, begin)
    report = move(here, postgres_url)
    assert [(left.run, left.why) for left in report.left] == [(ids[1], "conflict"), (ids[3], "conflict")]
    assert executable(here) == {ids[1], ids[3]} and executable(postgres_url) == {ids[0], ids[2]}
    assert {row.owner for row in asked(here, lambda store: store.rows(states=UNFINISHED))} == {None}
    assert states(postgres_url).keys() == {ids[0], ids[2]}


def test_what_is_arriving_belongs_to_nobody(ends: Ends) -> None:
    id = drive(ends.here, lambda runtime: runtime.start(moves.gets, 1)).id

    class Stop(Exception):
        pass

    async def half() -> None:
        here, there = opened(ends.here), opened(ends.there)
        real, calls = here.commit, []

        def commit(batch: Any, done: Any) -> None:
            if any(row.state == MOVED for row in batch.rows.values()):
                calls.append(batch)
                raise Stop
            real(batch, done)

        here.commit = commit  # type: ignore[method-assign]
        with pytest.raises(Stop):
            await copy(here, there)
        assert len(calls) == 1
        await here.close()
        await there.close()

    asyncio.run(half())
    assert states(ends.there) == {id: ARRIVING} and executable(ends.here) == {id}
    assert arrival(asked(ends.there, lambda store: store.row(id))).state == "running"  # type: ignore[arg-type]

    async def nothing_can_be_done(runtime: weft.Runtime) -> None:
        for asking in (runtime.resume(id), runtime.send(id, "moves", 1), runtime.cancel(id)):
            with pytest.raises(RunBusy, match="has not arrived"):
                await asking
        assert await runtime.resume_all() == [] and await runtime.store.delete([id]) == 0
        with pytest.raises(UnknownRun):
            await runtime.row("nobody")

    drive(ends.there, nothing_can_be_done)
    report = move(ends.there, ends.here)
    assert [(left.run, left.why) for left in report.left] == [(id, "busy")]
    assert move(ends.here, ends.there).handed == 1 and executable(ends.there) == {id}


def test_memory_is_bounded_by_batches(files: Ends) -> None:
    """What is read and written at once is some MB, however much there is."""

    async def begin(runtime: weft.Runtime) -> None:
        for number in range(30):
            await runtime.run(moves.carries, 1_000_000 + number)

    drive(files.here, begin)
    sizes: list[int] = []

    async def watched() -> None:
        here, there = opened(files.here), opened(files.there)
        real = there.commit

        def commit(batch: Any, done: Any) -> None:
            sizes.append(sum(map(len, batch.payloads.values())) + sum(len(s.records) for s in batch.segments))
            real(batch, done)

        there.commit = commit  # type: ignore[method-assign]
        seen: list[int] = []
        report = await copy(here, there, seen.append)
        assert report.copied == 30 and sum(seen) == 30
        await here.close()
        await there.close()

    asyncio.run(watched())
    assert sum(sizes) > 30_000_000 and max(sizes) < 6_000_000


def test_letters_that_come_meanwhile_follow(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """One while it is read back, one when it has left: after those before them, each once."""
    from weft.store.copy.crossing import Crossing
    from weft.store.copy.handing import Handing

    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(moves.gets, 4)
        await parked(runtime, run.id)
        return run.id

    id = drive(ends.here, begin)

    async def post(number: int) -> None:
        store = opened(ends.here)
        await store.register(f"sender-{number}", {})
        await write(store, messages=[Message(0, id, "moves", bytes([number]))])
        await store.close()

    compare, follow = Crossing._compare, Handing._follow

    async def and_one_comes(self: Crossing, written: Any) -> Any:
        await post(2)
        return await compare(self, written)

    async def and_another(self: Handing, moved: Any) -> None:
        if moved:
            await post(3)
        await follow(self, moved)

    asyncio.run(post(1))
    monkeypatch.setattr(Crossing, "_compare", and_one_comes)
    with monkeypatch.context() as patch:
        patch.setattr(Handing, "_follow", and_another)
        assert move(ends.here, ends.there).handed == 1
    monkeypatch.undo()
    assert [letter.payload for letter in inside(ends.there)[id].letters] == [b"\x01", b"\x02", b"\x03"]

    asyncio.run(post(4))  # by one who looked before it left, and was slow to write
    for _ in range(2):
        assert move(ends.here, ends.there).left == [] and inside(ends.here)[id].letters == []
        assert [letter.payload for letter in inside(ends.there)[id].letters] == [b"\x01", b"\x02", b"\x03", b"\x04"]

    async def finish(runtime: weft.Runtime) -> Any:
        return await (await runtime.resume(id))

    assert drive(ends.there, finish) == [1, 2, 3, 4]
    asyncio.run(post(5))
    report = move(ends.here, ends.there)
    assert [left.run for left in report.left] == [id] and "letter" in report.left[0].text
    assert [letter.payload for letter in inside(ends.here)[id].letters] == [b"\x05"]

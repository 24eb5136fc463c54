"""Shared memory in the store: what each level lets in, and what a retraction takes back and restores."""

from __future__ import annotations

import asyncio

import pytest

from tests.cells import commit_of, now, operate, seen, states
from tests.stores import KINDS, Place
from weft.core.memory import LEVELS, Level
from weft.store.memory import Look, Object, Retraction, Seen, Verdict, Written

AT_LEAST_L1 = [level for level in LEVELS if level >= "L1"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


# --- reading ----------------------------------------------------------------------------------------------------


def test_a_look_gives_the_newest_versions_and_the_clock(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert await store.look("notes", ["notes/a"]) == Look(0, [Object(cell="notes/a")])
        assert await store.look("notes", []) == Look(0, [])
        first = await operate(store, "p:1", writes={"a": b"1", "b": Written(b"2", ("notes/a", "notes/c"))})
        assert first == Verdict(1, {"notes/a": 1, "notes/b": 1})
        assert (await operate(store, "p:2", writes={"a": b"3"})).versions == {"notes/a": 2}
        assert (await operate(store, "q:1", writes={"a": b"x"}, namespace="other")).at == 1
        found = await store.look("notes", ["notes/b", "notes/nothing", "notes/a"])
        assert found.at == 2
        assert [(one.cell, one.version, one.value) for one in found.objects] == [
            ("notes/b", 1, b"2"), ("notes/nothing", 0, None), ("notes/a", 2, b"3"),
        ]  # fmt: skip
        b, _, a = found.objects
        assert (b.links, b.operation, b.by, b.at, b.updated) == (("notes/a", "notes/c"), "p:1", "p", 1, 1.5)
        assert (a.links, a.operation, a.at) == ((), "p:2", 2)
        assert (await store.look("notes", [])).at == 2

    place.run(main)


def test_cells_are_listed_by_name_without_those_that_are_deleted(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        names = ["a", "tools/x", "tools/y", "tools/z", "tools0", "toolsé", "é"]
        await operate(store, "p:1", writes={name: name.encode() for name in names})
        await operate(store, "p:2", writes={"tools/y": None})
        await operate(store, "p:3", writes={"z": b"z"}, namespace="notes0")  # a name that comes right after

        async def under(*given: str, limit: int = 9) -> list[str]:
            found = await store.under("notes", *given, limit=limit)
            assert found.at == 2
            return [one.cell.partition("/")[2] for one in found.objects]

        assert await under() == ["a", "tools/x", "tools/z", "tools0", "toolsé", "é"]
        assert await under("tools/") == ["tools/x", "tools/z"]
        assert await under("tools/", "tools/x") == ["tools/z"]
        assert await under("tools", limit=2) == ["tools/x", "tools/z"]
        assert await under("nothing") == []
        assert [(one.namespace, one.at, one.cells) for one in await store.spaces()] == [
            ("notes", 2, 6), ("notes0", 1, 1),
        ]  # fmt: skip

    place.run(main)


def test_history_has_every_version_newest_first(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        for n in range(1, 5):
            await operate(store, f"p:{n}", writes={"a": None if n == 3 else b"%d" % n})
        history = await store.versions("notes/a")
        assert [(one.version, one.value) for one in history] == [(4, b"4"), (3, None), (2, b"2"), (1, b"1")]
        assert await store.versions("notes/a", 2) == history[:2]
        assert await store.versions("notes/b") == []
        assert [one.id for one in await store.recent("notes", 3)] == ["p:4", "p:3", "p:2"]
        assert await store.recent("other") == []
        assert await store.written("p:3") == ["notes/a"] and await store.written("p:9") == []

    place.run(main)


# --- what is let in ---------------------------------------------------------------------------------------------


def test_at_l0_the_last_write_wins(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        before = await seen(store, "a")
        assert (await operate(store, "p:1", before, {"a": b"p"}, "L0")).at == 1
        assert await operate(store, "q:1", before, {"a": b"q"}, "L0") == Verdict(2, {"notes/a": 2})
        assert await now(store, "a") == {"a": b"q"}

    place.run(main)


@pytest.mark.parametrize("level", AT_LEAST_L1)
def test_from_l1_on_what_was_read_must_still_be_there(place: Place, level: Level) -> None:
    """All that was read: what is written too, what is not, what never was there; and by those who write nothing."""

    async def main() -> None:
        store = await place.owner("me")
        await operate(store, "o:1", writes={"a": b"0", "b": b"0", "x": b"0"})
        before = await seen(store, "a", "b", "new")
        only_b = {"b": before["b"]}
        assert (await operate(store, "p:1", before, {"a": b"p", "new": b"p"}, level)).at == 2
        history = await store.versions("notes/a")
        refused = [
            await operate(store, "q:1", before, {"a": b"q"}, level),  # the lost update
            await operate(store, "q:2", before, {"x": b"q"}, level),  # built on what is old
            await operate(store, "q:3", before, {}, level),  # read two moments
        ]
        assert refused == [Verdict(stale=["notes/a", "notes/new"])] * 3
        assert await store.versions("notes/a") == history and (await seen(store, "x"))["x"].operation == "o:1"
        assert (await store.look("notes", [])).at == 2 and await store.operations(["q:1", "q:2", "q:3"]) == []
        assert (await operate(store, "q:4", only_b, {"b": b"q"}, level)).at == 3  # nobody has written that
        assert (await operate(store, "q:5", {}, {"a": b"blind"}, level)).versions == {"notes/a": 3}
        assert (await operate(store, "q:6", await seen(store, "a", "b"), {}, level)) == Verdict(5, {})

    place.run(main)


@pytest.mark.parametrize("level", LEVELS)
def test_expect_holds_at_every_level_and_for_all_of_the_operation(place: Place, level: Level) -> None:
    async def main() -> None:
        store = await place.owner("me")
        assert (await operate(store, "p:1", {}, {"a": Written(b"1", expect=0)}, level)).at == 1
        again = {"a": Written(b"2", expect=0), "b": b"2"}
        assert await operate(store, "p:2", {}, again, level) == Verdict(stale=["notes/a"])
        assert await now(store, "a", "b") == {"a": b"1", "b": None}
        assert (await operate(store, "p:3", {}, {"a": Written(b"3", expect=1)}, level)).at == 2
        read = await seen(store, "a")  # version 2, and it is: but another one was asked for
        assert await operate(store, "p:4", read, {"a": Written(b"4", expect=1)}, level) == Verdict(stale=["notes/a"])
        assert (await operate(store, "p:5", read, {"a": Written(None, expect=2)}, level)).at == 3
        assert (await operate(store, "p:6", {}, {"a": Written(b"6", expect=3)}, level)).at == 4

    place.run(main)


def test_a_version_of_the_same_number_by_another_is_another_version(place: Place) -> None:
    """As a run meets it that has moved to a store where the memory went another way."""

    async def main() -> None:
        store = await place.owner("me")
        await operate(store, "here:1", writes={"a": b"1"})
        elsewhere = {"a": Seen(1, "there:1")}
        assert await operate(store, "p:1", elsewhere, {"b": b"1"}) == Verdict(stale=["notes/a"])
        assert (await operate(store, "p:2", elsewhere, {"b": b"1"}, "L0")).at == 2

    place.run(main)


def test_the_same_commit_again_is_answered_as_before(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        commit = commit_of("p:1", await seen(store, "a"), {"a": b"1", "b": b"1"})
        twice = await store.operate([commit, commit])
        assert twice == [Verdict(1, {"notes/a": 1, "notes/b": 1})] * 2
        await operate(store, "q:1", writes={"a": b"2"})
        other = await place.owner("you")
        assert await other.operate([commit]) == twice[:1]
        await store.retract("q:1", "L2")  # which restores a value of p:1: that is no write of its own
        assert await other.operate([commit]) == twice[:1]
        assert [one.version for one in await store.versions("notes/b")] == [1]
        assert (await store.look("notes", [])).at == 3
        # What was refused may be let in later.
        stale = commit_of("r:1", {"c": Seen(0)}, {"c": b"r"})
        await operate(store, "q:2", writes={"c": b"q"})
        assert (await store.operate([stale])) == [Verdict(stale=["notes/c"])]
        stale.reads = {f"notes/{name}": one for name, one in (await seen(store, "c")).items()}
        assert (await store.operate([stale]))[0].versions == {"notes/c": 2}

    place.run(main)


def test_commits_that_arrive_together_see_each_other(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        before = await seen(store, "a")
        verdicts = await store.operate(
            [
                commit_of("p:1", before, {"a": b"p"}),
                commit_of("q:1", before, {"a": b"q"}),
                commit_of("r:1", {"a": Seen(1, "p:1")}, {"a": b"r"}),
                commit_of("s:1", before, {"a": b"s"}, namespace="other"),
            ]
        )
        assert verdicts == [
            Verdict(1, {"notes/a": 1}), Verdict(stale=["notes/a"]), Verdict(2, {"notes/a": 2}),
            Verdict(1, {"other/a": 1}),
        ]  # fmt: skip
        assert await store.operate([]) == []

    place.run(main)


# --- taking back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_from_l2_on_all_that_builds_on_it_goes_at_any_depth(place: Place, depth: int) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await operate(store, "p:1", writes={"a": b"good", "c0": b"0"}, level="L2")
        await operate(store, "p:2", writes={"a": b"bad"}, level="L2")
        for n in range(depth):  # two branches that meet
            read = await seen(store, "a", f"c{n}")
            await operate(store, f"q{n}:1", read, {f"c{n + 1}": b"left"}, "L2")
            await operate(store, f"q{n}:2", {"a": read["a"]}, {f"d{n}": b"right"}, "L2")
        await operate(store, "free:1", await seen(store, "c0"), {"free": b"free"}, "L2")
        clock = (await store.look("notes", [])).at
        done = await store.retract("p:2", "L2")
        gone = ["p:2", *(f"q{n}:{branch}" for n in range(depth) for branch in (1, 2))]
        cells = ["a", *(f"c{n + 1}" for n in range(depth)), *(f"d{n}" for n in range(depth))]
        assert done is not None and (done.at, done.operations) == (clock + 1, gone)
        assert done.restored == {f"notes/{cell}": 3 if cell == "a" else 2 for cell in cells}
        assert await now(store, *cells, "free") == {**dict.fromkeys(cells), "a": b"good", "free": b"free"}
        assert set((await states(store, *gone)).values()) == {"retracted"}
        assert await states(store, "p:1", "free:1") == {"p:1": "live", "free:1": "live"}
        # Who goes on now builds on the good value, and is let in.
        assert (await operate(store, "p:3", await seen(store, "a"), {"a": b"better"}, "L2")).at == clock + 2

    place.run(main)


def test_below_l2_only_what_was_promised_it_goes_and_the_rest_is_tainted(place: Place) -> None:
    """p <- x(L1) <- y(L2), x <- z(L1), p <- w(L0): y must go, so x goes with it; z and w stay."""

    async def main() -> None:
        store = await place.owner("me")
        await operate(store, "p:1", writes={"p": b"p"})
        await operate(store, "x:1", await seen(store, "p"), {"x": b"x"}, "L1")
        await operate(store, "y:1", await seen(store, "x"), {"y": b"y"}, "L2")
        await operate(store, "z:1", await seen(store, "x"), {"z": b"z"}, "L1")
        await operate(store, "w:1", await seen(store, "p"), {"w": b"w"}, "L0")
        done = await store.retract("p:1", "L1")
        assert done == Retraction(6, ["p:1", "x:1", "y:1"], {"notes/p": 2, "notes/x": 2, "notes/y": 2})
        assert await states(store, "z:1", "w:1") == {"z:1": "tainted", "w:1": "tainted"}
        assert await now(store, "p", "x", "y", "z", "w") == {"p": None, "x": None, "y": None, "z": b"z", "w": b"w"}
        # Nobody who was promised anything builds on what is tainted; who was not is tainted too.
        assert await operate(store, "k:1", await seen(store, "z"), {"k": b"k"}, "L2") == Verdict(dead=["z:1"])
        assert (await operate(store, "k:2", await seen(store, "z"), {"k": b"k"}, "L1")).at == 7
        assert await operate(store, "k:3", await seen(store, "k", "w"), {}, "L3") == Verdict(dead=["k:2", "w:1"])
        assert await states(store, "k:2") == {"k:2": "tainted"}
        changed = {one.id: (one.tainted_at, one.retracted_at) for one in await store.recent("notes")}
        assert changed == {
            "k:2": (7, 0), "w:1": (6, 0), "z:1": (6, 0), "y:1": (0, 6), "x:1": (0, 6), "p:1": (0, 6),
        }  # fmt: skip

    place.run(main)


def test_a_tainted_operation_can_still_be_taken_back_and_goes_with_others(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await operate(store, "p:1", writes={"p": b"p"})
        await operate(store, "q:1", writes={"q": b"q"})
        await operate(store, "x:1", await seen(store, "p", "q"), {"x": b"x"})
        await operate(store, "y:1", await seen(store, "x"), {"y": b"y"})
        first = await store.retract("p:1", "L0")
        assert first == Retraction(5, ["p:1"], {"notes/p": 2})
        second = await store.retract("q:1", "L2")
        assert second == Retraction(6, ["q:1", "x:1", "y:1"], {"notes/q": 2, "notes/x": 2, "notes/y": 2})
        assert await store.retract("p:1", "L0") == first and await store.retract("q:1", "L2") == second
        assert (await store.look("notes", [])).at == 6

    place.run(main)


@pytest.mark.parametrize("level", LEVELS)
def test_a_retraction_made_again_gives_what_was_done_then(place: Place, level: Level) -> None:
    """And what was taken back before is not taken back twice."""

    async def main() -> None:
        store = await place.owner("me")
        for n, name in enumerate("abc"):
            await operate(store, f"{name}:1", await seen(store, "pqr"[n - 1]), {"pqr"[n]: name.encode()}, "L2")
        first = await store.retract("b:1", level)
        assert first is not None and first.operations == ["b:1", "c:1"]
        second = await store.retract("a:1", level)
        assert second == Retraction(5, ["a:1"], {"notes/p": 2})
        await operate(store, "d:1", writes={"p": b"d", "q": b"d"})
        other = await place.owner("you")
        assert await other.retract("b:1", level) == first and await other.retract("a:1", level) == second
        assert await now(store, "p", "q", "r") == {"p": b"d", "q": b"d", "r": None}
        with_it = await store.retract("c:1", level)  # it went with b
        assert with_it is not None and (with_it.at, with_it.operations) == (4, ["c:1", "b:1"])
        assert (await store.look("notes", [])).at == 6
        assert await store.retract("nobody:1", level) is None

    place.run(main)


def test_a_cell_is_restored_to_the_newest_value_that_was_not_taken_back(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        for n in range(1, 5):
            await operate(store, f"p:{n}", writes={"a": Written(b"%d" % n, (f"notes/l{n}",))})
        assert await store.retract("p:3", "L2") == Retraction(5, ["p:3"], {})  # p:4 wrote over it, blindly
        assert await now(store, "a") == {"a": b"4"}
        assert await store.retract("p:4", "L2") == Retraction(6, ["p:4"], {"notes/a": 5})
        [back] = (await store.look("notes", ["notes/a"])).objects
        assert (back.value, back.operation, back.by, back.links, back.at) == (b"2", "p:2", "p", ("notes/l2",), 6)
        await operate(store, "q:1", {}, {"a": None})
        assert await store.retract("p:2", "L2") == Retraction(8, ["p:2"], {})
        assert await store.retract("q:1", "L2") == Retraction(9, ["q:1"], {"notes/a": 7})
        assert await now(store, "a") == {"a": b"1"}  # not the copy of p:2's, which is as dead
        await store.retract("p:1", "L2")
        assert await now(store, "a") == {"a": None} and [o.cell for o in (await store.under("notes")).objects] == []
        assert (await operate(store, "q:2", await seen(store, "a"), {"a": Written(b"new", expect=8)}, "L2")).at == 11
        assert await store.retract("q:2", "L2") == Retraction(12, ["q:2"], {"notes/a": 10})
        assert await now(store, "a") == {"a": None}

    place.run(main)


def test_who_read_what_was_taken_back_meanwhile(place: Place) -> None:
    """Refused by what it reads at L1, by whom it builds on from L2, and at L0 let in and tainted."""

    async def main() -> None:
        store = await place.owner("me")
        await operate(store, "p:1", writes={"a": b"a"})
        read = await seen(store, "a")
        await store.retract("p:1", "L2")
        assert await operate(store, "q:1", read, {"b": b"1"}, "L1") == Verdict(stale=["notes/a"])
        assert await operate(store, "q:2", read, {"b": b"2"}, "L2") == Verdict(stale=["notes/a"], dead=["p:1"])
        assert (await operate(store, "q:3", read, {"b": b"3"}, "L0")).at == 3
        assert await states(store, "q:3") == {"q:3": "tainted"}
        # A value that was restored is of who wrote it first: retract that one, and who read the copy goes too.
        await operate(store, "r:1", writes={"c": b"old"})
        await operate(store, "r:2", writes={"c": b"new"})
        await store.retract("r:2", "L2")
        await operate(store, "s:1", await seen(store, "c"), {"d": b"d"}, "L2")
        done = await store.retract("r:1", "L2")
        assert done is not None and done.operations == ["r:1", "s:1"] and await now(store, "c") == {"c": None}

    place.run(main)


# --- many at once -----------------------------------------------------------------------------------------------


def test_no_update_is_lost_at_l1_however_many_write(place: Place) -> None:
    """Four stores count to 200 together; whoever is refused reads again."""

    async def main() -> None:
        refused = 0

        async def count(name: str) -> None:
            nonlocal refused
            store = await place.owner(name)
            done = tried = 0
            while done < 50:
                [one] = (await store.look("notes", ["notes/n"])).objects
                await asyncio.sleep(0)
                value = int(one.value or b"0")  # type: ignore[arg-type]
                tried += 1
                read = {"n": Seen(one.version, one.operation)}
                if (await operate(store, f"{name}:{tried}", read, {"n": b"%d" % (value + 1)})).at:
                    done += 1
                else:
                    refused += 1

        await asyncio.gather(*(count(name) for name in "abcd"))
        store = place.open()
        history = await store.versions("notes/n")
        assert [one.value for one in reversed(history)] == [b"%d" % n for n in range(1, 201)]
        assert [one.version for one in reversed(history)] == list(range(1, 201))
        assert refused > 0 and (await store.look("notes", [])).at == 200

    place.run(main)


def test_commits_of_many_namespaces_at_once_do_not_lock_each_other_out(place: Place) -> None:
    async def main() -> None:
        stores = [await place.owner(name) for name in "ab"]
        spaces = ["m", "n", "o"]

        async def write(k: int) -> None:
            for n in range(20):
                chosen = spaces if k == 0 else spaces[::-1]
                commits = [commit_of(f"{k}:{n}{s}", {}, {"a": b"x"}, namespace=s) for s in chosen]
                assert all(verdict.at for verdict in await stores[k].operate(commits))
                await stores[k].retract(f"{k}:{n}{chosen[n % 3]}", "L2")

        await asyncio.gather(write(0), write(1))
        clocks = await stores[0].clocks()
        assert sum(clocks.values()) == 2 * 20 * 4 and clocks.keys() == set(spaces)

    place.run(main)

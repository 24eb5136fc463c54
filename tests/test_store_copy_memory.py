"""`weft store copy` brings shared memory along: whole, as far as it has come, and never two that went apart."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import weft
from tests import moves
from tests.cells import now, operate, seen, states
from tests.moves import asked, move, write
from tests.programs import drive, parked
from weft.core.codec import decode
from weft.core.errors import StoreCorrupt
from weft.core.record import content_hash
from weft.store import ProcessRow, Store
from weft.store.base import MOVED
from weft.store.memory import Hold, Past

LARGE = b"large" * 10_000


@pytest.fixture(params=["sqlite-sqlite", "sqlite-postgres", "postgres-sqlite"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    def place(kind: str, name: str) -> str:
        return str(tmp_path / name) if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))

    here, there = request.param.split("-")
    return place(here, "here.db"), place(there, "there.db")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "here.db"), str(tmp_path / "there.db")


async def fill(store: Store) -> None:
    """Two runs, one unfinished, that share a memory; each has one of its own, and one was deleted."""
    await store.register("filler", {})
    states = {"p": "done", "q": "waiting", "gone": "done"}
    rows = {id: ProcessRow(id=id, workflow="w", state=state) for id, state in states.items()}
    await write(store, rows=rows)
    await operate(store, "p:1", {}, {"a": b"1", "b": LARGE}, "L2")
    await operate(store, "q:1", await seen(store, "a"), {"c": LARGE + b"!"}, "L2")
    await operate(store, "q:2", await seen(store, "a", "c"), {"d": b"3"}, "L0")
    await store.retract("q:1", "L1")
    for n in range(130):
        await operate(store, f"p:{n + 3}", {}, {"n": b"%d" % n})
    for id in rows:
        await operate(store, f"{id}:1000", {}, {"mine": id.encode() * 9_000}, namespace=f"own@{id}")
    hold = Hold(operation="q:3", namespace="notes", cells=["notes/held"], until=store.clock() + 60)
    await store.hold(hold)
    await store.delete(["gone"])


async def memories(store: Store) -> dict[str, tuple[Past, list[bytes]]]:
    """All that is in shared memory, with the large values."""
    found = {}
    for namespace, at in (await store.clocks()).items():
        past = await store.past(namespace, 0, at)
        hashes = sorted({one.value.hash for one in past.objects if not isinstance(one.value, bytes | None)})
        found[namespace] = past, [await store.payload(hash) for hash in hashes]
    return found


async def go_on(store: Store, *operations: str) -> None:
    await store.register("worker", {})
    for id in operations:
        await operate(store, id, await seen(store, "a"), {"a": id.encode(), "held": b"free"}, "L2")


def test_all_of_it_goes_and_twice_is_once(ends: tuple[str, str]) -> None:
    here, there = ends
    asked(here, fill)
    before = asked(here, memories)
    assert before.keys() == {"notes", "own@p", "own@q"} and before["notes"][0].at == 134
    first = move(here, there)
    assert first.left == [] and first.memories == set(before) and first.here == first.beyond
    assert asked(there, memories) == before
    again = move(here, there)
    assert again.left == [] and asked(there, memories) == before and asked(here, memories) == before
    # Holds stay: whoever held will ask again, there.
    asked(there, lambda store: go_on(store, "x:1"))
    assert asked(there, lambda store: now(store, "held")) == {"held": b"free"}
    assert asked(there, lambda store: states(store, "q:1", "q:2")) == {"q:1": "retracted", "q:2": "tainted"}
    # And it comes back, with what was added.
    back = move(there, here)
    assert back.left == [] and back.here == back.beyond and asked(here, memories) == asked(there, memories)
    assert asked(here, memories)["notes"][0].at == 135


def test_a_copy_while_everything_runs_and_one_at_the_end(ends: tuple[str, str]) -> None:
    """What was added, and taken back, since the first copy follows; what is pruned at either end is no difference."""
    here, there = ends
    asked(here, fill)
    move(here, there)

    async def more(store: Store) -> None:
        await store.register("worker", {})
        await operate(store, "p:500", await seen(store, "a"), {"a": b"5", "b": LARGE + b"?"}, "L2")
        await store.retract("p:1", "L2")
        await store.prune("notes", 40)

    asked(here, more)
    asked(there, lambda store: store.prune("notes", 60))
    report = move(here, there)
    assert report.left == [] and report.here == report.beyond
    last = asked(here, memories)
    assert asked(there, lambda store: now(store, "a", "b", "n")) == asked(here, lambda s: now(s, "a", "b", "n"))
    ours, theirs = last["notes"][0], asked(there, memories)["notes"][0]
    assert (theirs.at, theirs.operations, theirs.dependencies) == (ours.at, ours.operations, ours.dependencies)
    assert {one.id: one.state for one in theirs.operations if one.id in ("p:1", "q:2", "p:500")} == {
        "p:1": "retracted", "q:2": "retracted", "p:500": "retracted",
    }  # fmt: skip
    asked(there, lambda store: go_on(store, "x:1", "x:2"))
    after = asked(there, memories)
    assert move(here, there).left == [] and asked(there, memories) == after  # it is further than we are


def test_two_that_went_apart_stay_apart(ends: tuple[str, str]) -> None:
    """Runs wrote at both ends: nothing is overwritten, and an unfinished run stays where its memory is."""
    here, there = ends
    asked(here, fill)
    move(here, there)

    async def unfinished(store: Store) -> None:
        await store.register("filler", {})
        rows = {id: ProcessRow(id=id, workflow="w", state="waiting") for id in ("r", "s", "t")}
        await write(store, rows=rows)
        await operate(store, "r:1", {}, {"a": b"r"})
        await operate(store, "s:1", {}, {"a": b"s"}, namespace="other")

    asked(here, unfinished)
    asked(there, lambda store: go_on(store, "x:1"))
    before, ours = asked(there, memories), asked(here, memories)
    report = move(here, there)
    assert [(left.run, left.why) for left in report.left] == [("memory:notes", "conflict"), ("r", "conflict")]
    assert "written here and in" in report.left[0].text and "'notes'" in report.left[1].text
    assert report.here == report.beyond and report.handed == 2
    assert asked(here, memories) == ours
    assert asked(there, memories) == {**before, "other": ours["other"]}
    rows = {row.id: row.state for row in asked(here, lambda store: store.rows())}
    assert rows == {"p": "done", "q": MOVED, "r": "waiting", "s": MOVED, "t": MOVED}
    assert asked(there, lambda store: store.row("r")) is None


def test_a_run_that_stays_leaves_its_own_memory_here(files: tuple[str, str]) -> None:
    here, there = files
    asked(here, fill)

    async def busy(store: Store) -> Any:
        await store.register("executes", {})
        assert await store.claim("executes", ["q"])
        other, target = moves.opened(here), moves.opened(there)
        report = await moves.copy(other, target)
        await other.close()
        await target.close()
        return report

    report = asked(here, busy)
    assert [left.why for left in report.left] == ["busy"]
    assert asked(there, memories).keys() == {"notes", "own@p"}
    assert move(here, there).left == [] and asked(there, memories) == asked(here, memories)


def test_a_damaged_value_is_named_and_the_rest_goes(files: tuple[str, str]) -> None:
    here, there = files
    asked(here, fill)

    async def damage(store: Any) -> None:
        await store.register("filler", {})
        await operate(store, "s:1", {}, {"a": b"s"}, namespace="other")
        store._writer.execute("UPDATE payloads SET data = x'00' WHERE hash = ?", (content_hash(LARGE),))

    asked(here, damage)
    report = move(here, there)
    assert [(left.run, left.why) for left in report.left] == [("memory:notes", "damaged"), ("q", "conflict")]
    assert asked(there, lambda store: store.clocks()) == {"other": 1, "own@p": 1}


def test_what_reads_back_otherwise_stops_the_copy(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = files
    asked(here, fill)
    follow = "weft.store.sqlite.commit.follow"
    from weft.store.sqlite.history import follow as sound

    def forgets(connection: Any, past: Past) -> None:
        sound(connection, past)
        connection.execute("UPDATE objects SET value = x'00' WHERE cell = 'notes/d'")

    monkeypatch.setattr(follow, forgets)
    with pytest.raises(StoreCorrupt, match="'notes' reads back from"):
        move(here, there)
    assert asked(here, lambda store: store.row("q")).state == "waiting"


# --- runs that are in the middle of an operation ----------------------------------------------------------------

plans = weft.Memory("plans", str)
thought = weft.Mailbox("thought of a plan", str)


@weft.workflow
async def revises() -> int:
    tries = 0

    @plans.operation(level="L2")
    async def revise(op: weft.Operation[str]) -> None:
        nonlocal tries
        tries += 1
        plan = await op.read("plan", "")
        op.write("plan", plan + await thought.receive())

    await revise()
    return tries


@weft.workflow
async def writes(text: str) -> str:
    async with plans.operation() as op:
        op.write("plan", text)
    return op.id


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_run_moves_in_the_middle_of_an_operation(ends: tuple[str, str], meanwhile: bool) -> None:
    """It ends it there, and what it read here still counts: refused if somebody there has written since."""
    here, there = ends

    async def begin(runtime: weft.Runtime) -> tuple[str, str]:
        first = await runtime.run(writes, "a")
        run = await runtime.start(revises)
        await parked(runtime, run.id)
        return first, run.id

    async def end(runtime: weft.Runtime) -> int:
        if meanwhile:
            await runtime.run(writes, "x")
        run = await runtime.resume(id)
        await runtime.send(id, thought.name, "b")
        if meanwhile:
            await runtime.send(id, thought.name, "c")
        return await run

    first, id = drive(here, begin)
    assert move(here, there).handed == 1
    assert drive(there, end) == (2 if meanwhile else 1)
    versions = asked(there, lambda store: store.versions("plans/plan"))
    assert [decode(one.value) for one in versions] == (["xc", "x", "a"] if meanwhile else ["ab", "a"])
    assert versions[-1].operation == first and versions[0].by == id


# Kills itself at the n-th moment before or after a write.
KILLED = """
import asyncio, os, signal, sys
from weft.store import open_store
from weft.store.copy import copy
left = int(sys.argv[3])
def moment():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    here, there = (open_store(place) for place in sys.argv[1:3])
    commit = there.commit
    def commits(batch, done):
        moment()
        commit(batch, lambda error: (moment(), done(error)))
    there.commit = commits
    report = await copy(here, there)
    assert not report.left, report
asyncio.run(main())
"""


def test_killed_at_any_moment_there_is_a_whole_memory_and_another_copy_ends_it(tmp_path: Path) -> None:
    origin = str(tmp_path / "origin.db")
    asked(origin, fill)
    before = asked(origin, memories)
    environment = {**os.environ, "PYTHONPATH": str(Path(weft.__file__).parents[1])}
    clocks = set()
    for moment in range(1, 60):
        here, there = str(tmp_path / f"here{moment}.db"), str(tmp_path / f"there{moment}.db")
        shutil.copy(origin, here)
        command = [sys.executable, "-c", KILLED, here, there, str(moment)]
        code = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).returncode
        if code != -signal.SIGKILL:
            assert code == 0
            break
        for namespace, (past, _) in asked(there, memories).items():  # as it was here once
            clocks.add((namespace, past.at))
            assert past == asked(here, lambda store, name=namespace, at=past.at: store.past(name, 0, at))
        row = asked(there, lambda store: store.row("q"))
        if row is not None and row.state == "waiting":  # it may go on there: nothing is missing that it knows
            assert asked(there, memories) == before
        assert move(here, there).left == [] and asked(there, memories) == before
    assert {("notes", 100), ("notes", 134), ("own@p", 1), ("own@q", 1)} <= clocks

"""Checkpoints: a process and all below it are remembered at one moment, and forked from there as often as one likes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, note, parked, ran  # noqa: F401
from weft.core.errors import BadInput, UnknownCheckpoint, UnknownOutcome
from weft.core.record import Fork
from weft.runtime.checkpoint import find
from weft.store import ProcessRow
from weft.store.base import FINISHED
from weft.trace.audit import verify

go = weft.Mailbox("go", str)
ONE = weft.Queue("one at a time", concurrency=1)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.sleep(0.02)


async def flaws(runtime: weft.Runtime) -> list[Any]:
    await runtime.journal.barrier()
    return [flaw async for _, found in verify(runtime.store) for flaw in found]


async def below(runtime: weft.Runtime, id: str) -> dict[str, ProcessRow]:
    """The rows of a process and those below it, by the last word of their workflow."""
    await runtime.journal.barrier()
    rows = (await runtime.store.subtree(id)).rows.values()
    return {row.workflow.rpartition(".")[2]: row for row in rows}


# --- a family in all states ---------------------------------------------------------------------------------------


@weft.workflow
async def over(n: int) -> int:
    return await note(n)


released = threading.Event()


@weft.step
async def slow(tag: str) -> str:
    """Is at work until the family is let go on."""
    while not released.is_set():
        await asyncio.sleep(0.01)
    ran.append(tag)
    return tag


@weft.workflow
async def busy() -> str:
    await note("busy")
    return await slow("slow")


@weft.workflow
async def reader() -> list[str]:
    await note("reader")
    first = await go.receive()
    await weft.publish(f"read/{weft.current().id}", first)
    return [first, await go.receive()]


@weft.workflow
async def sleeper() -> str:
    await note("sleeper")
    await weft.sleep(4)
    return await note("awake")


@weft.workflow
async def holder() -> str:
    await note("holder")
    return await go.receive()


@weft.workflow
async def in_line() -> str:
    return await note("in line")


@weft.workflow
async def halted() -> str:
    await note("halted")
    await weft.sleep(0.2)
    return await note("went on")


@weft.workflow
async def first_life(text: str) -> None:
    await note("first life")
    await weft.exec(second_life, text, weft.current().id)


@weft.workflow
async def second_life(text: str, id: str) -> tuple[int, bool, str]:
    await note("second life")
    letter = await go.receive()
    return len(text), id == weft.current().id, letter


@weft.workflow
async def family() -> dict[str, Any]:
    await note("family")
    large = await note("x" * 50_000 + weft.current().id)
    kids = {
        "over": await weft.spawn(over, 1),
        "busy": await weft.spawn(busy),
        "reader": await weft.spawn(reader),
        "sleeper": await weft.spawn(sleeper),
        "holder": await weft.spawn(holder.options(queue=ONE)),
        "halted": await weft.spawn(halted),
        "exec": await weft.spawn(first_life, "y" * 20_000),
    }
    ids = sorted(kid.id for kid in kids.values())
    heard = await weft.wait_for(f"read/{kids['reader'].id}")
    kids["in line"] = await weft.spawn(in_line.options(queue=ONE))
    await note(f"all of {ids}")
    await weft.wait_for(f"go/{weft.current().id}")
    results = {name: await kid for name, kid in kids.items()}
    ok = large.endswith(weft.current().id) and ids == sorted(kid.id for kid in kids.values() if kid.id in ids)
    return {**results, "heard": heard, "ok": ok}


@weft.workflow
async def announce(key: str) -> None:
    await weft.publish(key, None)


WHOLE = {
    "over": 1, "busy": "slow", "reader": ["one", "two"], "sleeper": "awake", "holder": "held", "halted": "went on",
    "exec": (20_000, True, "again"), "in line": "in line", "heard": "one", "ok": True,
}  # fmt: skip


async def stand(runtime: weft.Runtime) -> str:
    """A family in which one is finished, one runs a step, and the others sleep, are halted, stand in line, or wait for
    letters, of which some are there."""
    released.clear()
    run = await runtime.start(family)
    await until(lambda: _came_to(runtime, run.id))
    rows = await below(runtime, run.id)
    await runtime.send(rows["reader"].id, "go", "one")
    await until(lambda: _stands(runtime, run.id))
    return run.id


async def _came_to(runtime: weft.Runtime, id: str) -> bool:
    rows = await below(runtime, id)
    if "halted" in rows and "halted" in ran and rows["halted"].state not in ("paused", *FINISHED):
        await runtime.signal(rows["halted"].id, "pause")
    states = {name: row.state for name, row in rows.items()}
    return states.get("reader") == "waiting" and states.get("halted") == "paused" and states.get("over") == "done"


async def _stands(runtime: weft.Runtime, id: str) -> bool:
    rows = await below(runtime, id)
    states = {name: row.state for name, row in rows.items()}
    return states.get("in_line") == "queued" and states["family"] == states["holder"] == "waiting"


async def release(runtime: weft.Runtime, id: str) -> Any:
    """Let the family go on to its end."""
    released.set()
    rows = await below(runtime, id)
    await runtime.run(announce, f"go/{id}")
    for name, letter in (("reader", "two"), ("holder", "held"), ("first_life", "again")):
        await runtime.send(rows[name].id, "go", letter)
    await runtime.resume(rows["halted"].id)
    await runtime.resume(id)
    return (await runtime.end_of(id)).state, await weft.Run(runtime, id)


def test_a_fork_of_a_family_in_all_states_ends_as_its_origin_and_repeats_no_step(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        id = await stand(runtime)
        made = await runtime.checkpoint(id, "all there", note="why")
        states = {place.state for place in _cut(await find(runtime.store, made)).places}
        assert states >= {"done", "waiting", "queued", "paused"}
        before = list(ran)
        assert (await release(runtime, id))[1] == WHOLE
        since = ran[len(before) :]
        for _ in range(2):
            ran.clear()
            fork = await runtime.fork_checkpoint(made)
            assert (await release(runtime, fork.id))[1] == WHOLE
            assert sorted(map(repr, ran)) == sorted(map(repr, since))
            rows = await below(runtime, fork.id)
            assert all(row.state == "done" for row in rows.values())
            assert rows["family"].parent is None and rows["reader"].parent == fork.id
            assert rows["family"].forked == f"{id}@{made}"
        assert len({row.id for row in await runtime.store.rows()}) == 3 * 9 + 3
        assert await flaws(runtime) == []

    drive(store, use)


def _cut(checkpoint: Any) -> Any:
    from weft.runtime.cut import decode_cut

    return decode_cut(checkpoint.body)


def test_another_runtime_forks_what_this_one_executes_and_what_nobody_does(store: str) -> None:
    async def begin(runtime: weft.Runtime) -> tuple[str, str]:
        id = await stand(runtime)

        async def other() -> str:
            async with weft.Runtime(store) as beside:
                made = await beside.checkpoint(id, "first")
                fork = await beside.fork_checkpoint("first")
                await beside.signal(fork.id, "kill")
                return made

        return id, await other()

    id, made = drive(store, begin)  # all are left where they stand

    async def go_on(runtime: weft.Runtime) -> None:
        assert [one.id for one in await runtime.checkpoints(id)] == [made]
        await runtime.signal(id, "kill")  # or it would keep its place in the queue
        ran.clear()
        fork = await runtime.fork_checkpoint(made)
        assert (await release(runtime, fork.id))[1] == WHOLE
        assert "family" not in ran and "reader" not in ran
        assert await flaws(runtime) == []

    drive(store, go_on)


def test_a_checkpoint_takes_letters_that_nobody_has_read(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(reader)
        await until(lambda: _parked(runtime, run.id))
        await runtime.signal(run.id, "pause")
        await until(lambda: _is(runtime, run.id, "paused"))
        for letter in ("one", "two"):
            await runtime.send(run.id, "go", letter)
        made = await runtime.checkpoint(run.id)
        await runtime.resume(run.id)
        assert await run == ["one", "two"]
        fork = await runtime.fork_checkpoint(made)
        assert await fork.status() == "paused"
        await runtime.resume(fork.id)
        assert await fork == ["one", "two"]
        # What it publishes now under a key of its own does not reach the origin.
        keys = [f"read/{run.id}", f"read/{fork.id}"]
        assert set(await runtime.store.events(keys)) == set(keys)

    drive(store, use)


async def _parked(runtime: weft.Runtime, id: str) -> bool:
    return id not in runtime.active


async def _is(runtime: weft.Runtime, id: str, state: str) -> bool:
    await runtime.journal.barrier()
    row = await runtime.store.row(id)
    return row is not None and row.state == state


# --- made by the program itself -------------------------------------------------------------------------------------


@weft.workflow
async def careful(count: int) -> tuple[list[str], list[int]]:
    made, found = [], []
    for n in range(count):
        found.append(await note(n))
        made.append(await weft.checkpoint(f"after {n}"))
    return made, found


def test_a_program_makes_checkpoints_and_a_fork_goes_on_behind_the_line(store: str) -> None:
    async def use(runtime: weft.Runtime) -> list[str]:
        run = await runtime.start(careful, 3)
        made, found = await run
        assert found == [0, 1, 2]
        known = await runtime.checkpoints()
        assert [(one.id, one.name) for one in known] == [(made[n], f"after {n}") for n in (2, 1, 0)]
        assert all(one.process == run.id and one.effect for one in known)
        ran.clear()
        fork = await runtime.fork_checkpoint("after 1")
        again, found = await fork
        assert found == [0, 1, 2] and ran == [2]
        assert again[:2] == made[:2] and again[2] != made[2]
        [record] = [r for r in await runtime.recovery.records(fork.id) if isinstance(r, Fork)]
        assert record.origin == run.id
        return made

    made = drive(store, use)

    async def replay(runtime: weft.Runtime) -> None:
        assert {one.id for one in await runtime.checkpoints()} > set(made)
        with pytest.raises(UnknownCheckpoint, match="weft checkpoint list"):
            await runtime.fork_checkpoint("after 7")
        with pytest.raises(weft.WeftError, match="no run"):
            await runtime.checkpoint("nobody")
        [one, *_] = await runtime.checkpoints()
        with pytest.raises(BadInput, match="name and note are texts"):
            await runtime.checkpoint(one.process, 7)  # type: ignore[arg-type]

    drive(store, replay)


@weft.workflow
async def waits_behind() -> tuple[str, str]:
    made = await weft.checkpoint("early")
    return made, await go.receive()


def test_the_id_of_a_checkpoint_is_the_same_on_replay(store: str) -> None:
    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(waits_behind)
        await until(lambda: _parked(runtime, run.id))
        return run.id

    id = drive(store, begin)

    async def go_on(runtime: weft.Runtime) -> None:
        run = await runtime.resume(id)
        await runtime.send(id, "go", "on")
        [known] = await runtime.checkpoints()
        assert await run == (known.id, "on")

    drive(store, go_on)


def test_a_checkpoint_needs_the_right_to_make_it(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEFT_POLICY")
    assert len(drive(store, lambda runtime: runtime.run(careful, 1))[0]) == 1
    with pytest.raises(weft.errors.Denied, match=r"checkpoint\.create"):
        policy = weft.Policy(deny=("checkpoint.create:**",))
        drive(store, lambda runtime: runtime.run(careful, 1), policy=policy)


# --- ids ------------------------------------------------------------------------------------------------------------


def test_ids_are_those_of_the_fork_wherever_they_stand_and_chosen_ones_only_where_they_must(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(over.options(id="order-17"), 17)
        await run
        first = await runtime.fork_checkpoint(await runtime.checkpoint("order-17"))
        assert first.id != "order-17" and await first == 17
        run = await runtime.start(same_word.options(id="order"), "order")
        await until(lambda: _parked(runtime, run.id))
        fork = await runtime.fork_checkpoint(await runtime.checkpoint("order"))
        await runtime.send(fork.id, "go", "x")
        assert await fork == ["order", "x", 3]

    drive(store, use)


@weft.workflow
async def same_word(word: str) -> list[Any]:
    kid = await weft.spawn(over.options(id=f"{word}-kid"), 3)
    return [await note(word), await go.receive(), await kid]


def test_ids_in_values_are_the_forks(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(tells_ids)
        await until(lambda: _parked(runtime, run.id))
        fork = await runtime.fork_checkpoint(await runtime.checkpoint(run.id))
        for one in (run, fork):
            await runtime.send(one.id, "go", "on")
            me, told = await one
            assert me == one.id
            kid = next(iter(told["kids"]))
            assert told == {"me": me, "kids": {kid}, "text": f"<{me}/{kid}>", "raw": me.encode(), 1: (kid,)}
            assert (await runtime.row(kid)).parent == one.id
        assert await flaws(runtime) == []

    drive(store, use)


@weft.workflow
async def tells_ids() -> tuple[str, Any]:
    me = weft.current().id
    mine = await weft.spawn(over, 7)
    told = await note({"me": me, "kids": {mine.id}, "text": f"<{me}/{mine.id}>", "raw": me.encode(), 1: (mine.id,)})
    await go.receive()
    return me, told


# --- what was under way ---------------------------------------------------------------------------------------------


@weft.step(effect="at_most_once")
async def pay(amount: int) -> int:
    ran.append(("paid", amount))
    while "cut" not in ran:
        await asyncio.sleep(0.02)
    return amount


@weft.workflow
async def pays() -> str:
    try:
        return str(await pay(3))
    except UnknownOutcome as error:
        return str(error)


def test_a_payment_under_way_at_the_cut_is_not_made_again(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(pays)
        await until(lambda: _true(("paid", 3) in ran))
        made = await runtime.checkpoint(run.id)
        ran.append("cut")
        assert await run == "3"
        assert "find out whether it happened" in await (await runtime.fork_checkpoint(made))
        assert ran == [("paid", 3), "cut"]

    drive(store, use)


async def _true(value: bool) -> bool:
    return value


def test_a_checkpoint_goes_with_its_process_and_says_what_it_lacks(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(pair)
        await until(lambda: _parked(runtime, run.id))
        made = await runtime.checkpoint(run.id, "x")
        [kid] = await runtime.store.rows(parent=run.id)
        assert await runtime.store.delete([kid.id]) == 1
        with pytest.raises(UnknownCheckpoint, match=f"run {kid.id}, which is part of checkpoint {made}, was deleted"):
            await runtime.fork_checkpoint(made)
        await runtime.signal(run.id, "kill")
        await runtime.end_of(run.id)
        assert await runtime.store.delete([run.id]) == 1
        assert await runtime.checkpoints() == []

    drive(store, use)


@weft.workflow
async def pair() -> str:
    await over(1)
    return await go.receive()

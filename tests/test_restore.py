"""Going back to a checkpoint: what runs now ends, and goes on from there; who waits for it waits on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, note, parked, ran  # noqa: F401
from weft.core.errors import Cancelled, Restored, RunBusy
from weft.core.record import End
from weft.runtime import restoring
from weft.runtime.handle import restored
from weft.runtime.since import Touch
from weft.store import open_store
from weft.store.base import FINISHED
from weft.trace.audit import verify

go = weft.Mailbox("go", str)


async def at_rest(runtime: weft.Runtime, id: str, count: int = 1) -> list[str]:
    """A process and those below it, once there are so many and all have left memory or ended."""
    async with asyncio.timeout(20):
        while True:
            await runtime.journal.barrier()
            rows = (await runtime.store.subtree(id)).rows
            if len(rows) == count and all(row.state in ("waiting", *FINISHED) for row in rows.values()):
                return list(rows)
            await asyncio.sleep(0.02)


async def hears(runtime: weft.Runtime, id: str, word: str, top: str | None = None, count: int = 1) -> None:
    """Send a letter, and wait until all are at rest again."""
    await runtime.send(id, "go", word)
    async with asyncio.timeout(20):
        while f"x heard {word}" not in ran:
            await asyncio.sleep(0.02)
    await at_rest(runtime, top or id, count)


async def sound(runtime: weft.Runtime) -> bool:
    await runtime.journal.barrier()
    return [flaw async for _, found in verify(runtime.store) for flaw in found] == []


async def states(runtime: weft.Runtime, *ids: str) -> list[str]:
    await runtime.journal.barrier()
    rows = {row.id: row.state for row in await runtime.store.rows(ids=ids)}
    return [rows[id] for id in ids]


@weft.workflow
async def listens(tag: str) -> list[str]:
    await note(f"{tag} begins")
    await weft.checkpoint(tag)
    found = [await go.receive()]
    await note(f"{tag} heard {found[0]}")
    return [*found, await go.receive()]


@weft.workflow
async def asks_below(tag: str) -> list[str]:
    await note("above")
    found = await listens(tag)
    return [*found, await note("end")]


def test_a_run_goes_back_and_who_waits_for_it_gets_the_result_of_what_goes_on(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks_below.options(key="k"), "x")
        waiting = asyncio.create_task(run.result())
        _, child = await at_rest(runtime, run.id, 2)
        made = await runtime.checkpoint(run.id)
        await hears(runtime, child, "wrong", run.id, 2)
        again = await runtime.restore(made)
        assert again.id != run.id
        assert await states(runtime, run.id, child) == ["killed", "killed"]
        for id in (run.id, child):
            end = (await runtime.recovery.records(id))[-1]
            assert isinstance(end, End) and end.state == "killed"
            reason = restored((await runtime.store.rows(ids=[id]))[0])
            assert reason is not None and (reason.checkpoint, reason.goes_on) == (made, True)
        await runtime.send(child, "go", "right")  # it goes to what goes on in its place
        await runtime.send(child, "go", "on")
        assert await again == await waiting == await run == ["right", "on", "end"]
        assert ran == ["above", "x begins", "x heard wrong", "x heard right", "end"]
        assert await (await runtime.start(asks_below.options(key="k"), "x")) == ["right", "on", "end"]
        assert (await runtime.store.checkpoint(made)).heir == again.id  # type: ignore[union-attr]
        assert await sound(runtime)

    drive(store, use)


def test_a_parent_waits_on_for_its_restored_child(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks_below, "x")
        _, child = await at_rest(runtime, run.id, 2)
        await hears(runtime, child, "wrong", run.id, 2)
        again = await runtime.restore("x")
        assert (await runtime.row(again.id)).parent == run.id
        await at_rest(runtime, run.id, 3)
        await parked(runtime, run.id)
        assert await states(runtime, run.id, child, again.id) == ["waiting", "killed", "waiting"]
        await runtime.send(again.id, "go", "right")
        await runtime.send(again.id, "go", "on")
        assert await run == ["right", "on", "end"]
        assert await sound(runtime)

    drive(store, use)


def test_a_parent_that_is_cancelled_cancels_what_goes_on_in_the_place_of_its_child(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks_below, "x")
        await at_rest(runtime, run.id, 2)
        again = await runtime.restore("x")
        await at_rest(runtime, again.id)
        await run.cancel()
        with pytest.raises(Cancelled):
            await run
        assert await states(runtime, again.id, run.id) == ["cancelled", "cancelled"]

    drive(store, use)


@weft.workflow
async def grows() -> list[str]:
    await weft.checkpoint("small")
    child = await weft.spawn(listens, "late")
    await weft.detach(listens, "detached")
    return await child


def test_what_began_after_the_checkpoint_ends_for_good(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(grows)
        ids = await at_rest(runtime, run.id, 3)
        again = await runtime.restore("small")
        assert await states(runtime, *ids) == ["killed"] * 3
        with pytest.raises(Restored, match="it did not exist then"):
            await weft.Run(runtime, ids[1])
        assert len(await at_rest(runtime, again.id, 3)) == 3
        assert ran == ["late begins", "detached begins"] * 2 or sorted(ran) == sorted(
            ["late begins", "detached begins"] * 2
        )
        await runtime.signal(run.id, "kill")  # the run by its old name
        with pytest.raises(Cancelled):
            await again

    drive(store, use)


def test_going_back_again_and_further_back_ends_what_was_restored(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(listens, "x")
        waiting = asyncio.create_task(run.result())
        await at_rest(runtime, run.id)
        await hears(runtime, run.id, "one")
        later = await runtime.checkpoint(run.id)
        first = await runtime.restore(later)
        second = await runtime.restore(later)
        third = await runtime.restore("x")
        fourth = await runtime.restore(later)
        await at_rest(runtime, fourth.id)
        assert await states(runtime, run.id, first.id, second.id, third.id) == ["killed"] * 4
        await runtime.send(run.id, "go", "two")
        assert await fourth == await waiting == await third == ["one", "two"]
        # Of a run that is over there is nothing to end: it stays as it is.
        fifth = await runtime.restore(later)
        assert (await runtime.row(fourth.id)).state == "done"
        await runtime.send(fifth.id, "go", "three")
        assert await fifth == await run == ["one", "three"]
        sixth = await runtime.restore(later)
        await runtime.signal(sixth.id, "kill")
        assert await sound(runtime)

    drive(store, use)


@weft.step
async def long(tag: str) -> str:
    ran.append(f"{tag} in")
    await asyncio.sleep(30 if tag == "first" and ran.count("first in") == 1 else 0)
    ran.append(f"{tag} out")
    return tag


@weft.workflow
async def long_child() -> str:
    return await long("first")


@weft.workflow
async def works() -> list[str]:
    await weft.checkpoint("before")
    return [await long_child(), await long("second")]


def test_what_another_runtime_executes_is_ended_there_first(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        async with weft.Runtime(store) as beside:
            run = await beside.start(works)
            waiting = asyncio.create_task(run.result())
            async with asyncio.timeout(20):
                while "first in" not in ran:
                    await asyncio.sleep(0.02)
            ids = list((await beside.store.subtree(run.id)).rows)
            again = await runtime.restore("before")
            assert await again == ["first", "second"] == await waiting
            assert ran == ["first in", "first in", "first out", "second in", "second out"]
            assert not beside.active
            assert await states(runtime, *ids) == ["killed", "killed"]
            assert await sound(runtime)

    drive(store, use)


def test_what_another_does_not_let_go_of_is_left_as_it_is(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "PATIENCE", 0.5)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(asks_below, "x")
        _, child = await at_rest(runtime, run.id, 2)
        made = await runtime.checkpoint(run.id)
        await hears(runtime, child, "one", run.id, 2)
        deaf = open_store(store)
        await deaf.register("deaf", {})
        row = (await runtime.store.rows(ids=[child]))[0]
        row.owner, row.state = "deaf", "running"
        runtime.journal.row(row)
        await runtime.journal.barrier()
        with pytest.raises(RunBusy, match="is executed by deaf, which does not end it"):
            await runtime.restore(made)
        assert not runtime.starting.inserting
        assert (await states(runtime, child)) == ["running"]
        await deaf.close()
        while await runtime.store.alive("deaf"):
            await asyncio.sleep(0.05)
        await runtime.resume(child)
        assert await at_rest(runtime, run.id, 2) == [run.id, child]
        again = await runtime.restore(made)
        await runtime.send(child, "go", "two")
        await runtime.send(child, "go", "three")
        assert await again == await run == ["two", "three", "end"]

    drive(store, use)


def test_a_restore_that_died_halfway_is_completed_by_the_next(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(runtime: weft.Runtime) -> None:
        async with weft.Runtime(store) as beside:
            run = await beside.start(works)
            above = await beside.start(waits_for, run.id)
            waiting = asyncio.create_task(run.result())
            async with asyncio.timeout(20):
                while "first in" not in ran:
                    await asyncio.sleep(0.02)
            with monkeypatch.context() as patch:
                patch.setattr(restoring.Restoring, "end_all", _dies)
                with pytest.raises(ZeroDivisionError):
                    await runtime.restore("before")
            [top, *_] = (await runtime.store.subtree(run.id)).rows.values()
            assert top.state == "killed" and restored(top) is not None
            await asyncio.sleep(0.5)
            assert not waiting.done()  # nobody knows yet as what it goes on
            again = await runtime.restore("before")
            assert await again == await waiting == ["first", "second"]
            await runtime.signal(above.id, "kill")
            assert await sound(runtime)

    drive(store, use)


@weft.workflow
async def waits_for(id: str) -> str:
    return await go.receive()


def _dies(self: restoring.Restoring) -> None:
    raise ZeroDivisionError


def test_two_who_restore_at_once_leave_one_run(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        async with weft.Runtime(store) as beside:
            run = await runtime.start(asks_below, "x")
            waiting = asyncio.create_task(run.result())
            await at_rest(runtime, run.id, 2)
            made = await runtime.checkpoint(run.id)
            runs = await asyncio.gather(*(one.restore(made) for one in (runtime, runtime, beside, beside)))
            there = await states(runtime, *(one.id for one in runs))
            assert sorted(there) in (["killed"] * 3 + [state] for state in ("running", "waiting"))
            [last] = [one for one, state in zip(runs, there, strict=True) if state != "killed"]
            [_, child] = await at_rest(runtime, last.id, 2)
            await runtime.send(child, "go", "right")
            await runtime.send(child, "go", "on")
            assert await waiting == ["right", "on", "end"]
            assert ran.count("above") == 1 and ran.count("x begins") == 1
            assert await sound(runtime)

    drive(store, use)


def test_a_restore_that_fails_stops_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "PATIENCE", 0.2)

    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(pays_slowly)
        async with asyncio.timeout(20):
            while "paying" not in ran:
                await asyncio.sleep(0.02)
        deaf = open_store(store)
        await deaf.register("deaf", {})
        [child] = await runtime.store.rows(parent=run.id)
        await runtime.signal(child.id, "pause")
        while await weft.Run(runtime, child.id).status() != "paused":
            await asyncio.sleep(0.02)
        assert await deaf.claim("deaf", [child.id], states=("paused",))
        with pytest.raises(RunBusy, match="executed by deaf"):
            await runtime.restore("before paying")
        await deaf.close()
        while await runtime.store.alive("deaf"):
            await asyncio.sleep(0.05)
        await runtime.resume(child.id)
        assert await run == ("paid", "slept")  # it was in flight all the time, and is not unknown
        assert ran == ["paying"]

    drive(store, use)


@weft.step(effect="at_most_once")
async def pay_slowly() -> str:
    ran.append("paying")
    await asyncio.sleep(2)
    return "paid"


@weft.workflow
async def naps() -> str:
    await weft.sleep(0.5)
    return "slept"


@weft.workflow
async def pays_slowly() -> tuple[str, str]:
    await weft.checkpoint("before paying")
    nap = await weft.spawn(naps)
    return await pay_slowly(), await nap


# --- what was done since --------------------------------------------------------------------------------------------


@weft.step(effect="pure")
async def look() -> int:
    return 1


@weft.step(effect="at_most_once")
async def send_mail(to: str) -> None:
    if to == "nobody":
        raise ValueError(to)


@weft.step(reversible=True, effect="at_most_once")
async def book(seat: str) -> str:
    return seat


@weft.step
async def put(key: str) -> str:
    return key


@weft.step(effect="at_most_once")
async def hangs() -> None:
    ran.append("hangs")
    await asyncio.sleep(30)


@weft.workflow
async def other() -> str:
    return await go.receive()


@weft.workflow
async def does_much(address: str) -> None:
    await send_mail("before")
    await weft.checkpoint("here")
    await look()
    await send_mail("ann")
    with_child = await weft.spawn(books)
    await go.send(with_child.id, "within")
    await go.send(address, "outside")
    await with_child
    try:
        await send_mail("nobody")
    except ValueError:
        await weft.publish("tried", 1)
    await hangs()


@weft.workflow
async def books() -> str:
    await put(await go.receive())
    return await book("17a")


def words(touches: list[Touch]) -> list[tuple[str, str, bool | None]]:
    return [(one.of, one.name.rpartition(".")[2], one.ok) for one in touches]


DONE = [
    ("irreversible", "send_mail", True), ("irreversible", "go", True), ("repeatable", "put", True),
    ("reversible", "book", True), ("irreversible", "send_mail", False), ("repeatable", "tried", True),
]  # fmt: skip


def test_effects_since_a_checkpoint_are_listed_by_class(store: str) -> None:
    async def begin(runtime: weft.Runtime) -> str:
        there = await runtime.start(other)
        run = await runtime.start(does_much, there.id)
        async with asyncio.timeout(20):
            while "hangs" not in ran:
                await asyncio.sleep(0.02)
        found = await runtime.effects_since("here")
        assert sorted(words(found), key=repr) == sorted([*DONE, ("unknown", "hangs", None)], key=repr)
        assert {one.process for one in found} == set((await runtime.store.subtree(run.id)).rows)
        assert words(await runtime.effects_since(await runtime.checkpoint(run.id))) == [("unknown", "hangs", None)]
        return run.id

    id = drive(store, begin)  # it dies in its middle

    async def go_on(runtime: weft.Runtime) -> None:
        assert ("unknown", "hangs", None) in words(await runtime.effects_since("here"))
        with pytest.raises(weft.errors.UnknownOutcome):
            await (await runtime.resume(id))
        found = words(await runtime.effects_since("here"))
        assert found[-1] == ("unknown", "hangs", None) and len(found) == len(DONE) + 1

    drive(store, go_on)


@weft.workflow
async def tries_denied() -> str:
    await weft.checkpoint("bare")
    try:
        await book.options(needs="net.connect:example.com:443")("1")
    except weft.errors.Denied:
        return "denied"
    return "done"


def test_what_was_refused_has_not_happened(store: str) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        assert await runtime.run(tries_denied) == "denied"
        return await runtime.effects_since("bare")

    assert drive(store, use, policy=weft.Policy(base="program")) == []

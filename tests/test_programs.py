"""What a program may rely on: asyncio's constructs, the clock, its arguments, its children."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, note, outcome, outcomes, ran, wait  # noqa: F401
from weft.core.errors import BadInput, Cancelled, Deadlock, NoProcess, NotStorable, UnknownRun
from weft.core.record import Outcome


@weft.step
def threaded(value: int) -> int:
    return value * 2


# --- asyncio in a body --------------------------------------------------------------------------------------------


@weft.workflow
async def constructs() -> dict[str, Any]:
    found: dict[str, Any] = {"gather": await asyncio.gather(note(1), threaded(2), wait(0.001))}
    tasks = [asyncio.create_task(wait(0.001)), asyncio.create_task(wait(30))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    found["first"] = [task.result() for task in done]
    try:
        async with asyncio.timeout(0.01):
            await wait(30)
    except TimeoutError:
        found["timeout"] = True
    lines: asyncio.Queue[int | None] = asyncio.Queue(1)
    async with asyncio.TaskGroup() as group:

        async def produce() -> None:
            for i in range(3):
                await lines.put(await note(i))
            await lines.put(None)

        group.create_task(produce())
        found["queue"] = []
        while (line := await lines.get()) is not None:
            found["queue"].append(line)
    found["completed"] = sorted([await task for task in asyncio.as_completed([note("a"), note("b")])])
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, event.set)
    found["event"] = await asyncio.wait_for(event.wait(), 5)
    async with asyncio.Lock(), asyncio.Semaphore(1):
        found["lock"] = await note("locked")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(wait(30))
    except* ValueError as error:
        found["group"] = [str(e) for e in error.exceptions]
    return found


async def fails() -> None:
    await note("failing")
    raise ValueError("as told")


def test_asyncio_constructs_run_and_replay_alike(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(constructs)
        result = await run
        assert result["gather"] == [1, 4, 0.001] and result["first"] == [0.001] and result["timeout"] is True
        assert result["queue"] == [0, 1, 2] and result["completed"] == ["a", "b"] and result["group"] == ["as told"]
        records = await runtime.recovery.records(run.id)
        last = max(r.effect for r in records if isinstance(r, Outcome))
        before = len(ran)
        # Replaying nearly all of it delivers the same outcomes in the same order and executes nothing again.
        replayed = await runtime.fork(run.id, at=last)
        assert await replayed == result
        assert len(ran) - before <= 1
        assert await outcomes(runtime, replayed.id) == [outcome(r) for r in records if isinstance(r, Outcome)]

    drive(store, use)


@weft.workflow
async def chances() -> tuple[Any, ...]:
    return weft.now(), weft.random(), weft.uuid(), weft.current().id, await note("x")


def test_clock_chance_and_identity_are_the_same_on_replay(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(chances)
        first = await run
        again = await (await runtime.fork(run.id, at=4))
        assert first[:3] == again[:3] and first[3] == run.id != again[3]
        assert await runtime.run(chances) != first

    drive(store, use)


@weft.workflow
async def stuck() -> None:
    await asyncio.Event().wait()


def test_a_body_nobody_can_wake_is_an_error_that_says_where(store: str) -> None:
    with pytest.raises(Deadlock, match=r"test_programs\.py:\d+"):
        drive(store, lambda r: r.run(stuck))


@weft.workflow
async def dropped_task() -> str:
    asyncio.create_task(wait(60))  # noqa: RUF006
    return "ended"


def test_tasks_left_over_do_not_keep_a_run(store: str) -> None:
    assert drive(store, lambda r: r.run(dropped_task)) == "ended"


# --- outside a body ------------------------------------------------------------------------------------------------


def test_steps_run_plainly_and_effects_refuse_outside_a_body() -> None:
    assert asyncio.run(note(5)) == 5 and asyncio.run(threaded(2)) == 4
    with pytest.raises(NoProcess):
        weft.now()
    with pytest.raises(NoProcess):
        asyncio.run(weft.sleep(1))
    with pytest.raises(NoProcess, match=r"weft\.run"):
        chances()


def test_declarations_refuse_nonsense() -> None:
    with pytest.raises(BadInput):
        weft.step(effect="twice")(fails)  # type: ignore[arg-type]
    with pytest.raises(BadInput):
        weft.workflow(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(BadInput):
        weft.Retry(attempts=0)
    with pytest.raises(BadInput):
        weft.Queue("q", concurrency=0)
    with pytest.raises(BadInput):
        weft.step(timeout=-1)(fails)


@weft.workflow
async def adds(a: int, b: int = 1) -> int:
    return a + b


def test_arguments_must_fit(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(adds, 1, b=2) == 3
        with pytest.raises(BadInput, match=r"adds\(a: .*missing"):
            await runtime.run(adds)  # type: ignore[call-arg]
        with pytest.raises(BadInput, match=r"weft\.workflow"):
            await runtime.run(fails)  # type: ignore[arg-type]
        with pytest.raises(NotStorable, match="argument 'a'"):
            await runtime.run(adds, lambda: 1)  # type: ignore[arg-type]
        with pytest.raises(UnknownRun):
            await runtime.resume("nothing")

    drive(store, use)


def test_a_runtime_must_be_open() -> None:
    with pytest.raises(BadInput, match="async with"):
        asyncio.run(weft.Runtime("never.db").run(adds, 1))


# --- children ----------------------------------------------------------------------------------------------------


@weft.workflow
async def sleeper(seconds: float) -> str:
    try:
        await weft.sleep(timedelta(seconds=seconds))
    except asyncio.CancelledError:
        await note("cleaned up")
        raise
    return "slept"


@weft.workflow
async def parent(seconds: float) -> str:
    child = await weft.spawn(sleeper, seconds)
    await note(child.id)
    return await child


@weft.workflow
async def failing(message: str) -> None:
    await note("about to fail")
    raise ValueError(message)


@weft.workflow
async def careless() -> str:
    await weft.spawn(failing, "nobody waits for me")
    return "done"


@weft.workflow
async def impatient() -> str:
    try:
        async with asyncio.timeout(0.02):
            await sleeper(60)
    except TimeoutError:
        return "gave up"
    return "waited"


def test_children_and_their_parents(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(parent, 0.001) == "slept"
        run = await runtime.start(parent, 60)
        while len(ran) < 2:
            await asyncio.sleep(0.005)
        child = ran[-1]
        await run.cancel()
        with pytest.raises(Cancelled):
            await run
        assert (await runtime.row(child)).state == "cancelled" and ran[-1] == "cleaned up"
        with pytest.raises(ValueError, match="nobody waits for me"):
            await runtime.run(careless)
        assert await runtime.run(impatient) == "gave up"
        newest = next(row for row in await runtime.store.rows() if row.workflow.endswith("sleeper"))
        assert newest.state == "cancelled"

    drive(store, use)

"""What a program may rely on: asyncio's constructs, children, letters, events, retries, queues, time travel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import (
    BadInput,
    Cancelled,
    Deadlock,
    Divergence,
    KeyConflict,
    NoProcess,
    NotStorable,
    StepTimeout,
    UnknownRun,
)
from weft.core.record import AnyRecord, Outcome

ran: list[Any] = []
switch = {"new": False}


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()
    switch["new"] = False


def drive(path: Path, use: Callable[[weft.Runtime], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with weft.Runtime(path / "journal.db", **options) as runtime:
            return await use(runtime)

    return asyncio.run(main())


@weft.step
async def note(value: Any) -> Any:
    ran.append(value)
    return value


@weft.step
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


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


def test_asyncio_constructs_run_and_replay_alike(tmp_path: Path) -> None:
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

    drive(tmp_path, use)


def outcome(record: Outcome) -> tuple[Any, ...]:
    return (record.effect, record.kind, record.name, record.args, record.value, record.ok)


async def outcomes(runtime: weft.Runtime, id: str) -> list[tuple[Any, ...]]:
    return [outcome(r) for r in await runtime.recovery.records(id) if isinstance(r, Outcome)]


@weft.workflow
async def chances() -> tuple[Any, ...]:
    return weft.now(), weft.random(), weft.uuid(), weft.current().id, await note("x")


def test_clock_chance_and_identity_are_the_same_on_replay(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(chances)
        first = await run
        again = await (await runtime.fork(run.id, at=4))
        assert first[:3] == again[:3] and first[3] == run.id != again[3]
        assert await runtime.run(chances) != first

    drive(tmp_path, use)


@weft.workflow
async def stuck() -> None:
    await asyncio.Event().wait()


def test_a_body_nobody_can_wake_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(Deadlock, match=r"test_programs\.py:\d+"):
        drive(tmp_path, lambda r: r.run(stuck))


@weft.workflow
async def dropped_task() -> str:
    asyncio.create_task(wait(60))  # noqa: RUF006
    return "ended"


def test_tasks_left_over_do_not_keep_a_run(tmp_path: Path) -> None:
    assert drive(tmp_path, lambda r: r.run(dropped_task)) == "ended"


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


def test_arguments_must_fit(tmp_path: Path) -> None:
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

    drive(tmp_path, use)


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


def test_children_and_their_parents(tmp_path: Path) -> None:
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

    drive(tmp_path, use)


# --- letters, events, parking ------------------------------------------------------------------------------------


@dataclass
class Order:
    number: int
    what: str = "tea"


orders = weft.Mailbox("orders", Order)


@weft.workflow
async def shop(count: int) -> list[Order]:
    return [await orders.receive() for _ in range(count)]


@weft.workflow
async def customer(to: str) -> None:
    for i in range(2):
        await orders.send(to, Order(i))


@weft.workflow
async def listener(key: str) -> Any:
    return await weft.wait_for(key)


@weft.workflow
async def speaker(key: str, value: Any) -> None:
    await weft.publish(key, value)


async def parked(runtime: weft.Runtime, id: str) -> None:
    while id in runtime.active:
        await asyncio.sleep(0.02)
    assert (await runtime.row(id)).state == "waiting"


def test_letters_and_events_wake_those_that_left_memory(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(shop, 3)
        await parked(runtime, run.id)
        await runtime.run(customer, run.id)
        await parked(runtime, run.id)
        await runtime.send(run.id, "orders", {"number": 7, "what": "cake"})
        assert await run == [Order(0), Order(1), Order(7, "cake")]
        with pytest.raises(UnknownRun, match="has ended"):
            await runtime.send(run.id, "orders", Order(1))
        with pytest.raises(UnknownRun):
            await runtime.run(customer, "nobody")
        early = await runtime.start(listener, "news")
        await parked(runtime, early.id)
        await runtime.run(speaker, "news", {"a": (1, 2)})
        assert await early == {"a": (1, 2)} == await runtime.run(listener, "news")
        assert await runtime.store.inbox([run.id]) == []

    drive(tmp_path, use)


def test_a_letter_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(shop, 1)
        await runtime.send(run.id, "orders", "not an order")
        with pytest.raises(BadInput, match="orders"):
            await run
        with pytest.raises(BadInput):
            weft.Mailbox("weft.secret")

    drive(tmp_path, use)


# --- retries, time limits, queues --------------------------------------------------------------------------------


@weft.step(retries=weft.Retry(attempts=3, delay=0.001, on=(OSError,)))
def flaky(errors: list[str]) -> int:
    ran.append("try")
    if len(ran) <= len(errors):
        raise {"os": OSError, "value": ValueError}[errors[len(ran) - 1]]("no luck")
    return len(ran)


@weft.step(timeout=0.02)
async def hangs() -> None:
    await asyncio.sleep(60)


@weft.workflow
async def tries(errors: list[str]) -> int:
    return await flaky(errors)


@weft.workflow
async def limited() -> None:
    await hangs()


def test_retries_and_time_limits(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(tries, ["os", "os"])
        assert await run == 3
        records = await runtime.recovery.records(run.id)
        assert [r.attempts for r in records if isinstance(r, Outcome)] == [3]
        for errors, kind, count in ((["os"] * 3, OSError, 3), (["value"], ValueError, 1)):
            ran.clear()
            with pytest.raises(kind, match="no luck"):
                await runtime.run(tries, errors)
            assert len(ran) == count
        with pytest.raises(StepTimeout, match=r"hangs did not finish within 0\.02 s"):
            await runtime.run(limited)

    drive(tmp_path, use)


running = {"now": 0, "most": 0}
narrow = weft.Queue("narrow", concurrency=2)


@weft.step(queue=narrow)
async def crowded(value: int) -> int:
    running["now"] += 1
    running["most"] = max(running["most"], running["now"])
    await asyncio.sleep(0.003)
    running["now"] -= 1
    return value


@weft.workflow
async def crowd() -> int:
    return sum(await asyncio.gather(*(crowded(i) for i in range(8))))


@weft.workflow
async def ordered(value: int) -> int:
    return int(await note(value))


def test_queues_limit_and_order(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(crowd) == 28 and running["most"] == 2
        one = weft.Queue("one", concurrency=1)
        runs = [await runtime.start(ordered.options(queue=one, priority=p), p) for p in (0, 1, 5, 3)]
        assert [await run for run in runs] == [0, 1, 5, 3] and ran == [5, 3, 1, 0]
        waiting = await runtime.start(sleeper.options(queue=one), 30)
        behind = await runtime.start(ordered.options(queue=one), 9)
        assert await behind.status() == "queued"
        await behind.cancel()
        with pytest.raises(Cancelled):
            await behind
        assert 9 not in ran  # its body never began
        await waiting.cancel()
        with pytest.raises(Cancelled):
            await waiting
        slow = weft.Queue("slow", rate=(2, 0.1))
        began = time.monotonic()
        for run in [await runtime.start(ordered.options(queue=slow), i) for i in range(5)]:
            await run
        assert time.monotonic() - began >= 0.2  # two at once, two after 0.1 s, one after 0.2 s

    drive(tmp_path, use)


# --- keys, forks, changed code --------------------------------------------------------------------------------------


def test_a_key_starts_one_run_only(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        first = await runtime.start(ordered.options(key="k"), 1)
        second = await runtime.start(ordered.options(key="k"), 1)
        assert first.id == second.id and await second == 1 and ran == [1]
        with pytest.raises(KeyConflict, match="another key"):
            await runtime.start(ordered.options(key="k"), 2)

    drive(tmp_path, use)
    assert drive(tmp_path, lambda r: r.run(ordered.options(key="k"), 1)) == 1 and ran == [1]


@weft.workflow
async def evolving(value: int) -> list[Any]:
    found = [await note(f"a{value}")]
    found.append(await note("new" if switch["new"] else "old"))
    return [*found, await note("end")]


@weft.workflow
async def careful() -> Any:
    await note("before")
    if switch["new"] and weft.patched("newer"):
        return await note("new")
    return await note("old")


def test_forks_travel_in_time(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(evolving, 1)
        assert await run == ["a1", "old", "end"]
        switch["new"] = True
        ran.clear()
        assert await (await runtime.fork(run.id, at=2)) == ["a1", "new", "end"] and ran == ["new", "end"]
        assert await (await runtime.fork(run.id, at=2, value="given")) == ["a1", "given", "end"]
        assert await (await runtime.fork(run.id, at=2, input=((9,), {}))) == ["a1", "new", "end"]
        assert await (await runtime.fork(run.id, at=1, input=((9,), {}))) == ["a9", "new", "end"]
        second = await runtime.fork(run.id, at=2, input=((9,), {}))
        await second
        assert await (await runtime.fork(second.id, at=3)) == ["a1", "new", "end"]  # a fork of a fork
        with pytest.raises(BadInput, match="no effect 17"):
            await runtime.fork(run.id, at=17)
        with pytest.raises(Divergence) as caught:
            await (await runtime.fork(run.id, at=3))
        for words in ("effect 2", "note('old')", "note('new')", "test_programs.py:", "weft.patched", "weft fork"):
            assert words in str(caught.value)
        assert await run == ["a1", "old", "end"]  # the origin is untouched

    drive(tmp_path, use)


def test_patched_lets_old_runs_be_old(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(careful)
        assert await run == "old"
        records = len(await runtime.recovery.records(run.id))
        switch["new"] = True
        assert records == 3 and await runtime.run(careful) == "new"
        assert await (await runtime.fork(run.id, at=2)) == "new"  # had not passed that point
        return run.id

    drive(tmp_path, use)


def test_observers_see_every_record(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        seen: list[AnyRecord] = []
        runtime.observe(lambda id, record: seen.append(record))
        run = await runtime.start(evolving, 1)
        await run
        assert seen == await runtime.recovery.records(run.id)

    drive(tmp_path, use)

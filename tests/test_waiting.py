"""What a program may wait for: letters, events, another attempt, its turn in a queue."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest

import weft
from tests.programs import drive, fresh, note, parked, ran  # noqa: F401
from weft.core.errors import BadInput, Cancelled, StepTimeout, UnknownRun
from weft.core.record import Outcome

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


def test_letters_and_events_wake_those_that_left_memory(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(shop, 3)
        await parked(runtime, run.id)
        await runtime.run(customer, run.id)
        while await runtime.store.inbox([run.id]):
            await asyncio.sleep(0.01)  # it was woken, and takes both
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

    drive(store, use)


def test_a_letter_of_the_wrong_type_is_refused(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(shop, 1)
        await runtime.send(run.id, "orders", "not an order")
        with pytest.raises(BadInput, match="orders"):
            await run
        with pytest.raises(BadInput):
            weft.Mailbox("weft.secret")

    drive(store, use)


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


def test_retries_and_time_limits(store: str) -> None:
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

    drive(store, use)


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


@weft.workflow
async def resting() -> None:
    await weft.sleep(30)


def test_queues_limit_and_order(store: str) -> None:
    async def use(runtime: weft.Runtime) -> None:
        assert await runtime.run(crowd) == 28 and running["most"] == 2
        one = weft.Queue("one", concurrency=1)
        runs = [await runtime.start(ordered.options(queue=one, priority=p), p) for p in (0, 1, 5, 3)]
        assert [await run for run in runs] == [0, 1, 5, 3] and ran == [5, 3, 1, 0]
        waiting = await runtime.start(resting.options(queue=one))
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

    drive(store, use)

"""The order in which the effects of one operation's steps take place: as they were called, from L3 on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import weft
from tests.programs import fresh, ran  # noqa: F401
from weft.core.record import Outcome
from weft.trace.anomalies import check
from weft.trace.journal_history import history_of_runs

things = weft.Memory("things")
STEP = 0.02


@weft.step(order="staged")
async def staged(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    await weft.turn()
    ran.append(name)
    return name


@weft.step
async def whole(name: str, seconds: float) -> str:
    ran.append(f"{name} begins")
    await asyncio.sleep(seconds)
    ran.append(name)
    return name


@weft.step
def threaded(name: str, seconds: float) -> str:
    ran.append(name)
    return name


@weft.step(order="commutes")
async def commutes(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    ran.append(name)
    return name


@weft.step(order="staged")
async def breaks(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    raise ValueError(name)


@weft.step(order="staged", retries=weft.Retry(attempts=3, delay=0.01, jitter=0))
async def tries(name: str, seconds: float) -> str:
    ran.append(f"{name} tries")
    await asyncio.sleep(seconds)
    if ran.count(f"{name} tries") < 3:
        raise OSError(name)
    await weft.turn()
    ran.append(name)
    return name


@weft.step(order="staged")
async def has_no_effect(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return name


STEPS: dict[str, Any] = {
    step.fn.__name__: step for step in (staged, whole, threaded, commutes, breaks, tries, has_no_effect)
}


@weft.workflow
async def turn_of(level: str, calls: list[list[Any]]) -> list[str]:
    async with things.operation(level=level):  # type: ignore[arg-type]
        tasks = [asyncio.create_task(STEPS[kind](name, seconds)) for kind, name, seconds in calls]
        found = await asyncio.gather(*tasks, return_exceptions=True)
    return [str(one) for one in found]


def played(store: str, level: str, *calls: tuple[str, str, float]) -> tuple[list[str], set[str]]:
    """What was done, in its order, and which anomalies the journal shows."""

    async def main() -> set[str]:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(turn_of, level, [list(call) for call in calls])
            await run
            return {str(finding.kind) for finding in check(await history_of_runs(runtime.store, [run.id]), "L4")}

    found = asyncio.run(main())
    return list(ran), found


def test_they_compute_beside_each_other_and_take_effect_in_the_order_of_the_calls(store: str) -> None:
    calls = [("staged", "a", 3 * STEP), ("staged", "b", 2 * STEP), ("staged", "c", 0.0)]
    assert played(store, "L3", *calls) == (["a", "b", "c"], set())


def test_below_l3_they_take_effect_as_they_come_and_the_journal_tells(store: str) -> None:
    calls = [("staged", "a", 3 * STEP), ("staged", "b", 2 * STEP), ("staged", "c", 0.0)]
    assert played(store, "L2", *calls) == (["c", "b", "a"], {"A6"})


def test_a_step_that_says_nothing_is_an_effect_as_a_whole(store: str) -> None:
    calls = [("whole", "a", STEP), ("threaded", "b", 0.0), ("whole", "c", 0.0)]
    assert played(store, "L3", *calls) == (["a begins", "a", "b", "c begins", "c"], set())


def test_what_commutes_waits_for_nobody_and_nobody_for_it(store: str) -> None:
    calls = [("staged", "a", 2 * STEP), ("commutes", "b", 0.0), ("staged", "c", 0.0), ("commutes", "d", 4 * STEP)]
    assert played(store, "L3", *calls) == (["b", "a", "c", "d"], set())


@pytest.mark.parametrize("kind", ["breaks", "has_no_effect"])
def test_one_without_an_effect_keeps_nobody_waiting(store: str, kind: str) -> None:
    calls = [(kind, "a", STEP), ("staged", "b", 0.0), (kind, "c", 2 * STEP), ("staged", "d", 0.0)]
    assert played(store, "L3", *calls) == (["b", "d"], set())


def test_a_step_keeps_its_turn_over_its_attempts(store: str) -> None:
    done, found = played(store, "L3", ("tries", "a", 0.0), ("staged", "b", 0.0))
    assert [name for name in done if "tries" not in name] == ["a", "b"]
    assert found == set()


@weft.workflow
async def gives_one_up() -> list[str]:
    async with things.operation(level="L3"):
        slow = asyncio.create_task(staged("slow", 3600))
        quick = asyncio.create_task(staged("quick", 0.0))
        await weft.sleep(STEP)
        slow.cancel()
        return [await quick]


def test_one_that_is_given_up_lets_the_next_on(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            assert await runtime.run(gives_one_up) == ["quick"]

    asyncio.run(main())
    assert ran == ["quick"]


@weft.workflow
async def no_operation() -> list[str]:
    return [await staged("a", 0.0), await whole("b", 0.0)]


def test_outside_of_an_operation_a_turn_is_no_wait(store: str) -> None:
    async def main() -> None:
        async with weft.Runtime(store) as runtime:
            run = await runtime.start(no_operation)
            assert await run == ["a", "b"]
            outcomes = [one for one in await runtime.recovery.records(run.id) if type(one) is Outcome]
            assert [(one.operation, one.turn) for one in outcomes] == [(0, 0), (0, 0)]

    asyncio.run(main())
    asyncio.run(weft.turn())  # nor outside of a step

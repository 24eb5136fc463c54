"""Random asyncio programs replay to the same journal, whatever the latencies of their steps were."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive
from weft.core.errors import Cancelled, Deadlock
from weft.core.record import AnyRecord, Outcome


@weft.step(effect="pure")
async def work(tag: str, milliseconds: int) -> str:
    await asyncio.sleep(milliseconds / 1000)
    return tag


@weft.step
async def refuse(tag: str) -> str:
    raise ValueError(tag)


async def interpret(node: Any, path: str) -> Any:
    """Runs a program given as data. What it returns may depend on the schedule; its journal says which it was."""
    kind, *parts = node
    starts = [partial(interpret, part, f"{path}.{i}") for i, part in enumerate(parts) if isinstance(part, tuple | list)]
    match kind:
        case "work":
            return await work(path, parts[0])
        case "fail":
            try:
                return await refuse(path)
            except ValueError as error:
                return f"caught {error}"
            finally:
                await work(f"{path} finally", 0)
        case "chance":
            return [weft.random(), str(weft.uuid()), weft.now().isoformat()]
        case "sleep":
            return await weft.sleep(parts[0] / 1000)
        case "sequence":
            return [await start() for start in starts]
        case "gather":
            return await asyncio.gather(*(start() for start in starts))
        case "race":
            tasks = [asyncio.create_task(start()) for start in starts]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            return [task.result() for task in done]
        case "completed":
            return [await child for child in asyncio.as_completed([start() for start in starts])]
        case "timeout":
            try:
                async with asyncio.timeout(0.002):
                    return await starts[0]()
            except TimeoutError:
                return "late"
        case "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(start()) for start in starts]
            return [task.result() for task in tasks]
        case "lock":
            lock, order = asyncio.Lock(), []

            async def hold(start: Any) -> None:
                async with lock:
                    order.append(await start())

            await asyncio.gather(*map(hold, starts))
            return order
        case "queue":
            lines: asyncio.Queue[Any] = asyncio.Queue(1)

            async def feed(start: Any) -> None:
                await lines.put(await start())

            feeders = [asyncio.create_task(feed(start)) for start in starts]
            found = [await lines.get() for _ in feeders]
            await asyncio.gather(*feeders)
            return found
        case "child":
            return await subprogram(parts[0], path)
    raise AssertionError(kind)


@weft.workflow
async def program(node: Any) -> Any:
    return await interpret(node, "p")


@weft.workflow
async def subprogram(node: Any, path: str) -> Any:
    return await interpret(node, f"{path}/c")


leaves = st.one_of(
    st.tuples(st.just("work"), st.integers(0, 4)),
    st.tuples(st.just("fail")),
    st.tuples(st.just("chance")),
    st.tuples(st.just("sleep"), st.integers(0, 3)),
)
several = ("sequence", "gather", "race", "completed", "group", "lock", "queue")
programs = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda kind, parts: (kind, *parts), st.sampled_from(several), st.lists(inner, min_size=1, max_size=3)
        ),
        st.tuples(st.sampled_from(("timeout", "child")), inner),
    ),
    max_leaves=10,
)


def told(records: list[AnyRecord]) -> list[tuple[Any, ...]]:
    return [(r.effect, r.kind, r.name, r.args, r.value, r.ok) for r in records if isinstance(r, Outcome)]


def test_a_program_replays_to_the_same_journal(store: str) -> None:
    @settings(max_examples=25 if "://" in store else 100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(node=programs, cut=st.floats(0, 1))
    def check(node: Any, cut: float) -> None:
        drive(store, partial(replay, node=node, cut=cut), durability="process")

    check()


async def replay(runtime: weft.Runtime, node: Any, cut: float) -> None:
    """Run a program, and fork it at some place of its journal: before that nothing changes, nor is a step made anew."""
    run = await runtime.start(program, node)
    await run
    first = told(await runtime.recovery.records(run.id))
    if not first:
        return
    point = first[int(cut * (len(first) - 1))][0]
    kept = next(i for i, outcome in enumerate(first) if outcome[0] == point)
    again = await runtime.fork(run.id, at=point)
    try:
        await again
    except (Cancelled, Deadlock, ExceptionGroup) as ended:
        # A fork shares the children in its history: those its origin cancelled stay so, also in a group, and whoever
        # was to feed a queue with one of them feeds it no more.
        assert "child" in repr(node)
        assert isinstance(ended, Cancelled) or ("queue" if isinstance(ended, Deadlock) else "group") in repr(node)
    second = told(await runtime.recovery.records(again.id))
    assert second[:kept] == first[:kept]
    recorded = {outcome[3] for outcome in first[:kept] if outcome[1] == "step"}
    anew = {outcome[3] for outcome in second[kept:] if outcome[1] == "step"}
    assert not recorded & anew, "a recorded step was made again"

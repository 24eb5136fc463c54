"""Two runs side by side: equal ones have no difference, and of a changed one the first change is found."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import weft
from benchmarks.observe import programs
from tests.programs import drive
from weft.core.errors import UnknownRun
from weft.trace.diff import Diff, diff
from weft.trace.reading import read_run

DELAYS: dict[int, float] = {}


@weft.step(effect="pure")
async def do(number: int) -> int:
    await asyncio.sleep(DELAYS.get(number, 0))
    return number


@weft.step(effect="pure")
async def more(number: int) -> int:
    return number + 1


@weft.workflow
async def below(number: int) -> int:
    return await more(number)


@weft.workflow
async def everything(number: int) -> int:
    weft.now()
    weft.random()
    await asyncio.gather(do(1), do(2), below(3))
    if number > 5:
        await more(number)
    return await do(number) + await below(number)


def compared(place: Any, one: int, other: int, **options: Any) -> Diff:
    async def use(runtime: weft.Runtime) -> Diff:
        ids = []
        for number in (one, other):
            run = await runtime.start(everything, number)
            await run.result()
            ids.append(run.id)
        await runtime.journal.barrier()
        return await diff(runtime.store, ids[0], ids[1], **options)

    found: Diff = drive(str(place), use)
    return found


def test_equal_runs_have_no_difference(store: str) -> None:
    found = compared(store, 1, 1)
    assert found.is_empty and found.first is None and found.same == 11
    with_chance = compared(store, 1, 1, chance=True)
    assert [change.name for change in with_chance.changes] == ["now", "random"]


def test_the_order_of_turns_is_no_difference(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> Diff:
        ids = []
        for delays in ({1: 0.02}, {2: 0.02}):
            DELAYS.clear()
            DELAYS.update(delays)
            run = await runtime.start(everything, 1)
            await run.result()
            ids.append(run.id)
        await runtime.journal.barrier()
        return await diff(runtime.store, ids[0], ids[1])

    found = drive(str(tmp_path / "j.db"), use)
    DELAYS.clear()
    assert found.is_empty


def test_another_input_is_the_first_change_and_the_rest_is_aligned(store: str) -> None:
    found = compared(store, 1, 9)
    names = [change.kind if change.kind == "child" else change.name.rpartition(".")[2] for change in found.changes]
    told = [(change.what, name, change.one is None) for change, name in zip(found.changes, names, strict=True)]
    assert told == [
        (("input",), "everything", False),
        (("added",), "more", True),
        (("arguments", "outcome"), "do", False),
        (("arguments",), "below", False),
        (("input",), "below", False),
        (("arguments", "outcome"), "more", False),
        (("result",), "below", False),
        (("outcome",), "child", False),
        (("result",), "everything", False),
    ]
    assert found.first is not None and found.first.path == (0,)


def test_of_a_changed_outcome_it_is_the_first_change(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> int:
        tried = 0
        for seed in range(7000, 7006):
            workflow = programs.write(tmp_path, seed).main
            run = await runtime.start(workflow, 10)
            await run.result()
            await runtime.journal.barrier()
            nodes = [node async for node in read_run(runtime.store, run.id)]
            steps = [node for node in nodes if node.run == run.id and node.kind in ("step", "tool")]
            for node in steps[:: max(1, len(steps) // 4)]:
                other = await runtime.fork(run.id, at=node.effect, value=1000 + node.effect)
                await other.result()
                await runtime.journal.barrier()
                first = (await diff(runtime.store, run.id, other.id)).first
                assert first is not None and first.path == (node.effect,) and first.one == node.id
                assert first.what == (("outcome",) if node.status == "ok" else ("status",))
                tried += 1
        return tried

    assert drive(str(tmp_path / "j.db"), use) > 10


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> None:
        run = await runtime.start(below, 1)
        await run.result()
        await diff(runtime.store, run.id, "nobody")

    with pytest.raises(UnknownRun, match="nobody"):
        drive(str(tmp_path / "j.db"), use)

"""Runs replayed as load: what they did is not done again, only its times, its processor and memory, and what it spent.

    report = await replay(runtime, runs, speed=10)          # as often and as closely as they came, ten times as fast
    print(report.effects / report.seconds, report.late_95)

Each run is a process of the runtime, each effect a step of it that is journaled like any other: so the store, the
queues and the scheduling bear what they would bear, and the report tells how late they were.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from weft.core.errors import BadInput
from weft.core.progress import nearest_rank
from weft.core.step import step
from weft.core.workflow import workflow
from weft.runtime.effects import charge, sleep

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


class Planned(msgspec.Struct, frozen=True):
    """An effect. `after`: seconds from when the one before began; `seconds`: how long it takes, of which `cpu` are
    computed; `memory`: bytes that it holds; `spent`: money, tokens and the like."""

    name: str
    after: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    spent: dict[str, float] = {}


class PlannedRun(msgspec.Struct, frozen=True):
    """A run that begins `start` seconds after the first one."""

    start: float
    effects: list[Planned]

    @property
    def seconds(self) -> float:
        """From its beginning to the end of the effect that ends last."""
        at, over = 0.0, 0.0
        for planned in self.effects:
            at += planned.after
            over = max(over, at + planned.seconds)
        return over


class LoadReport(msgspec.Struct, frozen=True):
    """Of a replay. `effects`: those that were held, sleeps not counted; `seconds`: from the first beginning to the last
    end; `planned`: the same, had nothing taken time but what was told; `late_50`, `late_95`: seconds that runs ended
    later than planned, percentiles; `ids`: of the runs."""

    runs: int
    failed: int
    effects: int
    seconds: float
    planned: float
    late_50: float
    late_95: float
    ids: list[str]


@step
async def held(planned: Planned) -> None:
    """Sleep, compute, hold and spend as told."""
    began = time.perf_counter()
    kept = bytearray(planned.memory)
    kept[::4096] = b"x" * len(range(0, len(kept), 4096))  # or the pages would only be promised
    if planned.cpu > 0:
        await asyncio.to_thread(_compute, planned.cpu)
    charge(**planned.spent)
    await asyncio.sleep(max(0.0, planned.seconds - (time.perf_counter() - began)))


@workflow(name="weft.replayed")
async def replayed(effects: list[Planned]) -> int:
    """One run: effects begin when they are told to, and may overlap."""
    begun = []
    for planned in effects:
        if planned.after > 0:
            await sleep(planned.after)
        begun.append(asyncio.ensure_future(held(planned)))
    await asyncio.gather(*begun)
    return len(begun)


async def replay(runtime: Runtime, runs: Sequence[PlannedRun], speed: float = 1.0) -> LoadReport:
    """Start each run when it is due and wait for all. `speed`: all times are divided by it; memory and what is spent
    stay. Raises BadInput if there is no run, or `speed` is not above 0."""
    if not runs:
        raise BadInput("there is no run to replay")
    if not 0 < speed < float("inf"):
        raise BadInput(f"speed={speed!r}: give a number above 0")
    timed = [_faster(run, speed) for run in runs]
    began = time.perf_counter()
    each = await asyncio.gather(*(_one(runtime, run, began) for run in timed))
    seconds = time.perf_counter() - began
    late = [end - run.start - run.seconds for run, (_, end, _) in zip(timed, each, strict=True)]
    return LoadReport(
        len(runs), sum(not ok for _, _, ok in each), sum(len(run.effects) for run in runs), seconds,
        max(run.start + run.seconds for run in timed), nearest_rank(late, 50), nearest_rank(late, 95),
        [id for id, _, _ in each],
    )  # fmt: skip


async def _one(runtime: Runtime, run: PlannedRun, began: float) -> tuple[str, float, bool]:
    """Id, seconds from the beginning of all to its end, and whether it ended well."""
    await asyncio.sleep(max(0.0, run.start - (time.perf_counter() - began)))
    handle = await runtime.start(replayed, run.effects)
    try:
        await handle
        ok = True
    except Exception:  # a budget, a policy, a store: the load test tells how many failed, and the journal why
        ok = False
    return handle.id, time.perf_counter() - began, ok


def _faster(run: PlannedRun, speed: float) -> PlannedRun:
    effects = [
        msgspec.structs.replace(
            one, after=one.after / speed, seconds=one.seconds / speed, cpu=min(one.cpu, one.seconds) / speed
        )
        for one in run.effects
    ]
    return PlannedRun(run.start / speed, effects)


def _compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass

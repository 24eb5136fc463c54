"""What `weft explain` finds: faults planted in runs of real workflows after clean ones, and what it says of clean runs.

How often the planted one is named first, in three groups: *seen*, of programs that were at hand when the organs were
written; *held out*, of one that was written when the first of them were finished; *quiet*, which only the organs for
metrics and outputs can see. All programs are by the authors of the organs, small, and their services, models and times
are simulated; the runs are real. And how long it takes.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

import weft
from benchmarks.report import Measure, Report
from benchmarks.trace import faults, quiet_faults
from weft.trace.explain import Past, explain, past_of
from weft.trace.reading import read_effects


def figures(report: Report, directory: Path, quick: bool) -> None:
    """Add the figures of explanations. No data is needed from `directory`."""
    asyncio.run(explanations(report, *((25, 2) if quick else (60, 20))))
    asyncio.run(took(report))


PROGRAMS: tuple[Any, ...] = (
    faults.support,
    faults.build,
    faults.ledger,
    faults.crew,
    faults.intake,
    quiet_faults.review,
    quiet_faults.translate,
)
CATALOGUES = {
    "seen": faults.FAULTS,
    "held out": faults.LATE,
    "quiet": quiet_faults.QUIET,
    "quiet, held out": quiet_faults.QUIET_LATE,
}


async def took(report: Report) -> None:
    """How long it takes to explain a run of 300 effects by 50 earlier ones."""
    with tempfile.TemporaryDirectory() as folder:
        async with faults.opened(Path(folder), seed=29) as runtime:
            for number in range(50):
                await faults.run(runtime, quiet_faults.long_review, number)
            run = await faults.run(runtime, quiet_faults.long_review, 1000, "twice the tokens")
            await runtime.journal.barrier()
            effects = sum([1 async for _ in read_effects(runtime.store, run)])
            for name in ("first time", "from the cache"):
                began, since = time.process_time(), time.monotonic()
                found = await explain(runtime.store, run)
                spent, lasted = time.process_time() - began, time.monotonic() - since
                note = f"{effects} effects, {found.compared} earlier runs; {lasted:.1f} s by the clock"
                report.add("time", Measure(name=name, unit="CPU-s", runs=[spent], note=note))
    report.bar("time", "CPU-s to explain a run of 300 effects by 50 earlier ones, from the cache", spent, most=5)


async def explanations(report: Report, earlier: int, each: int) -> None:
    """After so many clean runs of each workflow, each fault so often, and as many clean ones."""
    with tempfile.TemporaryDirectory() as folder:
        async with faults.opened(Path(folder), seed=23) as runtime:
            for program in PROGRAMS:
                for number in range(earlier):
                    await faults.run(runtime, program, number)
            await runtime.journal.barrier()
            past = {program.name: await _past(runtime, program) for program in PROGRAMS}
            for known, catalogue in CATALOGUES.items():
                named = {fault: [await _named(runtime, past, fault, planted) for _ in range(each)]
                         for fault, planted in catalogue.items()}  # fmt: skip
                _tell(report, known, named)
            clean = each * sum(map(len, CATALOGUES.values()))
            alarms = await _alarms(runtime, past, clean)
    for name, said in alarms.items():
        what = Measure(name=f"clean: {name.rpartition('.')[2]}", unit="% alarms", runs=[100 * sum(said) / len(said)])
        report.add("explain", what)
    every = [one for said in alarms.values() for one in said]
    report.bar("explain", f"clean runs of which something was said, of {clean}", sum(every) / clean, most=0.05)


def _tell(report: Report, name: str, named: dict[str, list[list[bool]]]) -> None:
    """`named`: of each fault and run, whether each finding names it."""
    for fault, runs in named.items():
        more = {"named at all, %": 100 * sum(map(any, runs)) / len(runs)}
        first = 100 * sum(one[:1] == [True] for one in runs) / len(runs)
        report.add("explain", Measure(name=f"{name}: {fault}", unit="% first", runs=[first], more=more))
    every = [one for runs in named.values() for one in runs]
    share = sum(one[:1] == [True] for one in every) / len(every)
    report.bar("explain", f"{name}: planted fault named first, of {len(every)}", share, least=0.8)


async def _named(
    runtime: weft.Runtime, past: dict[str, Past], fault: str, planted: tuple[Any, tuple[str, ...], str]
) -> list[bool]:
    """One run with this fault: whether each finding names it."""
    program, kinds, said = planted
    run = await faults.run(runtime, program, 1000, fault)
    await runtime.journal.barrier()
    run = await faults.with_pause(runtime.store, run) if fault == "paused" else run
    found = await explain(runtime.store, run, past=past[program.name])
    return [faults.names(one, kinds, said) for one in found.findings]


async def _past(runtime: weft.Runtime, program: Any) -> Past:
    """What is usual of a workflow: all its runs so far."""
    row = (await runtime.store.listed(workflow=program.name, limit=1))[0][1]
    return await past_of(runtime.store, msgspec.structs.replace(row, id="", created=math.inf))


async def _alarms(runtime: weft.Runtime, past: dict[str, Past], count: int) -> dict[str, list[bool]]:
    """Whether something is said of clean runs, by program."""
    alarms: dict[str, list[bool]] = {}
    for number in range(count):
        program = PROGRAMS[number % len(PROGRAMS)]
        run = await faults.run(runtime, program, number)
        await runtime.journal.barrier()
        found = await explain(runtime.store, run, past=past[program.name])
        alarms.setdefault(program.name, []).append(bool(found.findings))
    return alarms

"""A thousand hostile schedules for each anomaly, at the level that excludes it and at the one below, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console
from rich.progress import Progress

import weft
from benchmarks.memory.schedules import ANOMALIES, LEVELS, Schedule
from benchmarks.report import Measure, Report
from benchmarks.server import Postgres
from benchmarks.trials import place
from verify.judge import judge
from verify.scheduled import RETRIES, land, scene
from weft.core.memory import Level
from weft.trace.anomalies import check
from weft.trace.journal_history import history_of_runs

AT_ONCE = 50
ENOUGH = 0.99
"""Of the schedules that must cause the anomaly one level below."""


class Tally(msgspec.Struct):
    """Of all schedules of an anomaly at one level. `hit`: it occurred; `unfinished`: an operation gave up, or took more
    than 5 retries; `unserial`: memory holds what no serial order of the live operations leaves."""

    played: int = 0
    hit: int = 0
    unfinished: int = 0
    unserial: int = 0
    attempts: int = 1


def measure(report: Report, schedules: Sequence[Schedule], console: Console) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="bench-", dir=place()))
        stores = {"SQLite": f"{folder}/journal.db"}
        try:
            server = stack.enter_context(Postgres(place()))
            stores["PostgreSQL"] = stack.enter_context(server.database())
        except FileNotFoundError as missing:
            report.bar("anomalies", "PostgreSQL", None, least=1, why=str(missing))
        for name, url in stores.items():
            asyncio.run(_on(report, name, url, schedules, console))


async def _on(report: Report, store: str, url: str, schedules: Sequence[Schedule], console: Console) -> None:
    numbers = count()
    with Progress(console=console) as progress:
        bar = progress.add_task(store, total=2 * len(schedules))
        async with weft.Runtime(url, durability="process") as runtime:
            for anomaly in ANOMALIES:
                mine = [one for one in schedules if one.anomaly == anomaly]
                if not mine:
                    continue
                below, at = LEVELS[anomaly]
                tallies = {level: Tally() for level in (below, at)}
                for first in range(0, len(mine), AT_ONCE):
                    for level in (below, at):  # in turns
                        chunk = mine[first : first + AT_ONCE]
                        await asyncio.gather(
                            *(_play(runtime, f"m{next(numbers)}", level, one, tallies[level]) for one in chunk)
                        )
                        progress.advance(bar, len(chunk))
                _tell(report, store, anomaly, tallies)


async def _play(runtime: weft.Runtime, namespace: str, level: Level, schedule: Schedule, tally: Tally) -> None:
    tally.played += 1
    if schedule.anomaly == "A6":
        run, landed = await land(runtime, namespace, level, schedule.computed)
        found = check(await history_of_runs(runtime.store, [run]), "L4")
        assert (landed != sorted(landed)) == any(one.kind == "A6" for one in found), "the journal says otherwise"
        tally.hit += bool(found)
        return
    started = await runtime.start(scene, namespace, level, schedule.agents, schedule.order, schedule.tools)
    told = await started
    judgement = await judge(runtime.store, started.id, namespace, schedule.agents, told)
    tally.hit += schedule.anomaly in judgement.kinds()
    tally.attempts = max(tally.attempts, judgement.attempts)
    tally.unfinished += bool(judgement.failed) or judgement.attempts > RETRIES + 1
    tally.unserial += not judgement.serial


def _tell(report: Report, store: str, anomaly: str, tallies: dict[Level, Tally]) -> None:
    figure = f"{anomaly} on {store}"
    for level, tally in tallies.items():
        more = {
            "schedules": float(tally.played),
            "unfinished": float(tally.unfinished),
            "not serial": float(tally.unserial),
            "most attempts": float(tally.attempts),
        }
        report.add(figure, Measure(name=level, unit="with the anomaly", runs=[tally.hit], more=more))
    (below, low), (at, high) = tallies.items()
    report.bar(figure, f"occurs at {below}", low.hit / low.played, least=ENOUGH, why=f"{low.hit} of {low.played}")
    report.bar(figure, f"occurs at {at}", high.hit, most=0, why=f"of {high.played}")
    report.bar(figure, f"unfinished within {RETRIES} retries at {at}", high.unfinished, most=0)
    report.bar(figure, f"left by no serial order at {at}", high.unserial, most=0)

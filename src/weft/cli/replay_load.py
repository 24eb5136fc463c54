"""`weft replay-load`: runs that were made, or recorded, as load on a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, Durability, StorePlace

if TYPE_CHECKING:
    from weft.runtime.load import LoadReport, PlannedRun
    from weft.runtime.runtime import Runtime
    from weft.trace.generation import Case

OWN = frozenset({"seconds", "cpu", "memory"})
"""Amounts that are held; the others are spent."""


@reported
def replay_load(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON lines of cases, from `weft trace generate`; or XES.")
    ] = "-",
    speed: Annotated[float, typer.Option(help="All times are divided by this.")] = 1.0,
    memory: Annotated[
        float, typer.Option(min=0, help="The share of the memory they took that is held; 0: none.")
    ] = 0.0,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Replay runs as load: they begin when they are told to, their steps sleep, compute, hold and spend as told.

    Reports how late they were. Their journals stay in the store, as runs of the workflow `weft.replayed`.
    """
    import asyncio

    import msgspec

    from weft.cli.host import say, with_runtime
    from weft.runtime.load import replay

    planned = [_planned(case, memory) for case in _cases(file)]

    async def use(runtime: Runtime) -> LoadReport:
        return await replay(runtime, planned, speed)

    report = asyncio.run(with_runtime(store, durability, use))
    say(msgspec.to_builtins(report), _words(report), json)
    if report.failed:
        raise typer.Exit(1)


def _cases(file: str) -> Sequence[Case]:
    from weft.trace.generation import read_cases
    from weft.trace.generation.cases import cases_of_lines

    return cases_of_lines(sys.stdin.buffer, "stdin") if file == "-" else read_cases(Path(file))


def _planned(case: Case, memory: float) -> PlannedRun:
    from weft.runtime.load import Planned, PlannedRun

    effects = [
        Planned(
            event.activity, event.after, event.amounts.get("seconds", 0.0), event.amounts.get("cpu", 0.0),
            int(memory * event.amounts.get("memory", 0.0)),
            {kind: n for kind, n in event.amounts.items() if kind not in OWN},
        )
        for event in case.events
    ]  # fmt: skip
    return PlannedRun(case.start, effects)


def _words(report: LoadReport) -> str:
    rate = report.effects / max(report.seconds, 1e-9)
    return (
        f"{report.runs:,} runs, {report.failed:,} failed; {report.effects:,} effects, {rate:,.1f}/s\n"
        f"{report.seconds:.1f} s, planned {report.planned:.1f} s; "
        f"late by {report.late_50:.3f} s (half of the runs), {report.late_95:.3f} s (95 %)"
    )

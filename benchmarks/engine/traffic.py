"""Serving in virtual time: pinning by Continuum against what servers do, a fixed time, no pins, and an oracle."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from statistics import geometric_mean

from benchmarks.report import Measure, Report
from weft.model.engine.policies import ByProgram, Continuum, Fcfs, Fixed, Oracle
from weft.model.engine.scheduling import Scheduler
from weft.model.engine.simulator import Machine, Outcome, agents, simulate

CELLS = [(0.15, 120_000), (0.2, 120_000), (0.3, 120_000), (0.3, 250_000), (0.5, 120_000), (0.5, 250_000)]
"""Programs a second, and tokens that fit: all of them too many."""
CALM = (0.05, 400_000)
PATIENCE = 60.0
MACHINE = Machine()
POLICIES: dict[str, Callable[[], Fcfs]] = {
    "FCFS, LRU": Fcfs,
    "program-level FCFS, no pins": ByProgram,
    "pins of 2 s": lambda: Fixed(2.0),
    "Continuum": lambda: Continuum(MACHINE.reload),
    "oracle": lambda: Oracle(MACHINE.reload),
}


def figures(report: Report, quick: bool) -> None:
    seeds, programs = ((101,), 50) if quick else ((101, 102, 103), 150)
    cells = CELLS[4:5] if quick else CELLS
    runs = {
        (cell, seed): {name: _serve(name, *cell, seed, programs) for name in POLICIES}
        for cell in [*cells, CALM]
        for seed in seeds
    }
    for name in POLICIES:
        for (rate, room), seed in runs:
            figure = f"time of a program: {rate} a second, {room:,} cells"
            outcome = runs[(rate, room), seed][name]
            more = {"hits": outcome.counts.hits, "longest wait, s": max(outcome.waited)}
            known = report.one(figure, name)
            if known is None:
                report.add(figure, Measure(name=name, unit="s", runs=[outcome.mean], more=more))
            else:
                known.runs.append(outcome.mean)
    contended = [run for (cell, _), run in runs.items() if cell != CALM]
    calm = [run for (cell, _), run in runs.items() if cell == CALM]
    _judge(report, contended, calm, least=None if quick else 1.8)  # little traffic fills the memory for a short time


def _serve(name: str, rate: float, room: int, seed: int, programs: int) -> Outcome:
    patience = inf if name == "FCFS, LRU" else PATIENCE
    scheduler = Scheduler(room, POLICIES[name](), slots=256, chunk=2048, patience=patience)
    return simulate(agents(rate, programs, seed), scheduler, MACHINE)


def _judge(
    report: Report, contended: list[dict[str, Outcome]], calm: list[dict[str, Outcome]], least: float | None
) -> None:
    def times(baseline: str) -> list[float]:
        return [run[baseline].mean / run["Continuum"].mean for run in contended]

    def bar(what: str, reached: float, why: str, least: float | None = None, most: float | None = None) -> None:
        report.bar("Continuum, in virtual time", what, reached, least=least, most=most, unit="×", why=why)

    against = times("FCFS, LRU")
    bar("programs end sooner, geometric mean", geometric_mean(against), "FCFS, LRU; the moonshot: 8.18", least=least)
    bar("the worst of them", min(against), "FCFS, LRU", least=1.0)
    none = times("program-level FCFS, no pins")
    bar("the pins are why", geometric_mean(none), "the same order without pins", least=least)
    bar("against a fixed time", geometric_mean(times("pins of 2 s")), "pins of 2 s")
    bar("of what an oracle would reach", 1 / geometric_mean([1 / each for each in times("oracle")]), "oracle")
    quiet = [run["FCFS, LRU"].mean / run["Continuum"].mean for run in calm]
    bar("nothing changes where all fits: at least", min(quiet), "FCFS, LRU", least=0.98)
    bar("and at most", max(quiet), "FCFS, LRU", most=1.02)
    waits = [max(run["Continuum"].waited) / max(run["FCFS, LRU"].waited) for run in contended]
    bar("the longest wait for a first token", max(waits), "FCFS, LRU", most=3.0)

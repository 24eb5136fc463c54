"""Who is to blame: `weft.trace.causes` on injected faults of a shop of services and of simulated systems.

DIR holds `sockshop.tar.gz`, or folders `ENTITY-METRIC/NUMBER` with `normal.csv` and `anomalous.csv` at any depth.
AC@k: the part of cases whose cause is among the first k of all metrics; Avg@5: the mean of AC@1 to AC@5.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import Measure, Report
from benchmarks.trace import network
from benchmarks.trace.lagged import Case, lagged
from benchmarks.trace.shifts import PEERS
from weft.trace.causes import make_series, rank, read_csv

Ranker = Callable[[Case], list[str]]
FIRST = 1000
"""Seed of the first simulated system. Those from 0 to 29 are the ones that choices were made on."""
SECONDS = 10.0
FEW = 20
"""Systems that the network is measured on: each takes it half a minute of CPU."""


def figures(report: Report, directory: Path, quick: bool) -> None:
    """Both kinds of cases; the network on the first few simulated ones, unless it is to be `quick`."""
    rankers: dict[str, Ranker] = {"Weft": _weft, **{name: _alone(score) for name, score in PEERS.items()}}
    with tempfile.TemporaryDirectory(prefix="causes-") as folder:
        found = _cases(directory, Path(folder))
        _tell(report, f"shop, {len(found)} cases", found, rankers, {1: 0.70, 3: 0.95, 5: 0.90})
    made = [lagged(FIRST + number) for number in range(100)]
    _tell(report, f"simulated lagged systems, {len(made)}", made, rankers, {1: 0.80})
    if not quick:
        network.figures(report, {"shop": found, "simulated lagged systems": made[:FEW]})


def _weft(case: Case) -> list[str]:
    found = rank(make_series(case.metrics, case.normal), make_series(case.metrics, case.bad))
    return [cause.name for cause in found.causes]


def _alone(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Ranker:
    return lambda case: [case.metrics[one] for one in np.argsort(-score(case.normal, case.bad), kind="stable")]


def _cases(directory: Path, folder: Path) -> list[Case]:
    if (packed := directory / "sockshop.tar.gz").is_file():
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        directory = folder
    return [_case(path.parent) for path in sorted(directory.rglob("normal.csv"))]


def _case(folder: Path) -> Case:
    normal, bad = read_csv(folder / "normal.csv"), read_csv(folder / "anomalous.csv")
    names = tuple(name for name in normal.names if name in bad.names)
    entity, _, metric = folder.parent.name.rpartition("-")
    cause = f"{entity}_{metric}"
    return Case(
        f"{folder.parent.name}/{folder.name}", list(names), normal.of(names).values, bad.of(names).values, cause
    )


def _tell(report: Report, figure: str, cases: list[Case], rankers: dict[str, Ranker], bars: dict[int, float]) -> None:
    first: dict[str, float] = {}
    if not cases:
        report.bar(figure, "cases are there", None, least=1, why="DIR has neither sockshop.tar.gz nor unpacked cases")
        return
    for name, ranker in rankers.items():
        places, seconds = [], []
        for case in cases:
            began = time.process_time()
            order = ranker(case)
            seconds.append(time.process_time() - began)
            places.append(order.index(case.cause) + 1)
        within = {k: float(np.mean([place <= k for place in places])) for k in range(1, 6)}
        first[name] = within[1]
        more = {"AC@3": within[3], "AC@5": within[5], "Avg@5": float(np.mean(list(within.values())))}
        report.add(figure, Measure(name=name, unit="AC@1", runs=[within[1]], more={**more, "CPU-s": max(seconds)}))
        if name != "Weft":
            continue
        for k, least in bars.items():
            what, reached = ("Avg@5", more["Avg@5"]) if k == 5 else (f"AC@{k}", within[k])
            report.bar(figure, f"{what} ≥ {least:.2f}", reached, least=least)
        report.bar(figure, f"no case takes more than {SECONDS:.0f} CPU-s", max(seconds), most=SECONDS, unit="CPU-s")
        missed = [f"{case.name} ({place})" for case, place in zip(cases, places, strict=True) if place > 1]
        report.figures[figure][-1].note = f"not first: {', '.join(missed[:8])}" if missed else ""
    best = max((name for name in first if name != "Weft"), key=lambda name: first[name])
    report.bar(
        figure, "AC@1 at least the best peer's", first["Weft"], least=first[best], why=f"{best}: {first[best]:.2f}"
    )

"""Who is to blame: `weft.trace.causes` on injected faults of a shop of services and of simulated systems.

DIR holds `sockshop.tar.gz`, or folders `ENTITY-METRIC/NUMBER` with `normal.csv` and `anomalous.csv` at any depth.
AC@k: the part of cases whose cause is among the first k of all metrics; Avg@5: the mean of AC@1 to AC@5.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.report import Measure, Report
from benchmarks.trace import network
from benchmarks.trace.lagged import Case, lagged
from benchmarks.trace.shifts import PEERS
from benchmarks.trace.varied import KINDS, varied
from weft.trace.causes import Graph, change_point, granger, make_series, rank, read_csv

Ranker = Callable[[Case], list[str]]
FIRST = 1000
"""Seed of the first simulated system. Those from 0 to 39 are the ones that choices were made on."""
OTHER, OTHERS = 2000, 12
"""Seed of the first of the other systems, and how many of them. Those from 1 to 15 are the ones that were looked at."""
SECONDS = 10.0
NONE: Mapping[bytes, Graph] = {}
FEW = 20
"""Systems that the network is measured on: each takes it half a minute of CPU."""


def figures(report: Report, directory: Path, quick: bool) -> None:
    """Both kinds of cases; then without a known usual part; other systems; and, unless `quick`, the network."""
    with tempfile.TemporaryDirectory(prefix="causes-") as folder:
        found = _cases(directory, Path(folder))
    _judged(report, f"shop, {len(found)} cases", found, {1: 0.70, 3: 0.95, 5: 0.90})
    made = [lagged(FIRST + number) for number in range(100)]
    _judged(report, f"simulated lagged systems, {len(made)}", made, {1: 0.80})
    _streams(report, {"shop": found, "simulated lagged systems": made[: 5 if quick else 50]})
    _varied(report, 1 if quick else OTHERS)
    if not quick:
        network.figures(report, {"shop": found, "simulated lagged systems": made[:FEW]})


def _streams(report: Report, groups: dict[str, list[Case]]) -> None:
    """Usual and bad part end to end, the row between them unknown: where it is taken to be, and who is blamed then."""
    for group, cases in groups.items():
        split = [_split(case) for case in cases]
        off = np.array([len(one.normal) - len(case.normal) for one, case in zip(split, cases, strict=True)])
        figure = f"one stream, {group}, {len(cases)}"
        inside = Measure(name="split in the fault", unit="of cases", runs=[float(np.mean(off >= 0))])
        inside.more = {"within 5 rows": float(np.mean(np.abs(off) <= 5))}
        report.add(figure, inside)
        _tell(report, figure, split)


def _split(case: Case) -> Case:
    whole = make_series(case.metrics, np.concatenate([case.normal, case.bad]))
    usual, bad = whole.split(change_point(whole))
    return case._replace(normal=usual.values, bad=bad.values)


def _varied(report: Report, count: int) -> None:
    """All kinds of faults of other systems. Faults of a system share its usual part, so its graph is made once."""
    told: dict[str, list[Case]] = {kind: [] for kind in KINDS}
    graphs: dict[bytes, Graph] = {}
    for number in range(count):
        for kind in KINDS:
            case = varied(OTHER + number, kind)
            usual, bad = make_series(case.metrics, case.normal), make_series(case.metrics, case.bad)
            if kind == KINDS[0]:
                graphs[usual.values.tobytes()] = granger(usual)
            told[kind].append(case._replace(normal=usual.values, bad=bad.values))
        print(f"other systems: {number + 1} of {count}", file=sys.stderr, flush=True)
    for kind, cases in told.items():
        _tell(report, f"other systems, {kind}, {len(cases)}", cases, lambda case: _weft(case, graphs))


def _weft(case: Case, graphs: Mapping[bytes, Graph] = NONE) -> list[str]:
    normal, bad = make_series(case.metrics, case.normal), make_series(case.metrics, case.bad)
    found = rank(normal, bad, graph=graphs.get(normal.values.tobytes()))
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


def _tell(report: Report, figure: str, cases: list[Case], weft: Ranker = _weft) -> dict[str, list[int]]:
    """Weft beside its peers on these cases: the place of the cause in each."""
    rankers = {"Weft": weft, **{name: _alone(score) for name, score in PEERS.items()}}
    found: dict[str, list[int]] = {}
    for name, ranker in rankers.items():
        seconds = []
        for case in cases:
            began = time.process_time()
            order = ranker(case)
            seconds.append(time.process_time() - began)
            found.setdefault(name, []).append(order.index(case.cause) + 1)
        within = {k: float(np.mean([place <= k for place in found[name]])) for k in range(1, 6)}
        more = {"AC@3": within[3], "AC@5": within[5], "Avg@5": float(np.mean(list(within.values())))}
        missed = [f"{case.name} ({place})" for case, place in zip(cases, found[name], strict=True) if place > 1]
        note = f"not first: {', '.join(missed[:8])}" if missed and name == "Weft" else ""
        more["CPU-s"] = max(seconds)
        report.add(figure, Measure(name=name, unit="AC@1", runs=[within[1]], more=more, note=note))
    return found


def _judged(report: Report, figure: str, cases: list[Case], bars: dict[int, float]) -> None:
    """Cases that have bars: AC@1, AC@3 and, as 5, Avg@5."""
    if not cases:
        report.bar(figure, "cases are there", None, least=1, why="DIR has neither sockshop.tar.gz nor unpacked cases")
        return
    _tell(report, figure, cases)
    ours = report.one(figure, "Weft")
    assert ours is not None
    for k, least in bars.items():
        what = "Avg@5" if k == 5 else f"AC@{k}"
        report.bar(figure, f"{what} ≥ {least:.2f}", ours.value if k == 1 else ours.more[what], least=least)
    most = ours.more["CPU-s"]
    report.bar(figure, f"no case takes more than {SECONDS:.0f} CPU-s", most, most=SECONDS, unit="CPU-s")
    best = report.best(figure, list(PEERS))
    assert best is not None
    report.bar(
        figure, "AC@1 at least the best peer's", ours.value, least=best.value, why=f"{best.name}: {best.value:.2f}"
    )

"""Weft and its peers on the same work, on the same disk, in turns: `python -m benchmarks.durable`.

Every measurement runs in a fresh process (a worker of `benchmarks.peers`) with a fresh folder, and the workers of a
figure take turns, so that what else the machine does falls on all of them alike. Figures are medians of the rounds.
`--quick` is a check that everything runs: one round, smaller counts, two peers. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from rich.console import Console

from benchmarks.report import Measure, Report

ROUNDS = 5
LIMIT = 300.0
"""Seconds a worker may take."""
QUIET = {"DO_NOT_TRACK": "1", "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}

PYTHON_PEERS = ("LangGraph functional", "LangGraph graph", "LangGraph graph, sync", "DBOS", "Prefect")
PEERS = (*PYTHON_PEERS, "Restate")
WAIT = ("LangGraph graph, sync", "DBOS", "Restate")
"""Peers that wait for the disk before they start the next step."""


class Trial(msgspec.Struct, frozen=True):
    """One system on one job."""

    figure: str
    name: str
    worker: str
    """module job variant"""
    count: int
    quick: int | None = None
    """Count of a quick run; None: not part of it."""
    gives: str = "rate"
    """What of the worker's result is the figure."""
    unit: str = "/s"
    scaled: str = ""
    """What was made smaller for this system, and why."""


SLOW = "fewer than the others do, since it is slow"

TRIALS = [
    *(
        Trial("limits", name, f"raw {job}", 1, 1, "rate", unit)
        for name, job, unit in [
            ("append 4 KB and fsync", "fsync", "/s"),
            ("append 4 KB and fdatasync", "fdatasync", "/s"),
            ("SQLite commits, WAL, synchronous=FULL", "commit-full", "/s"),
            ("SQLite commits, WAL, synchronous=NORMAL", "commit-normal", "/s"),
            ("SQLite rows, 100 a transaction, FULL", "rows-full", "rows/s"),
            ("SQLite rows, 100 a transaction, NORMAL", "rows-normal", "rows/s"),
            ("await of a coroutine", "await", "/s"),
            ("asyncio tasks, gathered by 100", "task", "/s"),
        ]
    ),
    Trial("sequential", "Weft pure", "weft_ sequential pure", 1000, 1000),
    Trial("sequential", "Weft", "weft_ sequential default", 1000, 1000),
    Trial("sequential", "Weft process", "weft_ sequential process", 1000, 1000),
    Trial("sequential", "LangGraph functional", "langgraph_ sequential functional", 1000, 300),
    Trial("sequential", "LangGraph graph", "langgraph_ sequential graph", 1000, 200),
    Trial("sequential", "LangGraph graph, sync", "langgraph_ sequential graph-sync", 1000),
    Trial("sequential", "DBOS", "dbos_ sequential", 1000, 100),
    Trial("sequential", "Restate", "restate_ sequential", 1000),
    Trial("sequential", "Prefect", "prefect_ sequential", 1000),
    Trial("fan-out of 1,000", "Weft", "weft_ fanout default", 1000, 1000),
    Trial("fan-out of 1,000", "Weft process", "weft_ fanout process", 1000),
    Trial("fan-out of 1,000", "LangGraph functional", "langgraph_ fanout functional", 1000, 300),
    Trial("fan-out of 1,000", "LangGraph graph", "langgraph_ fanout graph", 1000, 300),
    Trial("fan-out of 1,000", "DBOS", "dbos_ fanout", 1000, 100),
    Trial("fan-out of 1,000", "Restate", "restate_ fanout", 1000),
    Trial("fan-out of 1,000", "Prefect", "prefect_ fanout", 1000),
    Trial("fan-out of 10,000", "Weft", "weft_ fanout default", 10_000, 10_000),
    Trial("fan-out of 10,000", "LangGraph functional", "langgraph_ fanout functional", 10_000),
    Trial("fan-out of 10,000", "LangGraph graph", "langgraph_ fanout graph", 10_000),
    Trial("fan-out of 10,000", "DBOS", "dbos_ fanout", 10_000),
    Trial("fan-out of 10,000", "Restate", "restate_ fanout", 3000, scaled=SLOW),
    Trial("workflows of 5 steps", "Weft", "weft_ workflows default", 1000, 1000),
    Trial("workflows of 5 steps", "Weft pure", "weft_ workflows pure", 1000, 1000),
    Trial("workflows of 5 steps", "Weft process", "weft_ workflows process", 1000),
    Trial("workflows of 5 steps", "LangGraph functional", "langgraph_ workflows functional", 1000, 50),
    Trial("workflows of 5 steps", "LangGraph graph", "langgraph_ workflows graph", 1000, 50),
    Trial("workflows of 5 steps", "DBOS", "dbos_ workflows", 1000, 30),
    Trial("workflows of 5 steps", "Restate", "restate_ workflows", 1000),
    Trial("workflows of 5 steps", "Prefect", "prefect_ workflows", 10, scaled=SLOW),
    Trial("recovery", "Weft, killed in a run of 1,000", "weft_alone recovery", 1000, 1000, "ms", "ms"),
    Trial("recovery", "Weft, replay", "weft_alone replay", 100_000, 20_000, "rate", "effects/s"),
    Trial("sleepers", "Weft, memory of each", "weft_alone sleeping", 100_000, 10_000, "bytes", "bytes"),
    Trial("start-up and overhead", "import weft", "weft_alone startup import", 5, 3, "cpu_ms", "ms CPU"),
    Trial("start-up and overhead", "weft --help", "weft_alone startup help", 5, 3, "cpu_ms", "ms CPU"),
    Trial(
        "start-up and overhead",
        "a step over an await",
        "weft_alone overhead",
        10_000,
        5000,
        "cpu_us",
        "µs CPU",
    ),
]

ONCE = ("weft_alone sleeping",)
"""Takes minutes and hardly varies: one round."""


def work(trial: Trial, count: int) -> dict[str, Any]:
    """Run one worker; its result, or {"missing": why}."""
    module, job, *variant = trial.worker.split()
    place = Path.cwd() / ".weft"  # on this disk, /tmp may be memory; and git ignores it
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place, ignore_cleanup_errors=True) as folder:
        command = [
            sys.executable,
            "-m",
            f"benchmarks.peers.{module}",
            job,
            "--count",
            str(count),
            "--dir",
            folder,
        ]
        command += ["--variant", *variant] if variant else []
        out = Path(folder, "out.json")
        with out.open("wb") as stdout, Path(folder, "err.txt").open("wb") as stderr:
            child = subprocess.Popen(
                command, stdout=stdout, stderr=stderr, env={**os.environ, **QUIET}, start_new_session=True
            )
            try:
                child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                return {"missing": f"not done after {LIMIT:.0f} s"}
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # servers that a peer has left behind
                child.wait()
        lines = out.read_text().splitlines()
        result: dict[str, Any] = (
            json.loads(lines[-1]) if lines else {"missing": f"ended with status {child.returncode}"}
        )
        return result


def measured(trials: list[Trial], rounds: int, quick: bool) -> Iterator[tuple[Trial, int, list[dict[str, Any]]]]:
    """Each trial with its count and results, the trials of a figure having taken turns."""
    console = Console(stderr=True)
    for figure in dict.fromkeys(trial.figure for trial in trials):
        turn = [trial for trial in trials if trial.figure == figure]
        results: dict[Trial, list[dict[str, Any]]] = {trial: [] for trial in turn}
        for round in range(rounds):
            for trial in turn:
                count = trial.quick if quick and trial.quick else trial.count
                so_far = results[trial]
                if (so_far and "missing" in so_far[-1]) or (round and trial.worker in ONCE):
                    continue
                console.print(f"[dim]{figure}: {trial.name}, {count:,} (round {round + 1} of {rounds})[/]")
                so_far.append(work(trial, count))
        for trial in turn:
            yield trial, trial.quick if quick and trial.quick else trial.count, results[trial]


def measure(trial: Trial, count: int, results: list[dict[str, Any]]) -> Measure:
    good = [result for result in results if "missing" not in result]
    if len(good) < len(results):
        return Measure(name=trial.name, unit=trial.unit, note=results[-1]["missing"])
    more = {
        label: median(result[key] for result in good)
        for key, label in (
            ("seconds", "seconds"),
            ("cpu_us", "CPU µs each"),
            ("peak_mb", "peak MB"),
            ("server_mb", "server MB"),
            ("late_ms", "late ms (p99)"),
            ("worst_ms", "late ms (worst)"),
            ("started_per_s", "started/s"),
        )
        if key in good[0] and key != trial.gives
    }
    notes = [good[0].get("version", ""), good[0].get("durability", "")]
    notes += [f"{count:,}: {trial.scaled}"] if trial.scaled else []
    runs = [result[trial.gives] for result in good]
    return Measure(name=trial.name, unit=trial.unit, runs=runs, more=more, note="; ".join(filter(None, notes)))


def judge(report: Report, quick: bool) -> None:
    """The bars, for the figures that were measured."""

    def one(figure: str, name: str) -> Measure | None:
        return next((each for each in report.figures.get(figure, []) if each.name == name), None)

    def best(figure: str, names: tuple[str, ...]) -> Measure | None:
        found = [each for each in report.figures[figure] if each.name in names and each.runs]
        return max(found, key=lambda each: each.value or 0, default=None)

    def against(figure: str, name: str, times: int, peers: tuple[str, ...], who: str) -> None:
        ours, theirs = one(figure, name), best(figure, peers)
        ratio = ours.value / theirs.value if ours and ours.value and theirs and theirs.value else None
        why = f"{theirs.name}: {theirs.value:,.0f}/s" if theirs and theirs.value else "no peer was measured"
        report.bar(figure, f"{name}: at least {times} × {who}", ratio, least=times, unit="×", why=why)

    def strict(figure: str) -> None:
        """No bar: whoever waits for the disk at every step meets the disk's limit."""
        ours, theirs = one(figure, "Weft"), best(figure, WAIT)
        limit = one("limits", "append 4 KB and fdatasync")
        if ours and ours.value and theirs and theirs.value:
            why = f"{theirs.name}: {theirs.value:,.0f}/s"
            why += f"; the disk: {limit.value:,.0f} fdatasync/s" if limit and limit.value else ""
            report.bar(
                figure,
                "Weft, fsync first: × the best that does",
                ours.value / theirs.value,
                unit="×",
                why=why,
            )

    def bar(figure: str, name: str, what: str, key: str = "", **bounds: Any) -> None:
        ours = one(figure, name)
        reached = None if ours is None else ours.more.get(key) if key else ours.value
        report.bar(figure, f"{name}: {what}", reached, **bounds)

    for figure in report.figures:
        match figure:
            case "sequential":
                against(figure, "Weft pure", 15, PYTHON_PEERS, "the best Python peer")
                against(figure, "Weft process", 15, PYTHON_PEERS, "the best Python peer")
                strict(figure)
                bar(
                    figure,
                    "Weft pure",
                    "at least 20,000 steps/s under full durability",
                    least=20_000,
                    unit="/s",
                )
            case "fan-out of 1,000" | "workflows of 5 steps":
                against(figure, "Weft", 30, PEERS, "the best peer")
            case "fan-out of 10,000":
                if best(figure, PEERS):
                    against(figure, "Weft", 30, PEERS, "the best peer")
                bar(figure, "Weft", "within 1 s", "seconds", most=1.0, unit="s")
                bar(figure, "Weft", "within 150 MB", "peak MB", most=150, unit="MB")
            case "recovery":
                bar(figure, "Weft, killed in a run of 1,000", "goes on within 100 ms", most=100, unit="ms")
                bar(figure, "Weft, replay", "at least 100,000 effects/s", least=100_000, unit="effects/s")
            case "sleepers":
                if not quick:  # few sleepers would share what the runtime needs once
                    bar(figure, "Weft, memory of each", "at most 2 KB each", most=2048, unit="bytes")
                late = "late ms (p99)"
                bar(figure, "Weft, memory of each", "woken within 50 ms at 1,000/s", late, most=50, unit="ms")
            case "start-up and overhead":
                bar(figure, "import weft", "at most 150 ms CPU", most=150, unit="ms")
                bar(figure, "weft --help", "at most 300 ms CPU", most=300, unit="ms")
                bar(figure, "a step over an await", "at most 30 µs CPU", most=30, unit="µs")


def main() -> int:
    figures = list(dict.fromkeys(trial.figure for trial in TRIALS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, smaller counts, LangGraph and DBOS only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--only", metavar="NAME", help=f"figures whose name contains it: {', '.join(figures)}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each figure (default {ROUNDS})")
    given = parser.parse_args()
    trials = [
        trial for trial in TRIALS if (given.only or "") in trial.figure and not (given.quick and trial.quick is None)
    ]
    if not trials:
        parser.error(f"no figure is called {given.only!r}; there are: {', '.join(figures)}")
    report = Report("durable")
    for trial, count, results in measured(trials, given.rounds or (1 if given.quick else ROUNDS), given.quick):
        report.add(trial.figure, measure(trial, count, results))
    judge(report, given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

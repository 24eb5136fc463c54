"""How systems are measured: each trial in a fresh process with a fresh folder, and all of a figure in turns.

A trial names a worker (a module of `benchmarks.peers`) and what it is to do. The trials of a figure take turns, round
by round, so that what else the machine does falls on all of them alike. A server, if one is given, is the same for
all; each run of a worker gets a fresh database there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
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
    once: bool = False
    """It takes minutes and hardly varies, or repeats within itself: one round."""


Database = Callable[[], AbstractContextManager[str]]
"""Makes a fresh database, gives its URL, and drops it at the end."""


def work(trial: Trial, count: int, database: Database | None = None) -> dict[str, Any]:
    """Run one worker; its result, or {"missing": why}."""
    module, job, *variant = trial.worker.split()
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=place(), ignore_cleanup_errors=True) as folder,
        database() if database else nullcontext("") as url,
    ):
        command = [sys.executable, "-m", f"benchmarks.peers.{module}", job, "--count", str(count), "--dir", folder]
        command += ["--variant", *variant] if variant else []
        command += ["--url", url] if url else []
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


def place() -> Path:
    """Where all data lie: on this disk (/tmp may be memory), and git ignores it."""
    folder = Path.cwd() / ".weft"
    folder.mkdir(exist_ok=True)
    return folder


def measured(
    trials: Sequence[Trial], rounds: int, quick: bool, database: Database | None = None
) -> Iterator[tuple[Trial, int, list[dict[str, Any]]]]:
    """Each trial with its count and results, the trials of a figure having taken turns."""
    console = Console(stderr=True)
    for figure in dict.fromkeys(trial.figure for trial in trials):
        turn = [trial for trial in trials if trial.figure == figure]
        results: dict[Trial, list[dict[str, Any]]] = {trial: [] for trial in turn}
        for round in range(rounds):
            for trial in turn:
                count = trial.quick if quick and trial.quick else trial.count
                so_far = results[trial]
                if (so_far and "missing" in so_far[-1]) or (round and trial.once):
                    continue
                console.print(f"[dim]{figure}: {trial.name}, {count:,} (round {round + 1} of {rounds})[/]")
                so_far.append(work(trial, count, database))
        for trial in turn:
            yield trial, trial.quick if quick and trial.quick else trial.count, results[trial]


MORE = {
    "seconds": "seconds",
    "cpu_us": "CPU µs each",
    "server_us": "server's CPU µs each",
    "peak_mb": "peak MB",
    "server_mb": "server MB",
    "late_ms": "late ms (p99)",
    "worst_ms": "late ms (worst)",
    "started_per_s": "started/s",
    "median_ms": "median ms",
    "most_ms": "worst ms",
}
"""What a worker may tell besides the figure, and the column it goes to."""


def measure(trial: Trial, count: int, results: list[dict[str, Any]]) -> Measure:
    good = [result for result in results if "missing" not in result]
    if len(good) < len(results):
        return Measure(name=trial.name, unit=trial.unit, note=results[-1]["missing"])
    more = {
        label: median(result[key] for result in good)
        for key, label in MORE.items()
        if key in good[0] and key != trial.gives
    }
    notes = [good[0].get("version", ""), good[0].get("durability", ""), good[0].get("note", "")]
    notes += [f"{count:,}: {trial.scaled}"] if trial.scaled else []
    runs = [result[trial.gives] for result in good]
    return Measure(name=trial.name, unit=trial.unit, runs=runs, more=more, note="; ".join(filter(None, notes)))


def command_line(
    about: str | None,
    name: str,
    trials: Sequence[Trial],
    judge: Callable[[Report, bool], None],
    serving: Callable[[], AbstractContextManager[Database | None]] = nullcontext,
) -> int:
    """What both programs do with their arguments: measure, judge, tell. Returns the exit status."""
    figures = list(dict.fromkeys(trial.figure for trial in trials))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, smaller counts, LangGraph and DBOS only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--only", metavar="NAME", help=f"figures whose name contains it: {', '.join(figures)}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each figure (default {ROUNDS})")
    given = parser.parse_args()
    wanted = [
        trial for trial in trials if (given.only or "") in trial.figure and not (given.quick and trial.quick is None)
    ]
    if not wanted:
        parser.error(f"no figure is called {given.only!r}; there are: {', '.join(figures)}")
    report = Report(name)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and folders are cleared away
    with serving() as database:
        rounds = given.rounds or (1 if given.quick else ROUNDS)
        for trial, count, results in measured(wanted, rounds, given.quick, database):
            report.add(trial.figure, measure(trial, count, results))
    judge(report, given.quick)
    return report.finish(given.json)

"""Shared memory that keeps its promises: `python -m benchmarks.memory [--quick] [--schedules FILE] [--json FILE]`

Hostile schedules for each anomaly, on SQLite and PostgreSQL, at the level that excludes it and one below; turns of five
tools beside LangGraph's ToolNode; what L1 costs where nobody is in the way; and workers that are killed in commits.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.memory import anomalies, cost, kills, toolturns
from benchmarks.memory.schedules import ANOMALIES, Schedule, make, read, write
from benchmarks.report import Report

FIGURES = ("anomalies", "turns", "cost", "kills")
console = Console(stderr=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything: within 50 s")
    parser.add_argument("--schedules", type=Path, metavar="FILE", help="play these (default: made from --seed)")
    parser.add_argument("--seed", type=int, default=0, help="of the schedules that are made")
    parser.add_argument("--write-schedules", type=Path, metavar="FILE", help="write what would be played, and end")
    parser.add_argument("--only", choices=FIGURES, help="one figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    os.environ["WEFT_POLICY"] = "all"
    number = 40 if given.quick else 1000
    schedules: list[Schedule] = (
        read(given.schedules)
        if given.schedules
        else [one for anomaly in ANOMALIES for one in make(anomaly, number, given.seed)]
    )
    if given.write_schedules:
        write(given.write_schedules, schedules)
        return 0
    report = Report("memory")
    if given.only in (None, "anomalies"):
        anomalies.measure(report, schedules, console)
    if given.only in (None, "turns"):
        toolturns.measure(report, 40 if given.quick else 1000)
    if given.only in (None, "cost"):
        cost.measure(report, 10 if given.quick else 60)
    if given.only in (None, "kills"):
        kills.measure(report, 2 if given.quick else 100, console)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

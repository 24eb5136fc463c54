"""Resources of every call: `python -m benchmarks.resources [--quick] [--only NAME] [--traces FILE] [--json FILE]`

The published replay of three agents' memory over a limit that they exceed together, with the governor and without;
peaks of known allocations; what a group adds to the start of a command; and how long each sandbox takes to start."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import walls
from benchmarks.report import Report
from benchmarks.resources import cost, peaks, replay

FIGURES = ("replay", "peaks", "cost", "walls")
TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "agent_traces.tar.gz"
console = Console(stderr=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resources", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything: within 50 s")
    parser.add_argument("--only", choices=FIGURES, help="one figure")
    parser.add_argument("--traces", type=Path, default=TRACES, metavar="FILE", help="the archive of agents' traces")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    report = Report("resources")
    if given.only in (None, "peaks"):
        peaks.measure(report, 1 if given.quick else 5)
    if given.only in (None, "cost"):
        cost.measure(report, 40 if given.quick else 200)
    if given.only in (None, "replay"):
        replay.measure(report, given.traces, 3 if given.quick else 20, console)
    if given.only in (None, "walls"):
        walls.measure_walls(report, 8 if given.quick else 30)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

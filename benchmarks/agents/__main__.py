"""What agents gain by what Weft does around the model: `python -m benchmarks.agents [--quick] [--only NAME]`

The models are scripted and their latencies drawn, so the figures are of the loop and not of anybody's wits.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.agents import context, peers, programs, timing, turns
from benchmarks.report import Report

FIGURES: dict[str, Callable[[Report, bool], None]] = {
    "time": timing.tell,
    "context": context.tell,
    "turns": turns.tell,
    "programs": programs.tell,
    "peers": peers.tell,
}
"""Each adds its measurements and bars; told whether the run is a quick one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="does everything run? under a minute")
    parser.add_argument("--only", choices=FIGURES, action="append", help="this figure alone; may be given again")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    given = parser.parse_args()
    os.environ["WEFT_POLICY"] = "all"  # nothing here is about rights
    report = Report("agents")
    for name in given.only or FIGURES:
        FIGURES[name](report, given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

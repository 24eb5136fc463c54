"""What is told of runs, logs and metrics, and how rightly: `python -m benchmarks.trace NAME [DIR] [--quick]`

NAME is one of the figures below; DIR the folder with the data, `../shared/data` by default.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.report import Report

FIGURES = ("recurrence",)
"""Each a module beside this one, whose `figures(report, directory, quick)` adds measurements and bars."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("name", choices=FIGURES)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("../shared/data"), help="with the data")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: within 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    report = Report(f"trace {given.name}")
    importlib.import_module(f"benchmarks.trace.{given.name}").figures(report, given.directory, given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

"""What is learnt from traces, against peers: `python -m benchmarks.trace NAME [DIR] [--quick] [--json FILE]`

NAME is a module of this package that has `figures`; DIR the folder with the data (default: ../shared/data).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.report import Report

NAMES = ("generation",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="what is measured")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("../shared/data"), help="the data")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: within 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    report: Report = importlib.import_module(f"benchmarks.trace.{given.name}").figures(given.directory, given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

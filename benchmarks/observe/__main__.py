"""Seeing what happened: `python -m benchmarks.observe [PART ...] [--quick] [--json FILE]`

Each part is a module beside this one that has `measure(report, *, quick)`: it measures, adds what it found and says its
bars. A part whose tools are not here says so, and measures nothing; then its bars are missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import Report

PARTS = ("graphs", "server", "page", "export")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = [name for name in PARTS if find_spec(f"benchmarks.observe.{name}") is not None]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(there)} [default: all]")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; under 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    if unknown := [name for name in given.parts if name not in there]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(there)}")
    os.environ["WEFT_POLICY"] = "all"  # nothing here is about rights
    report = Report("observe")
    for name in given.parts or there:
        import_module(f"benchmarks.observe.{name}").measure(report, quick=given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

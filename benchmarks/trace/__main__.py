"""Explaining runs: `python -m benchmarks.trace NAME [DIR] [--quick] [--json FILE]`

Each name is a module beside this one that has `figures(report, directory, quick)`; DIR is the folder with the data.
Data or peers that are not there are said to be missing, and their bars are missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import Report

NAMES = ("templates", "unseen", "automata", "causes", "generation", "probes", "recurrence", "explain")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = [name for name in NAMES if find_spec(f"benchmarks.trace.{name}") is not None]
    parser.add_argument("name", choices=there)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: within 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    if not given.directory.is_dir():
        parser.error(f"there is no folder {given.directory}")
    os.environ["WEFT_POLICY"] = "all"  # nothing here is about rights
    report = Report(f"trace {given.name}")
    import_module(f"benchmarks.trace.{given.name}").figures(report, given.directory, quick=given.quick)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())

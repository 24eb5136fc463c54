"""Learning what is usual: `python -m benchmarks.trace [NAME ...] [DIR] [--quick] [--json FILE]`

Each name is a module beside this one that has `figures(report, directory, *, quick)`: it measures on the data in `DIR`,
Weft and its peers, adds what it found and says its bars. One whose data or peers are not here says so; its bars are
missed.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import Report

NAMES = ("templates", "automata", "causes", "generation", "probes", "recurrence")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = [name for name in NAMES if find_spec(f"benchmarks.trace.{name}") is not None]
    parser.add_argument("given", nargs="*", metavar="NAME|DIR", help=f"{', '.join(there)}; then the data's folder")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; each within 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    options = parser.parse_args()
    names = [one for one in options.given if one in there]
    folders = [Path(one) for one in options.given if one not in there] or [Path("../shared/data")]
    if len(folders) > 1 or not folders[0].is_dir():
        parser.error(f"{folders[-1]} is neither a folder nor a name; names: {', '.join(there)}")
    report = Report("trace")
    for name in names or there:
        import_module(f"benchmarks.trace.{name}").figures(report, folders[0], quick=options.quick)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())

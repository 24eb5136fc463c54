"""Seeing what happened: `python -m benchmarks.observe [PART ...] [--quick] [--json FILE]`

Each part is a module beside this one that has `measure(report, *, quick)`: it measures, adds what it found and says its
bars. A part whose tools are not here says so, and measures nothing; then its bars are missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from benchmarks.observe import measured
from benchmarks.report import Report

PARTS = ("graphs", "server", "page", "export")
TIMELESS = ("graphs", "export")
"""Parts that count, or take seconds of their own CPU: quick ones share the machine."""


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
    for part in quickly(given.parts or there) if given.quick else [measured(name) for name in given.parts or there]:
        report.figures |= part.figures
        report.bars += part.bars
    return report.finish(given.json)


def quickly(names: Sequence[str]) -> list[Report]:
    """All of them, in this order; the timeless ones first, two at a time."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        timeless = [name for name in names if name in TIMELESS]
        done = dict(zip(timeless, pool.map(measured, timeless, [True] * len(timeless)), strict=True))
    return [done[name] if name in done else measured(name, quick=True) for name in names]


if __name__ == "__main__":
    sys.exit(main())

"""The local engine, each figure beside its baseline in the same run: `python -m benchmarks.engine [PART ...] [--quick]`

Parts: core (decoding, states, crashes), threads, pruning (subtasks and splices), programs (tools and pins on the
engine), traffic (the same in virtual time), exact, streams. Figures are CPU seconds of one process, or counts, so that
a busy machine is fair; `--quick` takes less of each, and two parts at a time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console

from benchmarks.engine import measured
from benchmarks.report import Report

PARTS = ("core", "threads", "pruning", "programs", "traffic", "exact", "streams")
LONGEST_FIRST = ("core", "threads", "exact", "streams", "programs", "pruning", "traffic")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="less of each: about 50 s in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    asked = parser.parse_args()
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no part; the parts are {', '.join(PARTS)}")
    parts = tuple(asked.parts) or PARTS
    return (in_turn(parts) if not asked.quick else two_at_a_time(parts)).finish(asked.json)


def in_turn(parts: tuple[str, ...]) -> Report:
    report, console = Report("engine"), Console(stderr=True)
    for part in parts:
        console.print(f"{part} ...", style="dim")
        _join(report, measured(part, quick=False))
    return report


def two_at_a_time(parts: tuple[str, ...]) -> Report:
    """Quick figures, the longest first, told in the usual order."""
    report, spawned = Report("engine"), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as pool:
        done = {part: pool.submit(measured, part, True) for part in LONGEST_FIRST if part in parts}
        for part in parts:
            _join(report, done[part].result())
    return report


def _join(report: Report, part: Report) -> None:
    report.figures |= part.figures
    report.bars += part.bars


if __name__ == "__main__":
    sys.exit(main())

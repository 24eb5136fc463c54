"""The local engine, each figure beside its baseline in the same run: `python -m benchmarks.engine [PART ...] [--quick]`

Parts: core (decoding, states, crashes), threads, pruning (subtasks and splices), programs (tools and pins on the
engine), traffic (the same in virtual time), exact, streams. Figures are CPU seconds of one process, or counts, so that
a busy machine is fair; `--quick` takes less of each.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import Report

PARTS = ("core", "threads", "pruning", "programs", "traffic", "exact", "streams")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="less of each: about 50 s in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    asked = parser.parse_args()
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no part; the parts are {', '.join(PARTS)}")
    return measured(tuple(asked.parts) or PARTS, asked.quick).finish(asked.json)


def measured(parts: tuple[str, ...], quick: bool) -> Report:
    report, console = Report("engine"), Console(stderr=True)
    for part in parts:
        console.print(f"{part} ...", style="dim")
        importlib.import_module(f"benchmarks.engine.{part}").figures(report, quick)
    return report


if __name__ == "__main__":
    sys.exit(main())

"""Is the peak that a group reports what was allocated? Five sizes, each held for a moment by a process that has little
else: `dd` with one block of that size."""

from __future__ import annotations

import subprocess

from benchmarks.report import Measure, Report
from weft.core.resources import Resources
from weft.runtime.governor import Governor, Kind
from weft.runtime.governor.backend import offered
from weft.runtime.governor.place import places

SIZES = (32, 64, 128, 256, 512)
MB = 2**20


def measure(report: Report, runs: int) -> None:
    kinds = offered(places())
    for kind in kinds:
        errors = {size: [_error(kind, size) for _ in range(runs)] for size in SIZES}
        for size, found in errors.items():
            report.add("peaks", Measure(name=f"{kind}, {size} MB", unit="% off", runs=found))
        worst = max(error for found in errors.values() for error in found)
        best = kind == kinds[0]
        what = f"{kind}: largest error of {len(SIZES)} sizes"
        report.bar("peaks", what, worst, most=5.0 if best else None, unit="%", why="issue: within 5 %" if best else "")


def _error(kind: Kind, size: int) -> float:
    governor = Governor(kind=kind)
    group = governor.open(Resources(memory="4G"), "peak")
    block = f"dd if=/dev/zero bs={size}M count=1 2>/dev/null | (sleep 0.3; cat >/dev/null)"
    subprocess.run([*group.enter, "sh", "-c", block], check=True)
    group.close()
    governor.close()
    return abs(group.usage().memory_peak / (size * MB) - 1) * 100

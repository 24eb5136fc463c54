"""What limits add to a call: a plain command, and the same in a group that is made, entered, read and removed, in
turns."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from benchmarks.report import Measure, Report
from weft.core.resources import Resources
from weft.runtime.governor import Governor, Kind
from weft.runtime.governor.backend import offered
from weft.runtime.governor.place import places

LIMITS = Resources(memory="512M", cpu=1, pids=64, seconds=120)


def measure(report: Report, runs: int) -> None:
    kinds = offered(places())
    governors: dict[Kind, Governor] = {kind: Governor(kind=kind) for kind in kinds}
    took: dict[str, list[float]] = {name: [] for name in ("plain", "sh", *kinds)}
    for _ in range(runs):
        took["plain"].append(_timed(lambda: subprocess.run(["/bin/true"], check=True)))
        took["sh"].append(_timed(lambda: subprocess.run(["/bin/sh", "-c", 'exec "$@"', "sh", "/bin/true"], check=True)))
        for kind in kinds:
            took[kind].append(_timed(lambda kind=kind: _in_group(governors[kind])))  # type: ignore[misc]
    for governor in governors.values():
        governor.close()
    plain = sorted(took["plain"])
    notes = {"plain": "subprocess.run of /bin/true", "sh": "through a shell that does nothing else"}
    for name, times in took.items():
        p95 = sorted(times)[int(len(times) * 0.95)]
        report.add("cost", Measure(name=name, unit="ms", runs=times, note=notes.get(name, ""), more={"P95": p95}))
    for kind in kinds:
        times = sorted(took[kind])
        bar = kind == kinds[0]
        middle, late = len(times) // 2, int(len(times) * 0.95)
        report.bar(
            "cost", f"{kind}: added, median", times[middle] - plain[middle], most=3.0 if bar else None, unit="ms"
        )
        report.bar("cost", f"{kind}: added, P95", times[late] - plain[late], most=10.0 if bar else None, unit="ms")


def _in_group(governor: Governor) -> None:
    group = governor.open(LIMITS, "cost")
    try:
        subprocess.run([*group.enter, "/bin/true"], check=True)
    finally:
        group.close()


def _timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000

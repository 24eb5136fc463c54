"""The published replay (AgentCgroup, arXiv 2602.09345): one agent of high and two of low priority, whose memory
together exceeds the limit that they share. Their levels are those that were sampled, once a second, while agents
solved dask-11628 and github3.py-673, at a quarter of the memory and 60 times the speed.

In turns, in the same command: the important one alone; all three under the limit and nothing else, so that the kernel
kills one when they exceed it; all three under the governor. The promises are what `learn` makes of an earlier run of
each."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.report import Measure, Report
from weft.core.resources import Resources
from weft.runtime.governor import Governor
from weft.runtime.governor.backend import backend
from weft.runtime.governor.cgroup1 import V1
from weft.runtime.governor.learn import expected
from weft.runtime.governor.place import places
from weft.runtime.governor.watchdog import owner

MB = 2**20
LIMIT = 213 * MB
HIGH, LOW = "dask__dask-11628", "sigmavirus24__github3.py-673"
SCALE, SPEED = 4, 60


@dataclass
class Played:
    survived: int = 0
    seconds: list[float] = field(default_factory=list)
    """Of the important one; empty if it was killed."""
    stalls: list[float] = field(default_factory=list)
    low_seconds: list[float] = field(default_factory=list)


def levels(archive: Path, task: str) -> list[int]:
    """Bytes of memory, second by second, at the scale of this replay."""
    with tarfile.open(archive) as tar:
        name = next(name for name in tar.getnames() if f"/{task}/attempt_1/resources.json" in name)
        file = tar.extractfile(name)
        assert file is not None
        samples = json.loads(gzip.decompress(file.read()))["samples"]
    return [int(_megabytes(one["mem_usage"]) * MB / SCALE) for one in samples]


def _megabytes(text: str) -> float:
    """Of "320.9MB / 134.5GB"."""
    used = text.partition(" / ")[0]
    for unit, factor in (("GB", 1000.0), ("MB", 1.0), ("kB", 0.001), ("B", 0.000001)):
        if used.endswith(unit):
            return float(used.removesuffix(unit)) * factor
    raise ValueError(f"no size: {text!r}")


def start(enter: list[str], trace: list[int]) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("agent.py")
    process = subprocess.Popen(
        [*enter, sys.executable, "-I", "-S", str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"levels": trace, "every": 1 / SPEED}))
    process.stdin.close()
    process.stdin = None
    return process


def collect(processes: list[subprocess.Popen[str]]) -> Played:
    """The first of them is the important one."""
    played = Played()
    for number, process in enumerate(processes):
        out, _ = process.communicate()
        if process.returncode == 0:
            said = json.loads(out)
            played.survived += 1
            if number == 0:
                played.seconds, played.stalls = [said["seconds"]], said["stalls"]
            else:
                played.low_seconds.append(said["seconds"])
    return played


def governed(traces: list[list[int]], promised: list[int]) -> Played:
    governor = Governor(pool=LIMIT)
    groups = [
        governor.open(Resources(memory=memory), f"agent{number}", priority=-1 if number else 1)
        for number, memory in enumerate(promised)
    ]
    try:
        return collect([start(group.enter, trace) for group, trace in zip(groups, traces, strict=True)])
    finally:
        governor.close()


def uncontrolled(traces: list[list[int]]) -> Played:
    """One group with the limit, as a container has: nobody watches, and the kernel kills."""
    group = V1(f"{owner(os.getpid())}0-uncontrolled", Resources(memory=LIMIT), 0, places())
    try:
        return collect([start(group.enter, trace) for trace in traces])
    finally:
        group.close()


def alone(trace: list[int]) -> tuple[Played, int]:
    """And the peak of it."""
    governor = Governor()
    group = governor.open(Resources(), "alone", priority=1)
    try:
        played = collect([start(group.enter, trace)])
    finally:
        group.close()
        governor.close()
    return played, group.usage().memory_peak


def measure(report: Report, archive: Path, runs: int, console: Console) -> None:
    if not archive.is_file():
        report.add("replay", Measure(name="governor", unit="s", note=f"no traces at {archive}: give --traces"))
        report.bar("replay", "survivors", None, least=3, why="needs the agents' traces")
        return
    high, low = levels(archive, HIGH), levels(archive, LOW)
    traces = [high, low, low]
    peaks = [[alone(trace)[1] for _ in range(2)] for trace in (high, low)]
    promised = [expected(peaks[0]), expected(peaks[1]), expected(peaks[1])]
    by_itself, without, under = [], [], []
    for number in range(runs):
        console.print(f"replay {number + 1} of {runs}", highlight=False)
        by_itself.append(alone(high)[0])
        if backend().name == "cgroup1":
            without.append(uncontrolled(traces))
        under.append(governed(traces, promised))
    demand = sum(max(trace) for trace in traces) / MB
    _tell(report, by_itself, without, under, f"limit {LIMIT // MB} MB, demand {demand:.0f} MB and interpreters")


def _tell(report: Report, by_itself: list[Played], without: list[Played], under: list[Played], note: str) -> None:
    for name, all_played in (("alone", by_itself), ("no control", without), ("governor", under)):
        more = {"survivors": float(median(one.survived for one in all_played))} if all_played else {}
        low = [seconds for one in all_played for seconds in one.low_seconds]
        more |= {"low, s": median(low)} if low else {}
        more |= (
            {"growth P95, ms": _p95(all_played), "most, ms": max(_stalls(all_played))} if _stalls(all_played) else {}
        )
        seconds = [each for one in all_played for each in one.seconds]
        report.add("replay", Measure(name=name, unit="s (high)", runs=seconds, note=note, more=more))
    whole = sum(one.survived == 3 for one in under) / len(under) * 100
    report.bar("replay", f"governor: all three survive, of {len(under)} runs", whole, least=100, unit="%")
    if without:
        lost = sum(one.survived < 3 for one in without) / len(without) * 100
        report.bar("replay", "no control: runs that lose one", lost, least=75, unit="%", why="the limit bites")
    ratios = [b.seconds[0] / a.seconds[0] for a, b in zip(by_itself, under, strict=True) if a.seconds and b.seconds]
    slower = median(ratios) if ratios else None
    report.bar("replay", "governor: high against alone, median", slower, most=1.15, unit="×", why="issue: 1.15")
    if _stalls(without) and _stalls(under):
        change = (_p95(under) / _p95(without) - 1) * 100
        report.bar(
            "replay", "P95 of growths of the high one, against no control", change, unit="%", why="moonshot: −29 %"
        )


def _stalls(all_played: list[Played]) -> list[float]:
    return [stall for one in all_played for stall in one.stalls]


def _p95(all_played: list[Played]) -> float:
    stalls = sorted(_stalls(all_played))
    return stalls[int(len(stalls) * 0.95)]

"""The page's server: how soon a viewer hears of an effect, what viewers cost a run, and how a long run is served.

Three kinds of processes, as in life: one that executes a run (`benchmarks.observe.runner`), `weft web`, and the
viewers, who speak HTTP on loopback and share this machine's cores with the others. Latency is from when a step returned
to when a viewer had read the event that tells of it; both clocks are this machine's. The long run's journal is written
as a run writes it, but by no run.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.observe.runner import make_long
from benchmarks.report import Measure, Report

VIEWERS = 200
SETTLE = 0.3
"""Seconds before effects are counted, after all viewers have said hello."""
RUNNER = "benchmarks.observe.runner"


def measure(report: Report, *, quick: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _latency(report, folder, effects=40 if quick else 300)
        for beside in (False, True):
            _slow_down(report, folder, beside=beside, rounds=3 if quick else 9, seconds=0.6 if quick else 4.0)
        _long_run(report, folder, effects=20_000 if quick else 100_000)


# --- how soon -------------------------------------------------------------------------------------------------------


def _latency(report: Report, folder: Path, effects: int) -> None:
    store = folder / "latency.db"
    with served(store) as (host, _), executed(store, effects, 0.05) as (id, _, ends, _):
        heard = _heard(host, id)
        returned = ends()
    late = sorted(1000 * (heard[f"{id}:{at}"] - end) for at, end in enumerate(returned, 2) if f"{id}:{at}" in heard)
    report.add("live", Measure(name="weft web, one viewer", unit="ms", runs=late))
    worst = late[int(0.95 * len(late))] if len(late) == len(returned) == effects else None
    report.bar(
        "live", "95 % of effects are told within 300 ms", worst, most=300, unit="ms",
        why=f"{effects} effects, from a step's return to the viewer's read; none may be missing",
    )  # fmt: skip


def _heard(host: str, id: str) -> dict[str, float]:
    """When a viewer had read that an effect is over, by its id, until the run ends."""
    connection = http.client.HTTPConnection(host, timeout=120)
    connection.request("GET", f"/api/runs/{id}/live")
    response = connection.getresponse()
    found: dict[str, float] = {}
    event = ""
    while line := response.readline().decode():
        if line.startswith("event: "):
            event = line[7:].strip()
        elif line.startswith("data: ") and event == "spans":
            now = time.time()
            for one in json.loads(line[6:])["spans"]:
                if one["end"] is not None:
                    found.setdefault(one["id"], now)
    connection.close()
    return found


# --- what viewers cost ----------------------------------------------------------------------------------------------


def _slow_down(report: Report, folder: Path, *, beside: bool, rounds: int, seconds: float) -> None:
    """Effects per second of one run, with no viewer and with 200, turn about."""
    store = folder / f"viewers-{beside}.db"
    figure = "viewers, page in the worker's process" if beside else "viewers of weft web"
    periods: dict[int, list[tuple[float, float]]] = {0: [], VIEWERS: []}
    cores: dict[int, list[float]] = {0: [], VIEWERS: []}
    bytes_: list[float] = []
    with contextlib.ExitStack() as stack:
        host, page = ("", 0) if beside else stack.enter_context(served(store))
        id, own, ends, worker = stack.enter_context(executed(store, 10**9, 0.005, beside=beside))
        if beside:
            host, page = own, worker
        for number in range(2 * rounds):
            viewers = (0, VIEWERS)[number % 2]
            with watched(host, id, viewers) as heard:
                time.sleep(SETTLE)
                began, used = time.time(), _used(page)
                time.sleep(seconds)
                periods[viewers].append((began, time.time()))
                cores[viewers].append((_used(page) - used) / seconds)
            if viewers:
                bytes_.append(heard[0] / viewers / (seconds + SETTLE) / 1000)
        moments = ends()
    rates = {
        viewers: [sum(begin <= at < end for at in moments) / (end - begin) for begin, end in each]
        for viewers, each in periods.items()
    }
    for viewers, runs in rates.items():
        report.add(figure, Measure(name=f"{viewers} viewers", unit="effects/s", runs=runs))
    added = [more - less for less, more in zip(*cores.values(), strict=True)]
    report.add(figure, Measure(name="CPU of the page for them", unit="cores", runs=added))
    report.add(figure, Measure(name="what each viewer was told", unit="kB/s", runs=bytes_))
    lost = 100 * median(1 - with_them / without for without, with_them in zip(*rates.values(), strict=True))
    report.bar(
        figure, f"{VIEWERS} viewers slow a run by at most 5 %", lost, most=5, unit="%",
        why="steps of 5 ms; viewers on the same cores; median of neighbouring rounds",
    )  # fmt: skip


@contextlib.contextmanager
def watched(host: str, id: str, viewers: int) -> Iterator[list[int]]:
    """So many viewers of a run, in a process of their own. Gives how many bytes they had read, at the end."""
    heard: list[int] = []
    if not viewers:
        yield heard
        return
    with _process(RUNNER, "viewers", host, id, str(viewers)) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == "watching"
        yield heard
        heard.append(int(process.communicate()[0]))


# --- a long run -----------------------------------------------------------------------------------------------------


def _long_run(report: Report, folder: Path, effects: int) -> None:
    store = folder / "long.db"
    id = asyncio.run(make_long(store, effects))
    with served(store) as (host, pid):
        _get(host, "/api/about")
        before, began = _resident(pid), time.perf_counter()
        window = _get(host, f"/api/runs/{id}/rows?count=200")
        first = 1000 * (time.perf_counter() - began)
        while window["reading"]:
            time.sleep(0.02)
            window = _get(host, f"/api/runs/{id}/rows?count=200")
        whole = 1000 * (time.perf_counter() - began)
        grown = (_resident(pid) - before) / 2**20
        assert window["total"] == effects + 1, window["total"]
        windows = [_timed(host, f"/api/runs/{id}/rows?from={at * 7919 % effects}&count=200") for at in range(50)]
        far = [_timed(host, f"/api/runs/{id}/buckets?n=200") for _ in range(5)]
    figure, note = "long run", f"{effects:,} effects"
    for name, unit, runs in (
        ("first 200 rows, cold", "ms", [first]), ("all rows known, cold", "ms", [whole]),
        ("any 200 rows, warm", "ms", windows), ("200 buckets, warm", "ms", far),
        ("memory that it takes", "MB", [grown]),
    ):  # fmt: skip
        report.add(figure, Measure(name=name, unit=unit, runs=runs, note=note))
    report.bar(
        figure, "first rows within 500 ms", first, most=500, unit="ms", why="half of what a first paint may take"
    )
    report.bar(figure, "any rows within 50 ms", max(windows), most=50, unit="ms", why="the worst of 50, by HTTP")
    report.bar(figure, "at most 2 kB for an effect", grown * 2**10 / effects, most=2, unit="kB", why="resident memory")


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _used(pid: int) -> float:
    """Seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _timed(host: str, path: str) -> float:
    began = time.perf_counter()
    _get(host, path)
    return 1000 * (time.perf_counter() - began)


# --- processes ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _process(*words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "WEFT_WEB_TOKEN": "", **variables},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        if not process.stdin.closed:  # type: ignore[union-attr]
            process.communicate()


@contextlib.contextmanager
def served(store: Path) -> Iterator[tuple[str, int]]:
    """`weft web` on this store: host and port, and the number of the process."""
    with _process("weft", "web", "--port", "0", "--store", str(store)) as process:
        assert process.stderr is not None
        found = re.search(r"http://(\S+)", process.stderr.readline())
        assert found is not None
        yield found[1], process.pid


@contextlib.contextmanager
def executed(
    store: Path, count: int, seconds: float, *, beside: bool = False
) -> Iterator[tuple[str, str, Callable[[], list[float]], int]]:
    """A run of so many steps in a process of its own, once it has begun: its id, the place of its page if there is one
    beside, when its steps ended so far, and the number of the process."""
    times = store.with_suffix(".times")
    words = ("beats", str(store), str(count), str(seconds), *(("beside",) if beside else ()))
    with _process(RUNNER, *words, WEFT_BENCH_TIMES=str(times)) as process:
        assert process.stdout is not None
        id, _, host = process.stdout.readline().strip().partition(" ")
        yield id, host, lambda: [at for (at,) in struct.iter_unpack("d", times.read_bytes())], process.pid


def _get(host: str, path: str) -> Any:
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    assert response.status == 200, found
    return found

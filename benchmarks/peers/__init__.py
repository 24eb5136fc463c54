"""What a worker is: one system doing one job in a fresh process, which prints one line of JSON.

    python -m benchmarks.peers.dbos_ sequential --count 1000 --dir DIR [--variant NAME] [--url URL]

All systems do the same three jobs with the same trivial step (`value + 1`), after a small warm-up that is not timed:
`sequential` (one workflow of `count` steps, one after the other), `fanout` (one workflow that starts `count` steps at
once and gathers them) and `workflows` (`count` workflows of five steps, all started at once). Data lies in DIR, or in
the database at URL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Mapping
from importlib import metadata
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import msgspec
import psutil

WARM_UP = 20
"""Steps run before the clock starts, so that lazy imports and schema changes are not timed."""
STEPS = 5
"""Steps of each workflow of the job `workflows`."""

STRICT, PIPELINED, UNSYNCED = "fsync first", "fsync meanwhile", "no fsync"
"""Durability classes: a step's outcome is on the disk before the next step starts; or while the next one runs, and
before the workflow returns; or when the operating system writes it, which survives a crash of the process only."""


class Order(msgspec.Struct, frozen=True):
    """What a worker is asked for."""

    count: int
    dir: Path
    variant: str
    url: str = ""
    """Of an empty PostgreSQL database, where one is to be used."""


Result = dict[str, Any]
Job = Callable[[Order], Result]


class Clock:
    """``with Clock(count) as clock: ...`` then `clock.result(...)`: time, rate, CPU per item and peak memory."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Clock:
        self.cpu = process_time()
        self.start = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = perf_counter() - self.start
        self.cpu = process_time() - self.cpu

    def result(self, durability: str, **more: Any) -> Result:
        """`durability`: STRICT, PIPELINED or UNSYNCED."""
        return {
            "seconds": self.seconds,
            "rate": self.count / self.seconds,
            "cpu_us": self.cpu / self.count * 1e6,
            "peak_mb": peak_mb(),
            "durability": durability,
            **more,
        }


def peak_mb(pid: int | str = "self") -> float:
    """Largest resident memory a process has had, in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():  # getrusage would count the parent's memory from before exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6


def check(value: object, expected: object) -> None:
    """A system that returns something else did not do the job."""
    if value != expected:
        raise RuntimeError(f"the job returned {str(value)[:80]}, not {str(expected)[:80]}")


def common(measure: Callable[[str, Order], Awaitable[Result]]) -> dict[str, Job]:
    """The three jobs that all systems do, from a coroutine that does the one it is told."""

    def job(name: str) -> Job:
        async def run(order: Order) -> Result:
            return await measure(name, order)

        return lambda order: asyncio.run(run(order))

    return {name: job(name) for name in ("sequential", "fanout", "workflows")}


def main(jobs: Mapping[str, Job], package: str) -> None:
    """Do the job named on the command line and print its result, or why it could not be done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=list(jobs))
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--url", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    result: Result
    try:
        result = jobs[given.job](Order(given.count, given.dir, given.variant, given.url))
        result["version"] = metadata.version(package) if package else ""
    except ModuleNotFoundError as error:
        result = {"missing": f"{error.name} is not installed"}
    except Unavailable as error:
        result = {"missing": str(error)}
    except Exception as error:
        traceback.print_exc()
        result = {"missing": f"failed with {type(error).__name__}: {error}"[:200]}
    print(json.dumps(result), flush=True)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)  # some peers leave threads that would hold the process for seconds


class Unavailable(Exception):
    """This peer can't run on this machine; the message says why."""

"""kill -9 at random points of a process with one-shot rights: no effect twice, no use doubled, none lost.

The process makes 12 protected effects, each at most once: each appends its name to a file, which its rights let it do
7 times. The file is what really happened.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import weft
from weft.core.errors import Denied, UnknownOutcome

EFFECTS, USES = 12, 7


@weft.step(effect="at_most_once", needs="write:{path}")
def mark(path: str, name: str) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name}\n".encode())
    os.close(descriptor)
    time.sleep(0.004)
    return name


@weft.workflow(name="safety.marks")
async def marks(path: str) -> list[str]:
    said = []
    for number in range(EFFECTS):
        try:
            said.append(await mark(path, f"effect {number}"))
        except Denied:
            said.append("denied")
        except UnknownOutcome:
            said.append("unknown")
    return said


def scene(kills: int, seed: int) -> dict[str, Any]:
    """One process, killed `kills` times at most; what was wrong, and how often it was really killed."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="weft-safety-") as folder:
        log, store = Path(folder, "log.txt"), Path(folder, "journal.db")
        killed, deadline = 0, time.monotonic() + 60
        while time.monotonic() < deadline:
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.safety.kills", str(store), str(log)],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            if killed < kills:
                child.stdout.readline()  # its runtime is up
                time.sleep(draw.uniform(0, 0.15))
                child.send_signal(signal.SIGKILL)
            said = child.stdout.read().strip()  # not communicate(): it would pass over what readline() has taken in
            child.wait(timeout=60)
            if child.returncode == 0:
                return _judged(log, said.splitlines()[-1].split("|"), killed)
            killed += 1
    return {"killed": killed, "wrong": ["it never ended"]}


def _judged(log: Path, said: list[str], killed: int) -> dict[str, Any]:
    lines = Counter(log.read_text().splitlines()) if log.exists() else Counter()
    claimed = [one for one in said if one.startswith("effect")]
    unknown = said.count("unknown")
    wrong = [f"{name} was done {count} times" for name, count in lines.items() if count > 1]
    if sum(lines.values()) > USES:
        wrong.append(f"{sum(lines.values())} effects with {USES} uses")
    wrong += [f"{name} is said to be done and was not" for name in claimed if name not in lines]
    if len(claimed) + unknown != USES:
        wrong.append(f"{len(claimed)} done and {unknown} unknown are not the {USES} uses: one was lost or made twice")
    return {"killed": killed, "unknown": unknown, "wrong": wrong}


async def _run(store: str, log: str) -> None:
    policy = weft.Policy(base="program", allow=(f"write:{log} uses={USES}",))
    async with weft.Runtime(store, policy=policy) as runtime:
        print("up", flush=True)
        run = await runtime.start(marks.options(key="the one"), log)
        print("|".join(await run), flush=True)


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))

"""`python -m tests.chaos --kills 200 --processes 1000 --workers 3 [--seed N] [--scene killed …]`"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from tests.chaos import driver
from tests.servers.postgres import Postgres, Unavailable

SCENES = ("killed", "restarted", "cut", "filled", "frozen", "skewed")

parser = argparse.ArgumentParser(
    description="Break workers and their server, and check that nothing is lost or doubled."
)
parser.add_argument("--kills", type=int, default=200)
parser.add_argument("--processes", type=int, default=1000, help="of the scene `killed`; half of them in the others")
parser.add_argument("--workers", type=int, default=3)
parser.add_argument("--pace", type=float, default=0.4, help="seconds between two kills, on average")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--scene", choices=(*SCENES, "all"), nargs="+", default=["killed"])
given = parser.parse_args()
few = max(8, given.processes // 2)


def show(text: str) -> None:
    print(f"\r{text} ", end="", file=sys.stderr)


for name in SCENES if "all" in given.scene else given.scene:
    began = time.monotonic()
    with Postgres() as server:
        try:
            if name == "killed":
                scene = driver.killed(
                    server, processes=given.processes, kills=given.kills, workers=given.workers, seed=given.seed,
                    pace=given.pace, report=show,
                )  # fmt: skip
                figures = asyncio.run(scene)
                print(file=sys.stderr)
            elif name == "cut":
                figures = asyncio.run(driver.cut(server, processes=few, faults=28, seed=given.seed))
            elif name == "restarted":
                figures = asyncio.run(driver.restarted(server, processes=few, restarts=6))
            elif name == "filled":
                figures = asyncio.run(driver.filled(server, processes=few))
            elif name == "frozen":
                figures = asyncio.run(driver.frozen(server, processes=few))
            else:
                figures = asyncio.run(driver.skewed(server, processes=8))
        except Unavailable as error:
            print(f"{name}: not here, {error}")
            continue
    print(f"{name}: {figures}, in {time.monotonic() - began:.0f} s: same results, nothing lost, nothing done twice")

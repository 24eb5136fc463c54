"""`python -m tests.crash --points 200 [--seed N] [--store postgres]`"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

from tests.crash.driver import run
from tests.servers.postgres import Postgres

parser = argparse.ArgumentParser(
    description="Kill a process at random points and check that nothing is lost or doubled."
)
parser.add_argument("--points", type=int, default=200)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="a server is started for it")
given = parser.parse_args()
with Postgres() if given.store == "postgres" else nullcontext() as server:
    totals = run(given.points, given.seed, server, lambda t: print(f"\r{t['kills']} kills", end="", file=sys.stderr))
print(f"\n{totals['kills']} kills in {totals['scenes']} scenes: same results, nothing lost, nothing done twice")

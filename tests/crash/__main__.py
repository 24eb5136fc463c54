"""`python -m tests.crash --points 200 [--seed N]`"""

from __future__ import annotations

import argparse
import sys

from tests.crash.driver import run

parser = argparse.ArgumentParser(
    description="Kill a process at random points and check that nothing is lost or doubled."
)
parser.add_argument("--points", type=int, default=200)
parser.add_argument("--seed", type=int, default=1)
given = parser.parse_args()
totals = run(given.points, given.seed, lambda t: print(f"\r{t['kills']} kills", end="", file=sys.stderr))
print(f"\n{totals['kills']} kills in {totals['scenes']} scenes: same results, nothing lost, nothing done twice")

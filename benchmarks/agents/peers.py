"""What the loop of an agent costs, beside its peers: figures `CPU of a turn` and `1,000 agents at once`.

All of them have the same tool and ask the same provider, a server of Chat Completions on loopback in a process of its
own, whose model asks for one call in each of three turns and hands in at the fourth. Weft's agent is journaled: each
generation and call is on the disk. The systems take turns, each measurement in a fresh process; figures are medians.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median

from benchmarks.peers.acting import DONE, KEY, TURNS
from benchmarks.report import Report, number
from benchmarks.trials import Database, Trial, command_line, measure, measured
from tests.servers.providers import Call, InProcess, Turn

SYSTEMS = {
    "httpx2 alone": "acts_bare {}",
    "Weft": "acts_weft {}",
    "Pydantic AI": "acts_pydantic_ai {}",
    "OpenAI Agents SDK": "acts_agents {}",
    "LangGraph": "acts_langgraph {}",
    "LangGraph, kept in SQLite": "acts_langgraph {} sqlite",
}
TURN, CROWD = "CPU of a turn", "1,000 agents at once"
QUICK = ("httpx2 alone", "Weft")

TRIALS = [
    *(Trial(TURN, name, worker.format("turns"), 30, 10 if name in QUICK else None, "cpu_us", "µs")
      for name, worker in SYSTEMS.items()),
    *(Trial(CROWD, name, worker.format("crowd"), 1000, 50 if name in QUICK else None, "peak_mb", "MB", once=True)
      for name, worker in SYSTEMS.items()),
]  # fmt: skip


@contextmanager
def serving() -> Iterator[Database]:
    """One provider for all."""
    calls = [Turn(calls=[Call("look_up", {"word": f"word{n}"}, id=f"call_{n}")]) for n in range(TURNS - 1)]
    with InProcess(*calls, Turn(text=[DONE]), key=KEY) as server:
        yield lambda: nullcontext(server.base("openai"))


def judge(report: Report, quick: bool) -> None:
    turn, bare = report.one(TURN, "Weft"), report.one(TURN, "httpx2 alone")
    both = list(zip(turn.runs, bare.runs, strict=False)) if turn and bare else []
    more = median(mine - its for mine, its in both) if both else None
    what = "Weft, journaled: at most 2 ms of CPU more than the client's own"
    report.bar(TURN, what, more, most=2000.0, unit="µs", why=f"httpx2 alone: {number(bare.value if bare else None)} µs")
    crowd = report.one(CROWD, "Weft")
    for name in SYSTEMS:
        for figure, ours, unit in ((TURN, turn, "µs"), (CROWD, crowd, "MB")):
            theirs = report.one(figure, name)
            if name not in QUICK and ours and ours.value and theirs and theirs.value:
                ratio = theirs.value / ours.value
                report.bar(figure, f"{name}: × Weft", ratio, unit="×", why=f"{theirs.value:,.0f} {unit}")


def tell(report: Report, quick: bool) -> None:
    """For `python -m benchmarks.agents`."""
    wanted = [trial for trial in TRIALS if not quick or trial.quick is not None]
    with serving() as database:
        for trial, count, results in measured(wanted, 1 if quick else 3, quick, database):
            report.add(trial.figure, measure(trial, count, results))
    judge(report, quick)


if __name__ == "__main__":
    sys.exit(command_line(__doc__, "agents", TRIALS, judge, serving))

"""What it costs to ask a model through Weft, beside its peers: `python -m benchmarks.models`.

All of them ask the same provider: a server of Chat Completions on loopback, in a process of its own, that answers at
once. So the figures are of the clients: CPU of a question, time until the first piece of a stream, memory of 1,000
streams at once, CPU of the import. The systems take turns, each measurement in a fresh process; figures are medians.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median

from benchmarks.peers.asking import KEY, SLOW, TEXT
from benchmarks.report import Report
from benchmarks.trials import Database, Trial, command_line
from tests.servers.providers import InProcess, Turn

SYSTEMS = {
    "httpx2 alone": ("asks_bare", ""),
    "Weft": ("asks_weft", ""),
    "Weft, in a workflow": ("asks_weft", "workflow"),
    "OpenAI client": ("asks_openai", ""),
    "Pydantic AI": ("asks_pydantic_ai", ""),
    "OpenAI Agents SDK": ("asks_agents", ""),
    "LiteLLM": ("asks_litellm", ""),
}
QUICK = ("httpx2 alone", "Weft", "Weft, in a workflow")
CALL, FIRST, STREAMS, IMPORT = "CPU of a question", "first piece of a stream", "1,000 streams at once", "import"


def _trials(figure: str, job: str, count: int, quick: int, gives: str, unit: str) -> list[Trial]:
    return [
        Trial(figure, name, f"{module} {job} {variant}".strip(), count, quick if name in QUICK else None, gives, unit)
        for name, (module, variant) in SYSTEMS.items()
        if not (job == "import" and name == "Weft, in a workflow")
    ]


TRIALS = [
    *_trials(CALL, "call", 500, 200, "cpu_us", "µs"),
    *_trials(FIRST, "first", 200, 100, "first_ms", "ms"),
    *_trials(STREAMS, "streams", 1000, 1000, "peak_mb", "MB"),
    *_trials(IMPORT, "import", 1, 1, "import_ms", "ms"),
]


@contextmanager
def serving() -> Iterator[Database]:
    """One provider for all."""
    pieces = [f"{word} " for word in TEXT.split()]
    slow = Turn(text=[f"{word} " for word in SLOW.split()], pause=0.2)
    with InProcess(Turn(text=pieces), slow, key=KEY) as server:
        yield lambda: nullcontext(server.base("openai"))


def judge(report: Report, quick: bool) -> None:
    for name, how in (("Weft", ""), ("Weft, in a workflow", ", journaled")):
        if CALL in report.figures:
            _less(report, CALL, name, f"a question{how}: at most 1 ms of CPU more than the client's own", 1000.0, "µs")
        if FIRST in report.figures:
            _less(report, FIRST, name, f"first piece{how}: at most 2 ms after the client's own", 2.0, "ms")
        held = report.one(STREAMS, name)
        if held is not None:
            report.bar(STREAMS, f"{name}: at most 300 MB", held.value, most=300.0, unit="MB", why="one process")


def _less(report: Report, figure: str, name: str, what: str, most: float, unit: str) -> None:
    """The difference to the client alone, round by round."""
    ours, bare = report.one(figure, name), report.one(figure, "httpx2 alone")
    both = list(zip(ours.runs, bare.runs, strict=False)) if ours and bare else []
    more = median(mine - its for mine, its in both) if both else None
    why = f"httpx2 alone: {bare.value:,.3g} {unit}" if bare and bare.value else "not measured"
    report.bar(figure, what, more, most=most, unit=unit, why=why)


if __name__ == "__main__":
    sys.exit(command_line(__doc__, "models", TRIALS, judge, serving))

"""Weft and its peers on the same work, on the same disk, in turns: `python -m benchmarks.durable`.

Every measurement runs in a fresh process (a worker of `benchmarks.peers`) with a fresh folder, and the workers of a
figure take turns, so that what else the machine does falls on all of them alike. Figures are medians of the rounds.
`--quick` is a check that everything runs: one round, smaller counts, two peers. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.report import Report
from benchmarks.trials import Trial, command_line

PYTHON_PEERS = ("LangGraph functional", "LangGraph graph", "LangGraph graph, sync", "DBOS", "Prefect")
PEERS = (*PYTHON_PEERS, "Restate")
WAIT = ("LangGraph graph, sync", "DBOS", "Restate")
"""Peers that wait for the disk before they start the next step."""


SLOW = "fewer than the others do, since it is slow"

TRIALS = [
    *(
        Trial("limits", name, f"raw {job}", 1, 1, "rate", unit)
        for name, job, unit in [
            ("append 4 KB and fsync", "fsync", "/s"),
            ("append 4 KB and fdatasync", "fdatasync", "/s"),
            ("SQLite commits, WAL, synchronous=FULL", "commit-full", "/s"),
            ("SQLite commits, WAL, synchronous=NORMAL", "commit-normal", "/s"),
            ("SQLite rows, 100 a transaction, FULL", "rows-full", "rows/s"),
            ("SQLite rows, 100 a transaction, NORMAL", "rows-normal", "rows/s"),
            ("await of a coroutine", "await", "/s"),
            ("asyncio tasks, gathered by 100", "task", "/s"),
        ]
    ),
    Trial("sequential", "Weft pure", "weft_ sequential pure", 1000, 1000),
    Trial("sequential", "Weft", "weft_ sequential default", 1000, 1000),
    Trial("sequential", "Weft process", "weft_ sequential process", 1000, 1000),
    Trial("sequential", "LangGraph functional", "langgraph_ sequential functional", 1000, 300),
    Trial("sequential", "LangGraph graph", "langgraph_ sequential graph", 1000, 200),
    Trial("sequential", "LangGraph graph, sync", "langgraph_ sequential graph-sync", 1000),
    Trial("sequential", "DBOS", "dbos_ sequential", 1000, 100),
    Trial("sequential", "Restate", "restate_ sequential", 1000),
    Trial("sequential", "Prefect", "prefect_ sequential", 1000),
    Trial("fan-out of 1,000", "Weft", "weft_ fanout default", 1000, 1000),
    Trial("fan-out of 1,000", "Weft process", "weft_ fanout process", 1000),
    Trial("fan-out of 1,000", "LangGraph functional", "langgraph_ fanout functional", 1000, 300),
    Trial("fan-out of 1,000", "LangGraph graph", "langgraph_ fanout graph", 1000, 300),
    Trial("fan-out of 1,000", "DBOS", "dbos_ fanout", 1000, 100),
    Trial("fan-out of 1,000", "Restate", "restate_ fanout", 1000),
    Trial("fan-out of 1,000", "Prefect", "prefect_ fanout", 1000),
    Trial("fan-out of 10,000", "Weft", "weft_ fanout default", 10_000, 10_000),
    Trial("fan-out of 10,000", "LangGraph functional", "langgraph_ fanout functional", 10_000),
    Trial("fan-out of 10,000", "LangGraph graph", "langgraph_ fanout graph", 10_000),
    Trial("fan-out of 10,000", "DBOS", "dbos_ fanout", 10_000),
    Trial("fan-out of 10,000", "Restate", "restate_ fanout", 3000, scaled=SLOW),
    Trial("workflows of 5 steps", "Weft", "weft_ workflows default", 1000, 1000),
    Trial("workflows of 5 steps", "Weft pure", "weft_ workflows pure", 1000, 1000),
    Trial("workflows of 5 steps", "Weft process", "weft_ workflows process", 1000),
    Trial("workflows of 5 steps", "LangGraph functional", "langgraph_ workflows functional", 1000, 50),
    Trial("workflows of 5 steps", "LangGraph graph", "langgraph_ workflows graph", 1000, 50),
    Trial("workflows of 5 steps", "DBOS", "dbos_ workflows", 1000, 30),
    Trial("workflows of 5 steps", "Restate", "restate_ workflows", 1000),
    Trial("workflows of 5 steps", "Prefect", "prefect_ workflows", 10, scaled=SLOW),
    Trial("recovery", "Weft, killed in a run of 1,000", "weft_alone recovery", 1000, 1000, "ms", "ms"),
    Trial("recovery", "Weft, replay", "weft_alone replay", 100_000, 20_000, "rate", "effects/s"),
    Trial("sleepers", "Weft, memory of each", "weft_alone sleeping", 100_000, 10_000, "bytes", "bytes", once=True),
    Trial("start-up and overhead", "import weft", "weft_alone startup import", 5, 3, "cpu_ms", "ms CPU"),
    Trial("start-up and overhead", "weft --help", "weft_alone startup help", 5, 3, "cpu_ms", "ms CPU"),
    Trial(
        "start-up and overhead",
        "a step over an await",
        "weft_alone overhead",
        10_000,
        5000,
        "cpu_us",
        "µs CPU",
    ),
]


def judge(report: Report, quick: bool) -> None:
    """The bars, for the figures that were measured."""

    def strict(figure: str) -> None:
        """No bar: whoever waits for the disk at every step meets the disk's limit."""
        ours, theirs = report.one(figure, "Weft"), report.best(figure, WAIT)
        limit = report.one("limits", "append 4 KB and fdatasync")
        if ours and ours.value and theirs and theirs.value:
            why = f"{theirs.name}: {theirs.value:,.0f}/s"
            why += f"; the disk: {limit.value:,.0f} fdatasync/s" if limit and limit.value else ""
            report.bar(
                figure,
                "Weft, fsync first: × the best that does",
                ours.value / theirs.value,
                unit="×",
                why=why,
            )

    def bar(figure: str, name: str, what: str, key: str = "", **bounds: Any) -> None:
        ours = report.one(figure, name)
        reached = None if ours is None else ours.more.get(key) if key else ours.value
        report.bar(figure, f"{name}: {what}", reached, **bounds)

    for figure in report.figures:
        match figure:
            case "sequential":
                report.against(figure, "Weft pure", 15, PYTHON_PEERS, "the best Python peer")
                report.against(figure, "Weft process", 15, PYTHON_PEERS, "the best Python peer")
                strict(figure)
                bar(
                    figure,
                    "Weft pure",
                    "at least 20,000 steps/s under full durability",
                    least=20_000,
                    unit="/s",
                )
            case "fan-out of 1,000" | "workflows of 5 steps":
                report.against(figure, "Weft", 30, PEERS, "the best peer")
            case "fan-out of 10,000":
                if report.best(figure, PEERS):
                    report.against(figure, "Weft", 30, PEERS, "the best peer")
                bar(figure, "Weft", "within 1 s", "seconds", most=1.0, unit="s")
                bar(figure, "Weft", "within 150 MB", "peak MB", most=150, unit="MB")
            case "recovery":
                bar(figure, "Weft, killed in a run of 1,000", "goes on within 100 ms", most=100, unit="ms")
                bar(figure, "Weft, replay", "at least 100,000 effects/s", least=100_000, unit="effects/s")
            case "sleepers":
                if not quick:  # few sleepers would share what the runtime needs once
                    bar(figure, "Weft, memory of each", "at most 2 KB each", most=2048, unit="bytes")
                late = "late ms (p99)"
                bar(figure, "Weft, memory of each", "woken within 50 ms at 1,000/s", late, most=50, unit="ms")
            case "start-up and overhead":
                bar(figure, "import weft", "at most 150 ms CPU", most=150, unit="ms")
                bar(figure, "weft --help", "at most 300 ms CPU", most=300, unit="ms")
                bar(figure, "a step over an await", "at most 30 µs CPU", most=30, unit="µs")


if __name__ == "__main__":
    sys.exit(command_line(__doc__, "durable", TRIALS, judge))

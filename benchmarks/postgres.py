"""Weft and its peers on one PostgreSQL server, in turns: `python -m benchmarks.postgres`.

The server is started for it, with the settings that initdb makes (fsync and synchronous_commit on) and its data on
this disk. Every measurement runs in a fresh process with a fresh database. Figures are medians of the rounds.
`--quick` is a check that everything runs: one round, smaller counts. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.report import Report
from benchmarks.server import Postgres
from benchmarks.trials import Database, Trial, command_line, place

PEERS = ("LangGraph functional", "LangGraph graph", "LangGraph graph, sync", "DBOS")
WAIT = ("LangGraph graph, sync", "DBOS")
"""Peers that wait for the disk before they start the next step."""
COMMITS = "commits of one row"
RAW = "raw inserts, 1,000 a commit"
APART = "3 workers, a store each"
"""What the cores give when nobody has to agree with anybody."""
TAKEOVER = 2 * 1000.0 + 200
"""Milliseconds: two heartbeats of the workers that are killed, and what the take-over itself may take."""

TRIALS = [
    *(
        Trial("limits", name, f"raw_postgres {job}", 1, quick, unit=unit)
        for name, job, unit, quick in [
            ("round trips, `SELECT 1`", "round-trip", "/s", 1),
            (COMMITS, "commit", "/s", 1),
            ("rows, 100 a commit", "rows-100", "rows/s", None),
            ("rows, 1,000 a commit", "rows-1000", "rows/s", 1),
            ("rows, COPY of 10,000 a commit", "copy", "rows/s", None),
        ]
    ),
    Trial("sequential", "Weft", "weft_ sequential default", 1000, 1000),
    Trial("sequential", "Weft pure", "weft_ sequential pure", 1000, 1000),
    Trial("sequential", "LangGraph functional", "langgraph_ sequential functional", 1000, 200),
    Trial("sequential", "LangGraph graph", "langgraph_ sequential graph", 1000),
    Trial("sequential", "LangGraph graph, sync", "langgraph_ sequential graph-sync", 1000, 200),
    Trial("sequential", "DBOS", "dbos_ sequential", 1000, 100),
    Trial("fan-out of 1,000", "Weft", "weft_ fanout default", 1000, 1000),
    Trial("fan-out of 1,000", "LangGraph functional", "langgraph_ fanout functional", 1000),
    Trial("fan-out of 1,000", "LangGraph graph", "langgraph_ fanout graph", 1000),
    Trial("fan-out of 1,000", "LangGraph graph, sync", "langgraph_ fanout graph-sync", 1000, 300),
    Trial("fan-out of 1,000", "DBOS", "dbos_ fanout", 1000, 100),
    Trial("workflows of 5 steps", "Weft", "weft_ workflows default", 1000, 1000),
    Trial("workflows of 5 steps", "LangGraph functional", "langgraph_ workflows functional", 1000, 50),
    Trial("workflows of 5 steps", "LangGraph graph", "langgraph_ workflows graph", 1000),
    Trial("workflows of 5 steps", "LangGraph graph, sync", "langgraph_ workflows graph-sync", 1000),
    Trial("workflows of 5 steps", "DBOS", "dbos_ workflows", 1000, 30),
    Trial("journal writes", RAW, "raw_postgres journal rows", 100_000, 50_000),
    Trial("journal writes", "raw COPY, 1,000 a commit", "raw_postgres journal copy", 100_000),
    Trial("journal writes", "Weft, a record a row", "weft_store journal 1", 100_000, 50_000),
    Trial("journal writes", "Weft, 5 records a row", "weft_store journal 5", 100_000),
    Trial("journal writes", "Weft, 1,000 records a row", "weft_store journal 1000", 100_000, 50_000),
    Trial("coordination", "1 worker", "weft_workers coordination shared-1", 1000),
    Trial("coordination", "2 workers", "weft_workers coordination shared-2", 1000),
    Trial("coordination", "3 workers", "weft_workers coordination shared-3", 1000, 300),
    Trial("coordination", APART, "weft_workers coordination apart-3", 1000, 300),
    Trial("take-over", "Weft", "weft_workers takeover", 40, 2, gives="ms", unit="ms (p95)", once=True),
]


def judge(report: Report, quick: bool) -> None:
    """The bars, for the figures that were measured. One short round says nothing about those that are close."""

    def shares(figure: str, name: str, of: str) -> list[float]:
        """Of each round: what `name` reached of what `of` did just before or after."""
        ours, theirs = report.one(figure, name), report.one(figure, of)
        return [a / b for a, b in zip(ours.runs, theirs.runs, strict=False)] if ours and theirs else []

    for figure in report.figures:
        match figure:
            case "sequential":
                report.against(figure, "Weft", None if quick else 3, WAIT, "the best that waits for the disk too")
                report.against(figure, "Weft pure", 3, PEERS, "the best peer")
                report.against(figure, "Weft", None, PEERS, "the best peer, which need not wait")
                ours, limit = report.one(figure, "Weft"), report.one("limits", COMMITS)
                if ours and ours.value and limit and limit.value:
                    what = "Weft: share of what one connection can commit"
                    report.bar(figure, what, ours.value / limit.value, why=f"{limit.value:,.0f} commits/s of one row")
            case "fan-out of 1,000" | "workflows of 5 steps":
                report.against(figure, "Weft", 20, PEERS, "the best peer")
            case "journal writes":
                share = shares(figure, "Weft, a record a row", RAW)
                report.bar(figure, "Weft: at least half of raw inserts, row for row", middle(share), least=0.5, why=RAW)
            case "coordination":
                share = shares(figure, "3 workers", APART)
                least = None if quick else 0.9
                report.bar(figure, "3 workers: lose at most a tenth", middle(share), least=least, why=APART)
                if share := shares(figure, "3 workers", "2 workers"):
                    report.bar(figure, "3 workers: share of 2 workers on the 2 cores", middle(share), why="2 workers")
            case "take-over":
                ours = report.one(figure, "Weft")
                what = "p95 at most 2 heartbeats + 200 ms"
                report.bar(figure, what, ours.value if ours else None, most=TAKEOVER, unit="ms")


def middle(shares: list[float]) -> float | None:
    return median(shares) if shares else None


@contextmanager
def serving() -> Iterator[Database]:
    try:
        server = Postgres(place())
    except FileNotFoundError as error:
        sys.exit(str(error))
    with server:
        yield server.database


if __name__ == "__main__":
    sys.exit(command_line(__doc__, "postgres", TRIALS, judge, serving))

"""The Sepsis event log as cases, and its distances as they are published (package `log-distance-measures`)."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from weft.trace.generation import Case, Event

DERIVED = {"Case ID", "Activity", "Resource", "time:timestamp", "Variant", "Variant index", "timesincemidnight",
    "month", "weekday", "hour", "timesincelastevent", "timesincecasestart", "event_nr", "open_cases",
    "relative_timestamp_from_start", "relative_timestamp_from_previous_activity"}  # fmt: skip


def parts(directory: Path) -> tuple[list[Case], list[Case]]:
    """Cases to learn from, and to be judged by, as published: TRAIN and VAL, and TEST; where that is not there, TRAIN,
    and VAL."""
    texts = _texts(directory)
    last = "TEST" if any("TEST" in name for name in texts) else "VAL"
    learnt = [case for name in sorted(texts) if last not in name for case in _cases(texts[name])]
    return learnt, [case for name in sorted(texts) if last in name for case in _cases(texts[name])]


def _texts(directory: Path) -> dict[str, str]:
    found = {path.name: path.read_text() for path in [*directory.glob("sepsis_*.csv"), *directory.glob("sepsis/*.csv")]}
    packed = directory / "sepsis.tar.gz"
    if not found and packed.exists():
        with tarfile.open(packed) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".csv") and (file := tar.extractfile(member)) is not None:
                    found[Path(member.name).name] = file.read().decode()
    if not found:
        raise SystemExit(f"there is neither sepsis.tar.gz nor sepsis/*.csv in {directory}")
    return found


def _cases(text: str) -> list[Case]:
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text), delimiter=";"):
        rows.setdefault(row["Case ID"], []).append(row)
    return [_case(id, events) for id, events in rows.items()]


def _case(id: str, rows: list[dict[str, str]]) -> Case:
    at = [datetime.fromisoformat(row["time:timestamp"]).replace(tzinfo=UTC).timestamp() for row in rows]
    order = sorted(range(len(rows)), key=lambda one: at[one])
    events = [
        Event(rows[here]["Activity"], at[here] - at[before], rows[here]["Resource"])
        for before, here in zip([order[0], *order], order, strict=False)
    ]
    told: dict[str, str | float] = {key: _value(value) for key, value in rows[0].items() if key not in DERIVED}
    return Case(id, events, told, at[order[0]])


def _value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def distances(real: Sequence[Case], made: Sequence[Case]) -> dict[str, float]:
    """2-gram distance; relative events and cycle times in hours (Wasserstein)."""
    from log_distance_measures.config import DEFAULT_XES_IDS, AbsoluteTimestampType
    from log_distance_measures.cycle_time_distribution import cycle_time_distribution_distance
    from log_distance_measures.n_gram_distribution import n_gram_distribution_distance
    from log_distance_measures.relative_event_distribution import relative_event_distribution_distance

    ids = DEFAULT_XES_IDS
    one, other = _frame(real), _frame(made)
    return {
        "2-gram": float(n_gram_distribution_distance(one, ids, other, ids, n=2)),
        "RED": float(relative_event_distribution_distance(one, ids, other, ids, AbsoluteTimestampType.END)),
        "CTD": float(cycle_time_distribution_distance(one, ids, other, ids, timedelta(hours=1))),
    }


def _frame(cases: Sequence[Case]) -> Any:
    import pandas

    rows = []
    for number, case in enumerate(cases):
        at = 0.0
        for place, event in enumerate(case.events):
            at += event.after
            # Events of one second keep their order: the package sorts by time, and not stably.
            moment = pandas.Timestamp(2020, 1, 1) + pandas.Timedelta(round(at * 1e6) + place, unit="us")
            rows.append((str(number), event.activity, moment, moment, event.resource))
    names = ("case:concept:name", "concept:name", "time:start", "time:timestamp", "org:resource")
    return pandas.DataFrame(rows, columns=list(names))

"""Samples on a grid: series whose moments differ, or are not equally far apart, become rows of one table.

A row is as long as values are usually apart: the median of the metrics' median intervals. Of a row with several values
of a metric the mean is taken; one without any is a gap. A metric with values in less than half of the rows is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.causes.series import Series, make_series, numpy

if TYPE_CHECKING:
    from weft.trace.causes.series import Array

Samples = Mapping[str, Sequence[tuple[float, float]]]
"""Of each metric: seconds and values, in any order."""
MOST = 1_000_000
"""Rows of a grid."""
SPARSE = 0.05
"""The part of a grid's rows that must have any value; where fewer have, some times are wrong."""


def moment(text: str) -> float:
    """Seconds: a number as it is, a date as since 1970; without a zone it is taken as UTC. Raises ValueError."""
    try:
        found = float(text)
    except ValueError:
        try:
            date = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is neither a number nor a date like 2026-01-31T12:00:00") from None
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if found - found != 0:
        raise ValueError(f"{text!r} is no time")
    return found


def gridded(samples: Samples) -> Series:
    """One table of all metrics. Raises BadInput without values, or where a few times are far from all others."""
    np = numpy()
    known = {name: np.array(sorted(values), dtype=float).reshape(-1, 2) for name, values in samples.items()}
    known = {name: its[~np.isnan(its[:, 1])] for name, its in known.items()}
    known = {name: its for name, its in known.items() if len(its)}
    if not known:
        raise BadInput("there are no values in it")
    start = min(float(its[0, 0]) for its in known.values())
    span = max(float(its[-1, 0]) for its in known.values()) - start
    step = _step([its[:, 0] for its in known.values()])
    count = round(span / step) + 1 if step else 1
    moments = np.concatenate([its[:, 0] for its in known.values()])
    if count > MOST or len(np.unique(np.round((moments - start) / (step or 1)))) < SPARSE * count:
        raise BadInput(
            f"its times go from {start:.10g} to {start + span:.10g}, though values are {step:g} s apart: {count:,} "
            "rows, most of them empty; are some times wrong, or in another unit?"
        )
    table = np.full((count, len(known)), np.nan)
    for column, its in enumerate(known.values()):
        rows = np.round((its[:, 0] - start) / (step or 1)).astype(int)
        number = np.bincount(rows, minlength=count)
        summed = np.bincount(rows, weights=its[:, 1], minlength=count)
        table[:, column] = np.where(number > 0, summed / np.maximum(number, 1), np.nan)
    return _full(list(known), table, start + np.arange(count) * step)


def _full(names: list[str], table: Array, times: Array) -> Series:
    """Without the metrics that are gaps for the most part, unless all are."""
    np = numpy()
    kept = [at for at in range(len(names)) if np.isnan(table[:, at]).mean() <= 0.5] or list(range(len(names)))
    left = tuple(name for at, name in enumerate(names) if at not in set(kept))
    return replace(make_series([names[at] for at in kept], table[:, kept], times), left_out=left)


def _step(times: list[Array]) -> float:
    """Seconds from one value to the next, typically; 0 where no metric has two."""
    np = numpy()
    gaps = [gaps for its in times if len(gaps := np.diff(np.unique(its)))]
    middle = [np.quantile(one, 0.5, method="lower") for one in gaps]
    return float(np.quantile(middle, 0.5, method="lower")) if gaps else 0.0

"""Metrics of files: `read_metrics` takes whatever form they are in, `read_csv` both kinds of tables.

    time,carts_cpu,carts_mem              time,entity,metric,value           {"status": "success", "data": …}
    2026-01-31T12:00:00,0.2,81            1769860800,carts,cpu,0.2           {"resourceMetrics": […]}

Wide: a row a moment. Long: a row a value; `entity` may be missing. The last two are Prometheus' answer to a range query
and OpenTelemetry's metrics, see `telemetry`. Times are numbers or dates; they may be missing from a wide file.
"""

from __future__ import annotations

import csv
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.causes.samples import gridded, moment
from weft.trace.causes.series import Series, make_series, numpy
from weft.trace.causes.telemetry import read_telemetry

if TYPE_CHECKING:
    from weft.trace.causes.series import Array

TIMES = frozenset({"time", "timestamp", "ts"})
ENTITIES = frozenset({"entity", "service", "component", "instance", "host", "pod"})
METRICS = frozenset({"metric", "metric_name", "name"})
UNEVEN = 0.01
"""Parts of an interval that others may differ by and still be as long."""


def read_metrics(path: str | Path, by: str | None = None) -> Series:
    """The series of a file of any form. `by`: in telemetry, the label that tells what a metric is of. Raises
    BadInput, with the place in the file."""
    place = Path(path)
    with _opened(place) as file:
        start = bytes(file.buffer.read(4096)).lstrip()[:1]
    if start in (b"{", b"["):
        return read_telemetry(place, by)
    if by is not None:
        raise BadInput(f"{place} is a table, and has no labels of which {by!r} could be one")
    return read_csv(place)


def read_csv(path: str | Path) -> Series:
    """Series of a wide or a long file; empty cells and NaN are gaps. Raises BadInput, with the line."""
    place = Path(path)
    with _opened(place) as file:
        try:
            rows = [(line, row) for line, row in enumerate(csv.reader(file), 1) if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{place} is no table of text: {error}") from None
    if len(rows) < 2:
        raise BadInput(f"{place} has no rows below a line of names")
    names = [name.strip() for name in rows[0][1]]
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise BadInput(f"{place}:{line} has {len(row)} cells, but the first line names {len(names)}")
    kinds = [name.lower() for name in names]
    long = "value" in kinds and not METRICS.isdisjoint(kinds)
    try:
        return _long(place, names, rows[1:]) if long else _wide(place, names, rows[1:])
    except BadInput as error:
        raise error if str(error).startswith(str(place)) else BadInput(f"{place}: {error}") from None


def _opened(place: Path) -> TextIOWrapper:
    if not place.is_file():
        raise BadInput(f"there is no file {place}")
    return place.open(newline="", encoding="utf-8-sig")


def _wide(place: Path, names: list[str], rows: list[tuple[int, list[str]]]) -> Series:
    np = numpy()
    timed = names[0].lower() in TIMES
    columns = names[1:] if timed else names
    if not columns:
        raise BadInput(f"{place} has no column beside its times")
    table = [[_number(place, line, name, cell) for name, cell in zip(columns, row[timed:], strict=True)]
             for line, row in rows]  # fmt: skip
    if not timed:
        return make_series(columns, table)
    at: dict[float, int] = {}
    for line, row in rows:
        if (when := _moment(place, line, row[0])) in at:
            raise BadInput(f"{place}:{line}: the time {row[0]!r} is also that of line {at[when]}; a row is a moment")
        at[when] = line
    times = np.array(list(at))
    order = np.argsort(times, kind="stable")
    values = np.array(table, dtype=float)[order]
    made = make_series(columns, values, times[order])
    return made if _even(times[order]) else gridded(_samples(columns, values, times[order]))


def _samples(names: list[str], values: Array, times: Array) -> dict[str, list[tuple[float, float]]]:
    return {
        name: list(zip(times.tolist(), column.tolist(), strict=True))
        for name, column in zip(names, values.T, strict=True)
    }


def _even(times: Array) -> bool:
    np = numpy()
    gaps = np.diff(times)
    return len(gaps) < 2 or bool((np.abs(gaps - np.median(gaps)) <= UNEVEN * np.median(gaps)).all())


def _long(place: Path, names: list[str], rows: list[tuple[int, list[str]]]) -> Series:
    kinds = [name.lower() for name in names]
    found = {
        what: [at for at, kind in enumerate(kinds) if kind in words]
        for what, words in (("time", TIMES), ("entity", ENTITIES), ("metric", METRICS), ("value", {"value"}))
    }
    used = [its[0] for its in found.values() if its]
    if unknown := [name for at, name in enumerate(names) if at not in used]:
        raise BadInput(
            f"{place} has a row a value, so its columns are time, entity, metric and value; what is {unknown[0]!r}? "
            "Make it part of the entity or of the metric, or take it out"
        )
    if not found["time"]:
        raise BadInput(f"{place} has a row a value, so it needs a column `time`")
    samples: dict[str, dict[float, float]] = {}
    for line, row in rows:
        of = row[found["entity"][0]].strip().replace("/", ":") if found["entity"] else ""
        metric = row[found["metric"][0]].strip()
        if not metric:
            raise BadInput(f"{place}:{line} names no metric")
        its = samples.setdefault(f"{of}/{metric}" if of else metric, {})
        when = _moment(place, line, row[found["time"][0]])
        if when in its:
            raise BadInput(f"{place}:{line}: a second value of {metric!r} of {of or 'it'!r} at that time")
        its[when] = _number(place, line, metric, row[found["value"][0]])
    return gridded({name: list(its.items()) for name, its in samples.items()})


def _moment(place: Path, line: int, cell: str) -> float:
    if not cell.strip():
        raise BadInput(f"{place}:{line} has no time")
    try:
        return moment(cell)
    except ValueError as error:
        raise BadInput(f"{place}:{line}: {error}") from None


def _number(place: Path, line: int, name: str, cell: str) -> float:
    try:
        found = float(cell) if cell.strip() else float("nan")
    except ValueError:
        raise BadInput(f"{place}:{line}: {name!r} is no number but {cell!r}") from None
    if found in (float("inf"), float("-inf")):
        raise BadInput(f"{place}:{line}: {name!r} is infinite")
    return found

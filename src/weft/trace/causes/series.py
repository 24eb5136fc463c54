"""Measured series: one column a metric, one row a moment, of anybody's arrays; files are read by `files`.

    normal = make_series(["carts_cpu", "carts_mem"], values)
    series.entity("carts_lat_90")                     # "carts": what the metric is of
    before, after = series.split(change_point(series))

Names are `ENTITY_METRIC`, cut at the first underscore, or `ENTITY/METRIC`: in Weft `tool search/seconds`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    """Of floats, of any shape."""

FEWEST = 10
"""Rows of which something can be learnt."""


@dataclass(frozen=True, eq=False)
class Series:
    """Metrics over time. `values`: rows are moments, columns are `names`; no gaps. `times`: seconds, or row numbers."""

    names: tuple[str, ...]
    values: Array
    times: Array
    calls: frozenset[tuple[str, str]] | None = None
    """Which entity calls which, where that is known."""
    left_out: tuple[str, ...] = ()
    """Metrics that had too few values to be followed."""

    def split(self, row: int) -> tuple[Series, Series]:
        """The rows before `row`, and those from it on."""
        return self._rows(slice(None, row)), self._rows(slice(row, None))

    def of(self, names: tuple[str, ...]) -> Series:
        """These metrics of it, in this order."""
        place = {name: number for number, name in enumerate(self.names)}
        return replace(self, names=names, values=self.values[:, [place[name] for name in names]])

    def _rows(self, rows: slice) -> Series:
        return replace(self, values=self.values[rows], times=self.times[rows])


def entity(name: str) -> str:
    """What a metric is of: the name up to the first `/`, or else up to the first `_`."""
    return name.partition("/" if "/" in name else "_")[0]


def make_series(
    names: list[str], values: Any, times: Any = None, calls: frozenset[tuple[str, str]] | None = None
) -> Series:
    """Series of anybody's numbers, rows by columns. A gap (NaN) is filled with the number before it, at the start with
    the first one; a column of gaps only is left out. Raises BadInput where shapes or names do not fit, or all are gaps.
    """
    np = numpy()
    table = np.array(values, dtype=float)
    if table.ndim != 2 or table.shape[1] != len(names):
        raise BadInput(f"series are rows by {len(names)} named columns, not an array of shape {table.shape}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"two columns are called {twice!r}; each metric needs a name of its own")
    if np.isinf(table).any():
        raise BadInput(f"metric {names[int(np.argwhere(np.isinf(table))[0][1])]!r} is infinite somewhere")
    kept = [number for number in range(len(names)) if not np.isnan(table[:, number]).all()]
    if not kept:
        raise BadInput("no metric has any value")
    moments = np.arange(len(table), dtype=float) if times is None else np.array(times, dtype=float)
    if moments.shape != (len(table),):
        raise BadInput(f"{len(table)} rows need as many times, not {moments.shape}")
    return Series(tuple(names[number] for number in kept), _filled(table[:, kept]), moments, calls)


def _filled(table: Array) -> Array:
    np = numpy()
    for column in table.T:
        known = np.flatnonzero(~np.isnan(column))
        if len(known) < len(column):
            before = np.maximum(np.searchsorted(known, np.arange(len(column)), side="right") - 1, 0)
            column[:] = column[known[before]]
    return table


def paired(normal: Series, bad: Series) -> tuple[Series, Series]:
    """Both, with the metrics that both have. Raises BadInput if there are none, or too few rows."""
    shared = tuple(name for name in normal.names if name in set(bad.names))
    if not shared:
        raise BadInput("the usual part and the bad part have no metric in common")
    if len(normal.values) < FEWEST:
        raise BadInput(f"{len(normal.values)} rows tell too little of what is usual; {FEWEST} are the fewest")
    if not len(bad.values):
        raise BadInput("the bad part has no rows")
    return normal.of(shared), bad.of(shared)


def numpy() -> Any:
    """NumPy, or MissingExtra."""
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtra("causes need the extra `trace`: pip install 'weft[trace]'") from error
    return np

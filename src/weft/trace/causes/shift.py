"""How far each metric has moved from its usual, and when: robust scores, onsets, and the moment a stream went bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.causes.series import FEWEST, numpy

if TYPE_CHECKING:
    from weft.trace.causes.series import Array, Series

GRAIN = 0.01
"""The finest change that counts, of the level: as the peers scale constant columns. Not fitted to any data."""
MOSTLY = 90
"""Percentile of the bad part's deviations that stands for it: a tenth of outliers changes nothing."""


@dataclass(frozen=True, eq=False)
class Shift:
    """One number for each metric. `far`: in robust deviations, none of which is under 1 % of the level, so that a gauge
    that never moves is no alarm when it does by a hair. `strange`: at most, in plain standard deviations. `delta`: how
    far the mean moved. `grain`: 1 % of the level. `onset`: row of the bad part from which on it had moved."""

    far: Array
    strange: Array
    delta: Array
    grain: Array
    onset: Array


def shift_of(normal: Series, bad: Series) -> Shift:
    """How the metrics of the bad part differ from the usual. Both have the same metrics."""
    np = numpy()
    usual, now = normal.values, bad.values
    middle, mean = np.median(usual, axis=0), usual.mean(axis=0)
    grain = np.where(middle != 0, GRAIN * np.abs(middle), GRAIN * np.abs(now).mean(axis=0))
    wide = np.maximum(1.4826 * np.median(np.abs(usual - middle), axis=0), grain)
    wide = np.where(wide > 0, wide, 1.0)
    spread = usual.std(axis=0)
    spread = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1e-12), spread, wide)
    far = np.percentile(np.abs(now - middle), MOSTLY, axis=0) / wide
    strange = np.abs(now - mean).max(axis=0) / spread
    delta = now.mean(axis=0) - mean
    onsets = np.array([onset(column, start, by) for column, start, by in zip(now.T, mean, delta, strict=True)])
    return Shift(far, strange, delta, grain, onsets)


def onset(column: Array, start: float, by: float) -> int:
    """The row from which on a column, whose mean is `by` away from `start`, had moved: where a CUSUM against halfway
    between both levels is least, so that from there on it stays above halfway."""
    np = numpy()
    if by == 0:
        return 0
    summed = np.cumsum((column - start) / by - 0.5)
    return int(np.argmin(np.concatenate([[0.0], summed])[:-1]))


def change_point(series: Series) -> int:
    """The row at which a stream without a known usual part changed most: a CUSUM of ranks over all metrics, each as
    loud as the others. Leaves at least a tenth, and `FEWEST` rows, on both sides. Raises BadInput for shorter ones."""
    np = numpy()
    rows = len(series.values)
    edge = max(FEWEST, rows // 10)
    if rows < 2 * edge + 1:
        raise BadInput(f"{rows} rows are too few to see where they change; {2 * FEWEST + 1} are the fewest")
    ranks = np.stack([_ranks(column) for column in series.values.T], axis=1)
    spread = ranks.std(axis=0)
    scaled = (ranks - ranks.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if not scaled.shape[1]:
        raise BadInput("no metric ever changes in these rows, so nothing went bad")
    before = np.arange(1, rows)
    force = (np.cumsum(scaled, axis=0)[:-1] ** 2).sum(axis=1) / (before * (rows - before))
    return int(np.argmax(force[edge - 1 : rows - edge])) + edge


def _ranks(column: Array) -> Array:
    """Ranks, equal values in the middle of theirs."""
    np = numpy()
    _, place, count = np.unique(column, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Array = (last - (count - 1) / 2.0)[place]
    return ranks

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
PAST = 5
"""Rows of its own that a metric is foretold by, as `granger`'s lags."""
WANDERS = 0.95
"""The most of its level that a metric is taken to keep; one that kept all would show a change of level for one row."""
SHARP = 16
"""The power in which metrics are summed: all but the greatest."""
FLAT = 0.01
"""The least part of its usual width that a metric is taken to keep: one that stands still is finitely strange."""
MOSTLY = 90
"""Percentile of the bad part's deviations that stands for it: a tenth of outliers changes nothing."""


@dataclass(frozen=True, eq=False)
class Shift:
    """One number for each metric. `far`: in robust deviations, none of which is under 1 % of the level, so that a gauge
    that never moves is no alarm when it does by a hair. `strange`: at most, in plain standard deviations, or how many
    times calmer it is. `delta`: how far the mean moved. `wider`: how much larger its variance is, and `newer` that of
    what does not follow from its own past. `times`: how many times as wide as in any tenth of the usual part that is, 1
    within what tenths show. `grain`: 1 % of the level. `onset`: row of the bad part from which on it had moved."""

    far: Array
    strange: Array
    delta: Array
    wider: Array
    newer: Array
    times: Array
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
    delta = now.mean(axis=0) - mean
    held = memory(usual)
    before, after = innovations(usual, held)[PAST:], innovations(now, held)[PAST:]
    times = _times(before, after, grain)
    strange = np.maximum(np.abs(now - mean).max(axis=0) / spread, 1.0 / times)
    onsets = np.array([onset(column, start, by) for column, start, by in zip(now.T, mean, delta, strict=True)])
    newer = after.var(axis=0) - before.var(axis=0) if len(after) else np.zeros(len(delta))
    return Shift(far, strange, delta, now.var(axis=0) - usual.var(axis=0), newer, times, grain, onsets)


def _times(before: Array, after: Array, grain: Array) -> Array:
    """How wide `after` is, over the widest or the calmest tenth of `before`."""
    np = numpy()
    times: Array = np.ones(len(grain))
    tenths = np.stack([one.std(axis=0) for one in _tenths(before)])
    now = np.maximum(after.std(axis=0), grain) if len(after) else grain
    most, least = np.maximum(tenths.max(axis=0), grain), np.maximum(tenths.min(axis=0), grain)
    over = np.where(now > most, now / np.maximum(most, 1e-300), 1.0)
    if len(after) >= FEWEST:  # of fewer rows, the width tells nothing
        times = np.where(now < least, np.maximum(now / np.maximum(least, 1e-300), FLAT), over)
    return times


def _tenths(values: Array) -> list[Array]:
    found: list[Array] = numpy().array_split(values, max(1, min(10, len(values) // (2 * PAST))))
    return found


def onset(column: Array, start: float, by: float) -> int:
    """The row from which on a column, whose mean is `by` away from `start`, had moved: where a CUSUM against halfway
    between both levels is least, so that from there on it stays above halfway."""
    np = numpy()
    if by == 0:
        return 0
    summed = np.cumsum((column - start) / by - 0.5)
    return int(np.argmin(np.concatenate([[0.0], summed])[:-1]))


def change_point(series: Series) -> int:
    """The row at which a stream without a known usual part changed most: where a CUSUM of the ranks of what is new in
    some metric, or of how large that is, is furthest from 0; metrics that are as far count together. Leaves at least a
    tenth, and `FEWEST` rows, on both sides. Raises BadInput for shorter ones, or where nothing ever changes."""
    np = numpy()
    rows = len(series.values)
    edge = max(FEWEST, rows // 10)
    if rows < 2 * edge + 1:
        raise BadInput(f"{rows} rows are too few to see where they change; {2 * FEWEST + 1} are the fewest")
    new = innovations(series.values, memory(series.values))
    ranks = np.stack([_ranks(column) for column in np.hstack([new, np.abs(new - np.median(new, axis=0))]).T], axis=1)
    spread = ranks.std(axis=0)
    scaled = (ranks - ranks.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if not scaled.shape[1]:
        raise BadInput("no metric ever changes in these rows, so nothing went bad")
    before = np.arange(1, rows)
    force = np.abs(np.cumsum(scaled, axis=0)[:-1]) / np.sqrt(before * (rows - before))[:, None]
    force = (force**SHARP).sum(axis=1)
    return int(np.argmax(force[edge - 1 : rows - edge])) + edge


def memory(values: Array) -> Array:
    """How each metric follows from its own last `PAST` values: coefficients, the last value's first. Learnt from how
    values differ from their tenth of the rows, all but the liveliest tenth, so that a change is not taken for memory;
    what comes out as less than none, which few rows make likely, is none."""
    np = numpy()
    tenths = [one - one.mean(axis=0) for one in _tenths(values)]
    liveliest = np.argmax([(one**2).mean(axis=0) for one in tenths], axis=0)
    near, of = np.concatenate(tenths), np.repeat(np.arange(len(tenths)), [len(one) for one in tenths])
    held = np.zeros((PAST, values.shape[1]))
    for at, column in enumerate(near.T):
        rows = (of[PAST:] != liveliest[at]) | (len(tenths) == 1)
        before, after = _before(column)[rows], column[PAST:][rows]
        gram = before.T @ before
        ridge = np.eye(PAST) * max(float(np.trace(gram)) / PAST, 1e-300) * 1e-3
        held[:, at] = np.linalg.solve(gram + ridge, before.T @ after)
    whole = held.sum(axis=0)
    found: Array = np.where(whole > 0, held * np.minimum(1.0, WANDERS / np.maximum(whole, 1e-300)), 0.0)
    return found


def innovations(values: Array, held: Array) -> Array:
    """What does not follow from a metric's own past; of the first rows too little is known, they are the median."""
    np = numpy()
    new: Array = np.zeros_like(values)
    if len(values) <= PAST:
        return new
    for at, column in enumerate(values.T):
        new[PAST:, at] = column[PAST:] - _before(column) @ held[:, at]
    new[:PAST] = np.median(new[PAST:], axis=0)
    return new


def _before(column: Array) -> Array:
    """Of each row from `PAST` on, the values before it, the last first."""
    np = numpy()
    found: Array = np.lib.stride_tricks.sliding_window_view(column[:-1], PAST)[:, ::-1]
    return found


def _ranks(column: Array) -> Array:
    """Ranks, equal values in the middle of theirs."""
    np = numpy()
    _, place, count = np.unique(column, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Array = (last - (count - 1) / 2.0)[place]
    return ranks

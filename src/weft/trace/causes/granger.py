"""Which metric helps to foresee which: a lagged linear graph in closed form, learnt from the usual part alone.

Each metric is foretold by the last `LAGS` values of all. The lags of one cause share one penalty, and the penalties are
those of the greatest evidence (group-wise relevance determination: Tipping 2001, MacKay 1992), so there is no constant
to choose: a cause that tells nothing gets an infinite penalty and is dropped. Each round is one ridge solution.

A cause is kept if what it does is clear of its own standard error.

A gauge that is written more often than it is read anew says the same twice: lags are as long as values are held, and a
row counts for as little as it tells anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.trace.causes.series import entity, numpy

if TYPE_CHECKING:
    from weft.trace.causes.series import Array, Series

LAGS = 5
ROUNDS = 50
GONE = 1e4
"""A penalty from which on a cause counts as dropped (its numbers are of size one)."""
FINEST = 1e-4
"""The least part of a metric's variance that no forecast gets below: few rows are foretold exactly by many causes."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Rows are effects, columns causes. `gain`: sum over lags of what one deviation of the cause adds to the next value
    of the effect, in deviations; on the diagonal, of its own past. `doubt`: variance of that. `noise`: deviation of
    what is not foretold, in deviations of the metric. `scale`: one of these, in its own unit."""

    names: tuple[str, ...]
    gain: Array
    doubt: Array
    noise: Array
    scale: Array

    @property
    def edges(self) -> list[tuple[str, str, float]]:
        """Cause, effect and gain, strongest first."""
        found = [
            (self.names[cause], self.names[effect], float(self.gain[effect, cause]))
            for effect, cause in numpy().argwhere(self.gain).tolist()
            if effect != cause
        ]
        return sorted(found, key=lambda edge: -abs(edge[2]))


def granger(normal: Series, lags: int = LAGS) -> Graph:
    """The graph of these series; where they know who calls whom, only neighbours can be causes."""
    np = numpy()
    if lags < 1:
        raise BadInput(f"lags are a positive number of rows, not {lags}")
    values, width = normal.values, len(normal.names)
    step = min(hold(normal), max(1, (len(values) - 1) // (2 * lags)))
    count = len(values) - lags * step
    if count < 1:
        raise BadInput(f"{len(values)} rows are too few for {lags} lags")
    centre, spread = values.mean(axis=0), values.std(axis=0)
    alive = spread > 1e-9 * np.maximum(np.abs(centre), 1e-9)
    scaled = np.where(alive, (values - centre) / np.where(alive, spread, 1.0), 0.0)
    past = np.stack([scaled[at * step : at * step + count] for at in reversed(range(lags))], axis=2)
    past = past.reshape(count, width * lags)
    target = scaled[lags * step :]
    gram, reach = past.T @ past / step, past.T @ target / step
    allowed = neighbours(normal)
    gain, doubt, noise = np.zeros((width, width)), np.zeros((width, width)), np.ones(width)
    for effect in np.flatnonzero(alive):
        causes = np.flatnonzero(alive & allowed[effect])
        energy = float(target[:, effect] @ target[:, effect]) / step
        kept, sums, variances, rest = _relevant(gram, reach[:, effect], energy, count / step, causes, lags)
        clear = (sums**2 > variances) | (kept == effect)
        gain[effect, kept[clear]], doubt[effect, kept[clear]] = sums[clear], variances[clear]
        noise[effect] = rest**0.5
    return Graph(normal.names, gain, doubt, noise, np.where(alive, spread, 1.0))


def hold(series: Series) -> int:
    """How many rows a metric keeps its value, typically."""
    np = numpy()
    moved = (np.diff(series.values, axis=0) != 0).mean(axis=0)
    moved = moved[moved > 0]
    return max(1, round(1.0 / float(np.median(moved)))) if len(moved) else 1


def neighbours(series: Series) -> Array:
    """Effect by cause: may it be one? All may, unless it is known who calls whom."""
    np = numpy()
    of = [entity(name) for name in series.names]
    calls = series.calls
    near = {*calls, *((callee, caller) for caller, callee in calls)} if calls is not None else set()
    allowed: Array = np.array([[calls is None or one == other or (one, other) in near for other in of] for one in of])
    return allowed


def _relevant(
    gram: Array, reach: Array, energy: float, count: float, causes: Array, lags: int
) -> tuple[Array, Array, Array, float]:
    """The causes that are left of one effect, the sums of their coefficients, those sums' variances, and the variance
    that is not foretold."""
    np = numpy()
    penalty = np.ones(len(causes))
    least = max(energy / count, 1e-9) * FINEST
    noise = max(energy / count, 1e-9) / 2
    for turn in range(ROUNDS):
        if not len(causes):
            break
        found, cover, rows = _ridge(gram, reach, causes, penalty, noise, lags)
        size = (found.reshape(-1, lags) ** 2).sum(axis=1)
        loose = np.diag(cover).reshape(-1, lags).sum(axis=1)
        known = lags - penalty * loose
        # the first rounds are the slow, sure ones of expectation and maximisation
        new = lags / (size + loose) if turn < 5 else np.maximum(known, 1e-12) / np.maximum(size, 1e-12)
        rest = energy - 2 * found @ reach[rows] + found @ gram[np.ix_(rows, rows)] @ found
        noise = max(float(rest) / max(count - float(known.sum()), 1.0), least)
        still = bool(np.abs(np.log(new / penalty)).max() < 1e-2)
        keep = new < GONE
        causes, penalty = causes[keep], new[keep]
        if keep.all() and still:
            break
    if not len(causes):
        return causes, np.zeros(0), np.zeros(0), max(energy / count, least)
    found, cover, _ = _ridge(gram, reach, causes, penalty, noise, lags)
    blocks = cover.reshape(len(causes), lags, len(causes), lags)
    doubt = np.array([blocks[one, :, one, :].sum() for one in range(len(causes))])
    return causes, found.reshape(-1, lags).sum(axis=1), doubt, noise


def _ridge(
    gram: Array, reach: Array, causes: Array, penalty: Array, noise: float, lags: int
) -> tuple[Array, Array, Array]:
    """Coefficients, their covariance, and the rows of these causes in `gram`."""
    np = numpy()
    rows = (causes[:, None] * lags + np.arange(lags)).ravel()
    cover = np.linalg.inv(gram[np.ix_(rows, rows)] / noise + np.diag(np.repeat(penalty, lags)))
    return cover @ reach[rows] / noise, cover, rows

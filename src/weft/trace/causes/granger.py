"""Which metric helps to foresee which: a lagged linear graph in closed form, learnt from the usual part alone.

Each metric is foretold by the last `LAGS` values of all. The lags of one cause share one penalty, and the penalties are
those of the greatest evidence (group-wise relevance determination: Tipping 2001, MacKay 1992), so there is no constant
to choose: a cause that tells nothing gets an infinite penalty and is dropped. Each round is one ridge solution.

A gauge that is written more often than it is read anew says the same twice; rows are thinned to how often it changes.
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
    of the effect, in deviations; on the diagonal, of its own past. `doubt`: variance of that. `scale`: a deviation."""

    names: tuple[str, ...]
    gain: Array
    doubt: Array
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
    values = normal.values[:: hold(normal)]
    if len(values) < lags + 2:
        values = normal.values
    centre, spread = values.mean(axis=0), values.std(axis=0)
    alive = spread > 1e-9 * np.maximum(np.abs(centre), 1e-9)
    scaled = np.where(alive, (values - centre) / np.where(alive, spread, 1.0), 0.0)
    count, width = len(values) - lags, len(normal.names)
    if count < 1:
        raise BadInput(f"{len(values)} rows are too few for {lags} lags")
    past = np.stack([scaled[lags - 1 - lag : len(values) - 1 - lag] for lag in range(lags)], axis=2)
    past = past.reshape(count, width * lags)
    gram, target = past.T @ past, scaled[lags:]
    reach = past.T @ target
    allowed = neighbours(normal)
    gain, doubt = np.zeros((width, width)), np.zeros((width, width))
    for effect in np.flatnonzero(alive):
        causes = np.flatnonzero(alive & allowed[effect])
        energy = float(target[:, effect] @ target[:, effect])
        kept, sums, variances = _relevant(gram, reach[:, effect], energy, count, causes, lags)
        gain[effect, kept], doubt[effect, kept] = sums, variances
    return Graph(normal.names, gain, doubt, np.where(alive, spread, 1.0))


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
    if series.calls is None:
        return np.ones((len(of), len(of)), dtype=bool)  # type: ignore[no-any-return]
    near = {*series.calls, *((callee, caller) for caller, callee in series.calls)}
    return np.array([[one == other or (one, other) in near for other in of] for one in of])  # type: ignore[no-any-return]


def _relevant(
    gram: Array, reach: Array, energy: float, count: int, causes: Array, lags: int
) -> tuple[Array, Array, Array]:
    """The causes that are left of one effect, the sums of their coefficients, and those sums' variances."""
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
        return causes, np.zeros(0), np.zeros(0)
    found, cover, _ = _ridge(gram, reach, causes, penalty, noise, lags)
    blocks = cover.reshape(len(causes), lags, len(causes), lags)
    doubt = np.array([blocks[one, :, one, :].sum() for one in range(len(causes))])
    return causes, found.reshape(-1, lags).sum(axis=1), doubt


def _ridge(
    gram: Array, reach: Array, causes: Array, penalty: Array, noise: float, lags: int
) -> tuple[Array, Array, Array]:
    """Coefficients, their covariance, and the rows of these causes in `gram`."""
    np = numpy()
    rows = (causes[:, None] * lags + np.arange(lags)).ravel()
    cover = np.linalg.inv(gram[np.ix_(rows, rows)] / noise + np.diag(np.repeat(penalty, lags)))
    return cover @ reach[rows] / noise, cover, rows

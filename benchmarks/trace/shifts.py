"""The peers of causes: rules that look at each metric alone and blame the one that is furthest off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def n_sigma(normal: Array, bad: Array) -> Array:
    """The largest deviation from the mean, in standard deviations; constant columns are scaled by 1 % of the mean."""
    mean, spread = normal.mean(axis=0), normal.std(axis=0)
    spread = np.where(spread > 1e-12, spread, np.maximum(np.abs(mean) * 0.01, 1e-9))
    return np.asarray((np.abs(bad - mean) / spread).max(axis=0))


def mad(normal: Array, bad: Array) -> Array:
    """The 90th percentile of the deviations from the median, in MADs, of which none is under 1 % of the median."""
    middle = np.median(normal, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(normal - middle), axis=0), 0.01 * np.abs(middle) + 1e-9)
    return np.asarray(np.percentile(np.abs(bad - middle) / spread, 90, axis=0))


def baro_like(normal: Array, bad: Array) -> Array:
    """As BARO's scorer: the largest deviation from the median in quartile ranges; a range of 0 counts as 1."""
    high, low = np.percentile(normal, [75, 25], axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return np.asarray((np.abs(bad - np.median(normal, axis=0)) / spread).max(axis=0))


PEERS: dict[str, Callable[[Array, Array], Array]] = {"n-sigma": n_sigma, "MAD": mad, "BARO-like": baro_like}

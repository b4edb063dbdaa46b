"""Honest intervals: shares whose trials come in clusters (several pairs of one prompt)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval, its standard error, and the number of trials."""

    value: float
    low: float
    high: float
    error: float
    trials: int

    @property
    def excludes_half(self) -> bool:
        return self.low > 0.5 or self.high < 0.5


def wilson(share: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share in `trials` independent trials (Wilson 1927); never outside [0, 1]."""
    if trials <= 0:
        return 0.0, 1.0
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def clustered_share(outcomes: NDArray[np.float64], clusters: NDArray[np.int64]) -> Share:
    """The mean of outcomes in [0, 1], with an interval that counts clusters, not trials, as independent.

    The variance is the cluster-robust one (Liang & Zeger 1986); it gives the number of independent trials that would
    have the same variance, and Wilson's interval is drawn for that number. Where every outcome is the same, clusters
    are the trials.
    """
    count = len(outcomes)
    if not count:
        return Share(math.nan, 0.0, 1.0, math.nan, 0)
    share = float(outcomes.mean())
    _, inverse = np.unique(clusters, return_inverse=True)
    groups = int(inverse.max()) + 1
    sums = np.bincount(inverse, weights=outcomes - share, minlength=groups)
    variance = float((sums**2).sum()) / count**2 * groups / max(1, groups - 1)
    effective = min(float(count), share * (1 - share) / variance) if variance > 1e-15 else float(groups)
    low, high = wilson(share, max(1.0, effective))
    return Share(share, low, high, math.sqrt(variance), count)

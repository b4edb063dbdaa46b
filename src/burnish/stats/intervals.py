"""Honest intervals of shares, means and correlations whose trials come in clusters (several pairs of one prompt), and
random draws that can be repeated."""

from __future__ import annotations

import hashlib
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


def seed_sequence(*keys: int | str) -> np.random.SeedSequence:
    """What everything random that belongs to `keys`, such as (seed, step, name), is drawn from.

    The same keys give the same draws, whatever was drawn before and in whatever order. An integer (0 or more) enters as
    it is, a name as the first eight bytes of its SHA-256.
    """
    numbers: list[int] = []
    for key in keys:
        if isinstance(key, str):
            numbers += np.frombuffer(hashlib.sha256(key.encode()).digest()[:8], dtype="<u4").tolist()
        else:
            numbers.append(key)
    return np.random.SeedSequence(numbers)


def wilson(share: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share in `trials` independent trials (Wilson 1927); never outside [0, 1]."""
    if trials <= 0:
        return 0.0, 1.0
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def clustered_share(
    outcomes: NDArray[np.float64], clusters: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> Share:
    """The (weighted) mean of outcomes in [0, 1], with an interval that counts clusters, not trials, as independent.

    The variance is the cluster-robust one (Liang & Zeger 1986), as in `clustered_mean`; it gives the number of
    independent yes-or-no trials that would have the same variance, and Wilson's interval is drawn for that number. It
    is never taken to be less than that of independent outcomes, v / n with v = sum w (y - share)^2 / sum w and
    n = (sum w)^2 / sum w^2 (Kish 1965); ties, outcomes of one half, make v less than share (1 - share). Where every
    outcome is the same, clusters are the trials.
    """
    count = len(outcomes)
    if not count:
        return Share(math.nan, 0.0, 1.0, math.nan, 0)
    weights = np.ones(count) if weights is None else weights
    share, sums = _residuals(outcomes, clusters, weights)
    groups = len(sums)
    variance = float((sums**2).sum()) * groups / max(1, groups - 1)
    spread = float((weights * (outcomes - share) ** 2).sum() / weights.sum())
    least = spread * float((weights**2).sum() / weights.sum() ** 2)
    effective = share * (1 - share) / max(variance, least) if variance > 1e-15 else float(groups)
    low, high = wilson(share, max(1.0, effective))
    return Share(share, low, high, math.sqrt(variance), count)


@dataclass(frozen=True)
class Mean:
    """A mean (or a correlation) with its 95 % interval, its standard error, and the number of clusters."""

    value: float
    low: float
    high: float
    error: float
    clusters: int


def clustered_mean(
    values: NDArray[np.float64], clusters: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> Mean:
    """The ratio of means m = sum w y / sum w over trials that come in G clusters, and m +- t(G-1) sqrt V, where

        V = G / (G - 1) x sum_g (sum_{i in g} w_i (y_i - m))^2 / (sum w)^2

    is the cluster-robust sandwich (Liang & Zeger 1986; Cochran 1977, section 2.11). With one trial a cluster and equal
    weights it is the t-interval of a mean. With fewer than two clusters nothing is known of the error: NaN.
    """
    if not len(values):
        return Mean(math.nan, math.nan, math.nan, math.nan, 0)
    mean, sums = _residuals(values, clusters, np.ones(len(values)) if weights is None else weights)
    groups = len(sums)
    if groups < 2:
        return Mean(mean, math.nan, math.nan, math.nan, groups)
    error = math.sqrt(float((sums**2).sum()) * groups / (groups - 1))
    half = t95(groups - 1) * error
    return Mean(mean, mean - half, mean + half, error, groups)


def clustered_correlation(x: NDArray[np.float64], y: NDArray[np.float64], clusters: NDArray[np.int64]) -> Mean:
    """Pearson's correlation of x and y, each centred within its cluster, pooled over the clusters.

    r = sum dx dy / sqrt(sum dx^2 sum dy^2). The interval is the jackknife's over clusters, on Fisher's scale: with z_g
    = atanh(r without cluster g), V = (G - 1) / G sum_g (z_g - mean z)^2, it is tanh(atanh r +- t(G-1) sqrt V); the
    error is (1 - r^2) sqrt V. (It covers better than the sandwich where few clusters hold most of the spread.) G counts
    the clusters in which x or y varies; NaN where either is constant within every cluster.
    """
    unknown = Mean(math.nan, math.nan, math.nan, math.nan, 0)
    if not len(x):
        return unknown
    _, inverse = np.unique(clusters, return_inverse=True)
    counts = np.bincount(inverse)
    dx, dy = (z - (np.bincount(inverse, weights=z) / counts)[inverse] for z in (x, y))
    if any(float(np.abs(d).max()) <= 1e-12 * float(np.abs(z).max()) for d, z in ((dx, x), (dy, y))):
        return unknown  # what is left is rounding
    sums = np.stack([np.bincount(inverse, weights=w) for w in (dx * dx, dy * dy, dx * dy)])
    sums = sums[:, (sums[:2] > 0).any(axis=0)]
    xx, yy, xy = sums.sum(axis=1)
    groups = sums.shape[1]
    r = max(-1.0, min(1.0, float(xy / math.sqrt(xx * yy))))
    xx, yy, xy = sums.sum(axis=1, keepdims=True) - sums  # without each cluster in turn
    if groups < 3 or 1 - r * r < 1e-12 or not ((xx > 0) & (yy > 0)).all():
        return Mean(r, math.nan, math.nan, math.nan, groups)
    z = np.arctanh(np.clip(xy / np.sqrt(xx * yy), -1 + 1e-15, 1 - 1e-15))
    error = math.sqrt((groups - 1) / groups * float(((z - z.mean()) ** 2).sum()))
    half = t95(groups - 1) * error
    return Mean(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), (1 - r * r) * error, groups)


def t95(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def _residuals(
    values: NDArray[np.float64], clusters: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """(m = sum w y / sum w, the clusters' sums of w (y - m) / sum w)."""
    total = float(weights.sum())
    mean = float((weights * values).sum()) / total
    _, inverse = np.unique(clusters, return_inverse=True)
    return mean, np.bincount(inverse, weights=weights * (values - mean)) / total

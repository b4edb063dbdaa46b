"""Two models on the same prompts: the paired difference, its test, and pass@k without bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from burnish.stats.intervals import Z95, Mean, clustered_mean


@dataclass(frozen=True)
class Paired:
    """The mean of b - a over prompts, with its 95 % interval and a two-sided p-value.

    `test`: "mcnemar" (exact), "t" (cluster-robust), or "none" where there is nothing to test.
    """

    difference: Mean
    p: float
    test: str
    only_a: int = 0  # prompts that a alone passes; for McNemar's test
    only_b: int = 0


def paired(a: NDArray[np.float64], b: NDArray[np.float64], clusters: NDArray[np.int64]) -> Paired:
    """b - a, where a[i] and b[i] are the results of the two models on the same prompt; [n] each.

    Results of 0 and 1 on n different prompts are tested by McNemar's exact test (1947): of the prompts that one alone
    passes, half would be b's. Their interval is Tango's (`tango`), which has a width where no two results differ, too.
    Anything else is tested by t = mean / error with G - 1 degrees of freedom and the cluster-robust error. Raises
    ValueError where the lengths differ.
    """
    if not len(a) == len(b) == len(clusters):
        raise ValueError(f"{len(a)} and {len(b)} results in {len(clusters)} clusters")
    difference = clustered_mean(b - a, clusters)
    values = np.concatenate([a, b])
    if len(a) and len(np.unique(clusters)) == len(a) and np.isin(values, (0.0, 1.0)).all():
        only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
        low, high = tango(only_a, only_b, len(a))
        return Paired(replace(difference, low=low, high=high), mcnemar(only_a, only_b), "mcnemar", only_a, only_b)
    if difference.clusters < 2:
        return Paired(difference, math.nan, "none")
    if not difference.error > 0:
        return Paired(difference, 1.0 if difference.value == 0 else math.nan, "none")
    from scipy.special import stdtr

    t = abs(difference.value) / difference.error
    return Paired(difference, 2 * float(stdtr(difference.clusters - 1, -t)), "t")


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact p-value (1947), two-sided: half of the discordant prompts would be of either kind."""
    from scipy.stats import binomtest

    count = only_a + only_b
    return float(binomtest(only_a, count, 0.5).pvalue) if count else 1.0


def tango(only_a: int, only_b: int, prompts: int) -> tuple[float, float]:
    """Tango's score interval (1998) of the difference of two paired shares, b's minus a's, on n prompts.

    It holds every d with (n_b - n_a - n d)^2 <= 1.96^2 n (2 q + d (1 - d)), where q, the share that a alone passes, is
    its likeliest value at that d: the root of 2n q^2 + ((2n - n_b + n_a) d - n_b - n_a) q - n_a d (1 - d) = 0.
    """
    from scipy.optimize import brentq

    gap = (only_b - only_a) / prompts

    def excess(d: float) -> float:
        """Squared distance beyond the interval's, over n; its sign tells inside (-) from outside (+)."""
        b = (2 * prompts - only_b + only_a) * d - only_b - only_a
        q = (math.sqrt(max(0.0, b * b + 8 * prompts * only_a * d * (1 - d))) - b) / (4 * prompts)
        return prompts * (gap - d) ** 2 - Z95**2 * max(0.0, 2 * q + d * (1 - d))

    inside = 1e-9  # at the gap itself the excess may be 0, as where no two results differ
    low = -1.0 if excess(-1.0) <= 0 or gap == -1 else float(brentq(excess, -1.0, gap - inside))
    high = 1.0 if excess(1.0) <= 0 or gap == 1 else float(brentq(excess, gap + inside, 1.0))
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): the family-wise error is at most the level at which they are read.

    NaN stays NaN and does not count.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = highest
    return adjusted


def pass_at_k(passed: int, draws: int, k: int) -> float:
    """The probability that at least one of k answers passes, without bias from n draws of which c passed.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, eq. 1). Raises ValueError where k is beyond the draws.
    """
    if not 0 <= passed <= draws or not 1 <= k <= draws:
        raise ValueError(f"pass@{k} of {draws} draws, {passed} of which passed")
    return 1 - math.comb(draws - passed, k) / math.comb(draws, k)

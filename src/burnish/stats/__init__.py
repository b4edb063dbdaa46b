"""Honest statistics of shares, means and comparisons whose trials come in clusters. numpy and scipy only.

intervals          shares, means and correlations with 95 % intervals; draws that can be repeated
verdicts           judged pairs of answers: raw and length-controlled win rates, position bias, the judge's noise
differences        two models on the same prompts: differences, McNemar's test, pass@k, Holm's adjustment
peaks              where a noisy curve is highest, without a form for it
overoptimisation   gold against sqrt(KL): the fitted form, and where it peaks
"""

from burnish.stats.differences import Paired, holm, paired, pass_at_k
from burnish.stats.intervals import (
    Z95,
    Mean,
    Share,
    clustered_correlation,
    clustered_mean,
    clustered_share,
    seed_sequence,
    t95,
    wilson,
)
from burnish.stats.overoptimisation import Curve, gold_curve
from burnish.stats.verdicts import Verdicts, WinRate, win_rate

__all__ = [
    "Z95", "Curve", "Mean", "Paired", "Share", "Verdicts", "WinRate", "clustered_correlation", "clustered_mean",
    "clustered_share", "gold_curve", "holm", "paired", "pass_at_k", "seed_sequence", "t95", "wilson", "win_rate",
]  # fmt: skip

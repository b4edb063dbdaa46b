"""Honest statistics of shares, means and comparisons whose trials come in clusters. numpy and scipy only.

intervals          shares, means and correlations with 95 % intervals; draws that can be repeated
verdicts           judged pairs of answers: raw and length-controlled win rates, position bias, the judge's noise
differences        two models on the same prompts: differences, McNemar's test, pass@k, Holm's adjustment
peaks              where a noisy curve is highest, without a form for it
anytime            a win rate that may be looked at after every vote
bradley_terry      several models by Bradley & Terry's model, with clustered intervals
agreement          how far raters agree
predicted          few votes and many verdicts of a judge
overoptimisation   gold against sqrt(KL): the fitted form, and where it peaks
"""

from burnish.stats.agreement import Agreement, krippendorff
from burnish.stats.anytime import Ahead, Sequential, in_order, outcomes_ahead, sequential
from burnish.stats.bradley_terry import Ranking, next_pair, ranking
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
from burnish.stats.predicted import Predicted, asking_order, chances, predicted_win_rate, unsure_first
from burnish.stats.verdicts import Verdicts, WinRate, win_rate

__all__ = [
    "Z95", "Agreement", "Ahead", "Curve", "Mean", "Paired", "Predicted", "Ranking", "Sequential", "Share", "Verdicts",
    "WinRate", "asking_order", "chances", "clustered_correlation", "clustered_mean", "clustered_share", "gold_curve",
    "holm", "in_order", "krippendorff", "next_pair", "outcomes_ahead", "paired", "pass_at_k", "predicted_win_rate",
    "ranking", "seed_sequence", "sequential", "t95", "unsure_first", "wilson", "win_rate",
]  # fmt: skip

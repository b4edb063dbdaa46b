"""Few votes and many verdicts of a judge: a win rate that uses both, and is valid however wrong the judge is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.stats.intervals import t95


@dataclass(frozen=True)
class Predicted:
    """A prediction-powered win rate with its 95 % interval at one look.

    `trust` in 0 to 1 is how far the judge was used; `worth` is how many votes without a judge would tell as much.
    """

    value: float
    low: float
    high: float
    trust: float
    votes: int
    worth: float


def predicted_win_rate(
    verdicts: NDArray[np.float64], votes: NDArray[np.float64], inclusion: NDArray[np.float64]
) -> Predicted:
    """The mean of people's outcomes over N prompts, all with a verdict f and some with a vote y (else NaN); [N] each.

    Each prompt was asked with a known probability pi, independently of its vote (`inclusion`; for a random sample
    n / N). With z_i = l f_i + (y_i - l f_i) xi_i / pi_i, xi_i whether it was voted, the mean of z is unbiased for any l
    that does not depend on the votes (Angelopoulos et al. 2023, prediction-powered inference; Zrnic & Candes 2024 for
    pi that depends on f); l, the trust, minimises its variance, in [0, 1] (PPI++). The interval is
    t(n - 1) s_z / sqrt N, n the votes of equal weight worth as much; a win and a loss more widen the variance of the
    votes where they are nearly unanimous, whose own says nothing. Raises ValueError where the lengths differ, or a
    prompt was voted that could not be asked.
    """
    voted = ~np.isnan(votes)
    if not len(verdicts) == len(votes) == len(inclusion) or (inclusion[voted] <= 0).any():
        raise ValueError("verdicts, votes and inclusion belong together, and what was voted could be asked")
    count = int(voted.sum())
    if count < 2:
        return Predicted(math.nan, 0.0, 1.0, math.nan, count, math.nan)
    weight = np.where(voted, 1 / np.where(voted, inclusion, 1.0), 0.0)
    weight *= len(votes) / weight.sum()  # Hajek: how many were voted is no news of the win rate
    mean = float((weight * np.where(voted, votes, 0.0)).sum() / len(votes))
    people = weight * (np.where(voted, votes, 0.0) - mean)
    judge = verdicts - float(verdicts.mean()) - weight * (verdicts - float((weight * verdicts).mean()))
    spread = float((judge**2).mean())
    trust = min(1.0, max(0.0, -float((people * judge).mean()) / spread)) if spread > 1e-15 else 0.0
    value = mean + trust * float((verdicts - weight * verdicts).mean())
    equal = max(2.0, float(weight.sum() ** 2 / (weight**2).sum()))  # votes of equal weight worth as much (Kish 1965)
    both = float(((people + trust * judge) ** 2).mean()) / len(votes)  # the variance of the combined mean
    spread = float((weight * np.where(voted, (votes - mean) ** 2, 0.0)).mean())  # of one vote
    wider = max(spread, (equal * spread + (1 - mean) ** 2 + mean**2) / (equal + 2))
    both += (wider - spread) / equal
    half = t95(int(equal) - 1) * math.sqrt(both * equal / (equal - 1))
    return Predicted(value, max(0.0, value - half), min(1.0, value + half), trust, count, wider / both)


def chances(weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Inclusion probabilities min(1, c w) that add up to `count`, with w > 0; all 1 where everything is asked."""
    if count >= len(weights):
        return np.ones(len(weights))
    low, high = 0.0, count / float(weights.min())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * weights).sum() < count else (low, middle)
    return np.minimum(1.0, high * weights)


def unsure_first(verdicts: NDArray[np.float64], least: float = 0.4) -> NDArray[np.float64]:
    """Weights by which prompts are asked: the more, the nearer the judge's verdict is to one half.

    The best weight is the standard deviation of the judge's error (Zrnic & Candes 2024); sqrt(f (1 - f)) stands for it,
    mixed with an even share, so that no prompt is out of reach.
    """
    doubt = 2 * np.sqrt(np.clip(verdicts * (1 - verdicts), 0.0, None))
    return np.asarray(least + (1 - least) * doubt, dtype=np.float64)


def asking_order(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """An order of which the first n are, for every n, a sample with probabilities near `chances(weights, n)`: by u / w
    (Ohlsson 1998, sequential Poisson sampling)."""
    return np.argsort(rng.random(len(weights)) / weights, kind="stable")

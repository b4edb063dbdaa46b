"""A win rate that may be looked at after every vote: intervals that hold at all times together, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
MOST = 100_000  # outcomes ahead, at most, that are told
_BETS = np.linspace(-4.0, 4.0, 81)  # theta: log-odds that a bet stakes on a win
_CONCENTRATION = 5.0  # of the mixture: p(1 - p) to this power, in p = 1 / (1 + exp(-theta))
_STAKES = np.expm1(_BETS)
_PRIOR = _CONCENTRATION * -(np.logaddexp(0, _BETS) + np.logaddexp(0, -_BETS))
_PRIOR -= np.logaddexp.reduce(_PRIOR)


@dataclass(frozen=True)
class Sequential:
    """A win rate at some moment: its 95 % confidence sequence there, and the e-value against one half.

    The sequence holds the truth at all moments together with a probability of 95 %, whenever one looks or stops.
    """

    value: float
    low: float
    high: float
    evidence: float  # e-value against 0.5; its inverse is a p-value that may be read at any time
    outcomes: int

    def decided(self, width: float) -> bool:
        """Whether it excludes one half, or is narrower than `width`."""
        return self.low > 0.5 or self.high < 0.5 or self.high - self.low < width


def sequential(outcomes: NDArray[np.float64], level: float = LEVEL) -> Sequential:
    """The confidence sequence of the mean of outcomes in [0, 1], a loss, a tie (1/2), a win, or means of votes.

    With bets s = exp(theta) - 1 and a mixture F of theta that is fixed beforehand, the wealth

        M_t(m) = integral prod_i (1 + s x_i) / (1 + s m)^t dF(theta)

    is at most a nonnegative martingale of mean 1 at m = the average of the outcomes' conditional means so far, however
    they drift: E[1 + s x_i | past] = 1 + s mu_i, and prod (1 + s mu_i) <= (1 + s m)^t, since log is concave. So
    {m: M_t(m) < 1/level} holds that average at all t together (Ville 1939; betting as in Waudby-Smith & Ramdas 2023,
    here with a mixture whose bets do not depend on m). Without ties it is the mixture of Bernoulli likelihood ratios;
    at m = 1/2 a tie costs nothing. M_t is convex in m, so the set is an interval. Outcomes must come one by one in an
    order that does not depend on them, one a prompt.
    """
    count = len(outcomes)
    if not count:
        return Sequential(math.nan, 0.0, 1.0, 1.0, 0)
    wealth = _wealth(outcomes)
    low, high = _interval(wealth, count, level)
    evidence = math.exp(min(700.0, float(log_wealth(wealth, count, 0.5))))
    return Sequential(float(outcomes.mean()), low, high, evidence, count)


def _wealth(outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """log F + sum_i log(1 + s x_i), by bet."""
    values, counts = np.unique(outcomes, return_counts=True)
    total: NDArray[np.float64] = _PRIOR + counts @ np.log1p(np.outer(values, _STAKES))
    return total


def log_wealth(wealth: NDArray[np.float64], count: int, mean: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """log M_t(m) for each m; `wealth` by bet, on the last axis."""
    against = count * np.log1p(np.multiply.outer(np.asarray(mean, dtype=np.float64), _STAKES))
    return np.asarray(np.logaddexp.reduce(wealth - against, axis=-1), dtype=np.float64)


def _interval(wealth: NDArray[np.float64], count: int, level: float) -> tuple[float, float]:
    """The ends of {m: M(m) < 1/level} in [0, 1]."""
    from scipy.optimize import brentq, minimize_scalar

    most = -math.log(level)

    def excess(mean: float) -> float:
        return float(log_wealth(wealth, count, mean)) - most

    middle = float(minimize_scalar(excess, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-9}).x)
    low = 0.0 if excess(0.0) < 0 else float(brentq(excess, 0.0, middle))
    high = 1.0 if excess(1.0) < 0 else float(brentq(excess, middle, 1.0))
    return low, high


@dataclass(frozen=True)
class Ahead:
    """How many outcomes more until a decision: the median, and the middle 80 %; `MOST` stands for that many or more."""

    median: int
    low: int
    high: int


def outcomes_ahead(outcomes: NDArray[np.float64], width: float, draws: int = 24, seed: int = 0) -> Ahead:
    """How many more outcomes are expected until the interval excludes one half or is narrower than `width`.

    The win rate and the ties that are to come are drawn from what was seen (Rubin's Bayesian bootstrap 1981, with one
    win, one loss and the seen share of ties beforehand); each draw goes on at its mean pace.
    """
    rng = np.random.default_rng(seed)
    values, counts = np.unique(np.append(outcomes, [0.0, 1.0]), return_counts=True)
    needed = sorted(
        _until_decided(outcomes, values, rng.dirichlet(counts.astype(np.float64)), width) for _ in range(draws)
    )
    return Ahead(needed[draws // 2], needed[draws // 10], needed[-1 - draws // 10])


def _until_decided(
    outcomes: NDArray[np.float64], values: NDArray[np.float64], shares: NDArray[np.float64], width: float
) -> int:
    now, pace = _wealth(outcomes), shares @ np.log1p(np.outer(values, _STAKES))

    def decided(more: int) -> bool:
        count = len(outcomes) + more
        wealth = now + more * pace
        if float(log_wealth(wealth, count, 0.5)) >= -math.log(LEVEL):
            return True
        low, high = _interval(wealth, count, LEVEL)
        return high - low < width

    if decided(0):
        return 0
    far = 8
    while far < MOST and not decided(far):
        far *= 2
    near = far // 2
    while far - near > max(1, far // 50):
        middle = (near + far) // 2
        near, far = (near, middle) if decided(middle) else (middle, far)
    return min(far, MOST)


def in_order(prompts: Sequence[str], outcomes: NDArray[np.float64], wanted: int) -> NDArray[np.float64]:
    """One outcome a prompt, the mean of its first `wanted` votes, in the order in which prompts had them all.

    Votes on one prompt are not independent; a prompt with fewer votes does not count yet.
    """
    votes: dict[str, list[float]] = {}
    complete = []
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        known = votes.setdefault(prompt, [])
        known.append(float(outcome))
        if len(known) == wanted:
            complete.append(sum(known) / wanted)
    return np.array(complete, dtype=np.float64)

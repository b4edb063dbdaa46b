"""The win rate of a model over a baseline, from judged pairs of answers: how much of it is length, order and noise.

Of each pair: which prompt (pairs of one prompt are one cluster), the outcome (1 won, 0 lost, one half a tie, the mean
over both orders), and how much longer the model's answer is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.stats.intervals import Z95, Share, clustered_share, seed_sequence

Floats = NDArray[np.float64]
REFITS = 1000  # of the bootstrap
RIDGE = 0.05  # pulls both coefficients to 0, so that a fit exists where length tells every outcome
STEPS = 25  # of Newton's method, at most
ONE_DEVIATION = (0.158655, 0.841345)  # quantiles of a normal law one deviation below and above its mean
MISSING = 0.02  # a share of pairs without a verdict beyond which the bounds are told
BEYOND = 100_000  # prompts; further away nothing is settled


@dataclass(frozen=True)
class Verdicts:
    """The judged pairs, [n] each.

    `orders`: the outcomes with the model's answer first and second, [n, 2], where the judge has an order; their mean is
    the outcome. `repeats`: outcomes of the same question asked twice, [m, 2]. `unjudged`: pairs without a verdict.
    """

    prompts: NDArray[np.int64]
    outcomes: Floats  # in [0, 1]
    longer: Floats  # length of the model's answer minus the baseline's
    orders: Floats | None = None
    repeats: Floats | None = None
    unjudged: int = 0


@dataclass(frozen=True)
class WinRate:
    """A win rate with what stands behind it; intervals are 95 %."""

    raw: Share
    controlled: Share  # at equal length
    slope: float  # of the log-odds, for a standard deviation's length
    explained: float | None  # the share of the raw edge that length explains; None where there is no edge beyond chance
    explained_low: float
    explained_high: float
    first: Share | None  # how often the first place wins; 0.5 without bias
    agreement: Share | None  # how often a judge says the same again
    more_prompts: int | None  # until the raw interval would leave one half, as things stand; None: beyond `BEYOND`
    bounds: tuple[float, float] | None  # of the raw interval, were all unjudged pairs lost, and won


def win_rate(verdicts: Verdicts, seed: int = 0) -> WinRate:
    """The win rate of some verdicts. Raises ValueError where there are none.

    Length-controlled as in AlpacaEval 2 (Dubois et al. 2024): a logistic regression of the outcome on tanh(d / sd d),
    with d the difference of lengths, read at d = 0. Its interval is a bootstrap of whole clusters that fits anew each
    time, so that it holds the uncertainty of the length's coefficient: +- 1.96 standard errors on the log-odds, the
    error being half of the width that holds the middle 68 % of the fits.
    """
    outcomes, prompts = verdicts.outcomes, verdicts.prompts
    if not len(outcomes):
        raise ValueError("no verdict")
    raw = clustered_share(outcomes, prompts)
    scaled = standardised(verdicts.longer)
    weights = resampled(prompts, REFITS, seed)
    (intercept, slope), fits = fit(outcomes, scaled, np.ones((1, len(outcomes))))[0], fit(outcomes, scaled, weights)
    told = bool(np.ptp(scaled) > 0 and np.ptp(outcomes) > 0)  # where no outcome differs, length explains none
    controlled = _controlled(intercept, fits[:, 0], raw) if told else raw
    explained, low, high = _explained(raw, controlled, (weights @ outcomes) / weights.sum(1), _logistic(fits[:, 0]))
    orders, repeats = verdicts.orders, verdicts.repeats
    first = None if orders is None else clustered_share((orders[:, 0] + 1 - orders[:, 1]) / 2, prompts)
    same = None if repeats is None or not len(repeats) else (repeats[:, 0] == repeats[:, 1]).astype(np.float64)
    agreement = None if same is None else clustered_share(same, np.arange(len(same)))
    return WinRate(raw, controlled, float(slope), explained, low, high, first, agreement,
                   more_prompts(raw, len(np.unique(prompts))), _bounds(verdicts))  # fmt: skip


def standardised(longer: Floats) -> Floats:
    """tanh(d / sd d), [n]; zeros where all lengths are equal."""
    deviation = float(longer.std())
    scaled: Floats = np.tanh(longer / deviation) if deviation > 0 else np.zeros(len(longer))
    return scaled


def resampled(clusters: NDArray[np.int64], times: int, seed: int) -> Floats:
    """Weights of the trials where clusters are drawn with replacement, [times, n]."""
    _, inverse = np.unique(clusters, return_inverse=True)
    groups = int(inverse.max()) + 1
    rng = np.random.default_rng(seed_sequence(seed, "win rate"))
    counts: Floats = rng.multinomial(groups, np.full(groups, 1 / groups), size=times).astype(np.float64)
    return counts[:, inverse]


def fit(outcomes: Floats, scaled: Floats, weights: Floats) -> Floats:
    """(intercept, slope) of the logistic regression for each row of the weights, [rows, 2], by Newton's method.

    The likelihood of outcomes in [0, 1] is Papke & Wooldridge's (1996); a ridge of `RIDGE` holds both coefficients.
    """
    design = np.stack([np.ones_like(scaled), scaled])
    products = np.stack([design[0] * design[0], design[0] * design[1], design[1] * design[1]])
    betas = np.zeros((len(weights), 2))
    for _ in range(STEPS):
        chance = _logistic(betas @ design)
        gradient = (weights * (outcomes - chance)) @ design.T - RIDGE * betas
        aa, ab, bb = ((weights * chance * (1 - chance)) @ products.T).T
        aa, bb = aa + RIDGE, bb + RIDGE
        step = np.stack([bb * gradient[:, 0] - ab * gradient[:, 1], aa * gradient[:, 1] - ab * gradient[:, 0]], axis=1)
        step /= (aa * bb - ab * ab)[:, None]
        betas += np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    return betas


def more_prompts(raw: Share, prompts: int) -> int | None:
    """How many prompts more until 1.96 standard errors are less than the distance from one half, as things stand."""
    if raw.excludes_half:
        return 0
    edge = abs(raw.value - 0.5)
    needed = (Z95 * raw.error / edge) ** 2 * prompts if edge > 0 else math.inf
    more = max(1.0, needed - prompts)
    return math.ceil(more) if more <= BEYOND else None


def _controlled(intercept: float, refits: Floats, raw: Share) -> Share:
    below, above = np.quantile(refits, ONE_DEVIATION)
    error = float(above - below) / 2  # the deviation itself is drawn up by the few samples that length nearly tells
    half = Z95 * error
    low, value, high = _logistic(intercept + half * np.array([-1.0, 0.0, 1.0])).tolist()
    return Share(value, low, high, error * value * (1 - value), raw.trials)


def _explained(raw: Share, controlled: Share, raws: Floats, controls: Floats) -> tuple[float | None, float, float]:
    if not raw.excludes_half:
        return None, math.nan, math.nan
    shares = 1 - (controls - 0.5) / np.where(raws == 0.5, np.nan, raws - 0.5)
    low, high = np.nanquantile(shares, (0.025, 0.975))
    return 1 - (controlled.value - 0.5) / (raw.value - 0.5), float(low), float(high)


def _bounds(verdicts: Verdicts) -> tuple[float, float] | None:
    """Each unjudged pair counts as a prompt of its own."""
    missing, judged = verdicts.unjudged, len(verdicts.outcomes)
    if missing <= MISSING * (missing + judged):
        return None
    prompts = np.unique(verdicts.prompts, return_inverse=True)[1]
    prompts = np.concatenate([prompts, np.arange(missing) + int(prompts.max()) + 1])
    lost, won = (
        clustered_share(np.concatenate([verdicts.outcomes, np.full(missing, value)]), prompts) for value in (0.0, 1.0)
    )
    return lost.low, won.high


def _logistic(x: Floats) -> Floats:
    chance: Floats = 0.5 * (1 + np.tanh(x / 2))
    return chance

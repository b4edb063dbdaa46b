"""Whether sigmoid(r_w - r_l) is the probability that the data's winner wins, and the temperature that makes it so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import expit

from burnish.data.identity import draw
from burnish.reports.rewards.columns import Floats, Ints, credit, figures, finite
from burnish.stats import Mean, clustered_share, t95

BINS = 10


def calibration(margins: Floats, clusters: Ints, weights: Floats) -> dict[str, Any]:
    """Reliability, ECE, NLL, Brier score, temperature, and the first three after it, as JSON.

    With P = sigmoid(margin) of the pair's winner: NLL = mean -log P, Brier = mean (1 - P)^2, weighted by the pairs'
    weights. `ece_by_chance` is what ECE would be on average if every probability were right: 0 only with many pairs,
    since a bin's mean outcome then has standard deviation s_b = sqrt(sum w^2 c (1 - c)) / W_b, and its mean distance
    is sqrt(2 / pi) s_b.
    """
    bins = reliability(margins, clusters, weights)
    confidence = expit(np.abs(margins))
    spread = [
        math.sqrt(2 / math.pi * float((weights[inside] ** 2 * confidence[inside] * (1 - confidence[inside])).sum()))
        for inside in (_places(confidence) == b for b in range(BINS))
    ]
    return {
        **losses(margins, weights),
        "ece_by_chance": sum(spread) / float(weights.sum()),
        "bins": bins,
        "temperature": temperature(margins, clusters, weights),
        "after": after_temperature(margins, clusters, weights),
    }


def losses(margins: Floats, weights: Floats) -> dict[str, float]:
    total = float(weights.sum())
    return {
        "ece": calibration_error(margins, weights),
        "nll": float((weights * np.logaddexp(0, -margins)).sum()) / total,
        "brier": float((weights * expit(-margins) ** 2).sum()) / total,
    }


def calibration_error(margins: Floats, weights: Floats) -> float:
    """ECE = sum_b W_b / W |confidence_b - accuracy_b| = sum_b |sum over the bin of w (confidence - outcome)| / W.

    Confidence is max(P, 1 - P), in ten equal bins on [1/2, 1]; the outcome is 1 where the more probable answer won, 0
    where the other did, 1/2 on ties.
    """
    confidence = expit(np.abs(margins))
    gaps = np.bincount(_places(confidence), weights=weights * (confidence - credit(margins)), minlength=BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def reliability(margins: Floats, clusters: Ints, weights: Floats) -> list[dict[str, Any]]:
    """For each bin: bounds, pairs, mean confidence, and accuracy with its interval; bins without pairs are left out."""
    confidence = expit(np.abs(margins))
    places = _places(confidence)
    rows = []
    for b in range(BINS):
        inside = places == b
        if inside.any():
            share = clustered_share(credit(margins[inside]), clusters[inside], weights[inside])
            mean = float((weights[inside] * confidence[inside]).sum() / weights[inside].sum())
            bounds = {"from": 0.5 + b / (2 * BINS), "to": 0.5 + (b + 1) / (2 * BINS)}
            rows.append({**bounds, "pairs": int(inside.sum()), "confidence": mean, **figures(share)})
    return rows


def temperature(margins: Floats, clusters: Ints, weights: Floats) -> dict[str, Any]:
    """The T that minimises sum w log(1 + exp(-margin / T)), with a clustered 95 % interval.

    In a = 1 / T the sum is convex. Its score is s_g = sum over a prompt's pairs of w m sigmoid(-a m), its curvature
    H = sum w m^2 sigmoid(a m) sigmoid(-a m); the sandwich G / (G - 1) sum s_g^2 / H^2 is the variance of a, and the
    interval is drawn for log a. T is None where no finite, positive one is best, and `message` says why.
    """
    unknown: dict[str, Any] = dict.fromkeys(("value", "low", "high"))
    if not float((weights * margins).sum()) > 0:
        return {**unknown, "message": "the mean margin is not positive: no temperature helps"}
    if not (margins < 0).any():
        return {**unknown, "message": "no pair is ranked wrongly: any lower temperature is better"}
    from scipy.optimize import brentq

    def slope(log_a: float) -> float:
        a = math.exp(log_a)
        return -float((weights * margins * expit(-a * margins)).sum())

    low = high = -math.log(float(np.abs(margins).max()))
    while slope(low) >= 0:
        low -= 2
    while slope(high) <= 0:
        high += 2
    a = math.exp(float(brentq(slope, low, high, xtol=1e-12)))
    _, inverse = np.unique(clusters, return_inverse=True)
    scores = np.bincount(inverse, weights=weights * margins * expit(-a * margins))
    curvature = float((weights * margins**2 * expit(a * margins) * expit(-a * margins)).sum())
    groups = len(scores)
    if groups < 2:
        return {"value": 1 / a, "low": None, "high": None, "message": ""}
    error = math.sqrt(float((scores**2).sum()) * groups / (groups - 1)) / curvature / a
    half = t95(groups - 1) * error
    mean = Mean(1 / a, math.exp(-half) / a, math.exp(half) / a, error / a, groups)
    return {**figures(mean), "message": ""}


def after_temperature(margins: Floats, clusters: Ints, weights: Floats) -> dict[str, Any] | None:
    """ECE, NLL and Brier score once margins are divided by a temperature that other prompts gave.

    Prompts are drawn into two halves; each half's margins are divided by the other's temperature, then all pairs are
    put together. None where a half has no temperature.
    """
    half = np.array([draw(0, "half", str(cluster)) < 0.5 for cluster in clusters])
    scaled = np.empty_like(margins)
    for rows in (half, ~half):
        others = ~rows
        heat = temperature(margins[others], clusters[others], weights[others])["value"] if others.any() else None
        if heat is None or finite(heat) is None:
            return None
        scaled[rows] = margins[rows] / heat
    return dict(losses(scaled, weights))


def _places(confidence: Floats) -> Ints:
    return np.clip(((confidence - 0.5) * 2 * BINS).astype(np.int64), 0, BINS - 1)

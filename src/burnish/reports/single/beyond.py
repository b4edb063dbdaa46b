"""Reward, gold and the judge's accuracy against the distance from the start, and where gold peaks.

The fitted form and its peak are `stats.gold_curve`'s (Gao, Schulman & Hilton 2023; Rafailov et al. 2024).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from burnish.reports.compare.levels import smoothed
from burnish.reports.compare.tracks import Track
from burnish.stats import Curve, gold_curve

POINTS = 150  # of a line in the picture, at most
FORMS = {"square": "r + d (a - b d)", "log": "r + d (a - b ln d)", "kl": "r + a d^2 - b d^4"}


def beyond(track: Track) -> dict[str, Any] | None:
    """The figures; None where the run has no KL, or nothing to see it against."""
    kl = track.figures["kl/answer"]
    if not np.isfinite(kl).any():
        return None
    lines = {name: _line(track, name) for name in ("gold", "reward", "judge_accuracy")}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return None
    gold = track.figures["gold"]
    known = np.isfinite(kl) & np.isfinite(gold)
    curve = gold_curve(kl[known], gold[known]) if known.any() else None
    return {"lines": lines, "curve": None if curve is None else _curve(curve, track)}


def _line(track: Track, name: str) -> list[list[float]]:
    """[sqrt KL, value, step] of each window, in the order of the steps."""
    distance = np.sqrt(np.maximum(smoothed(track.figures["kl/answer"], track.window), 0))
    values = smoothed(track.figures[name], track.window)
    known = np.flatnonzero(np.isfinite(distance) & np.isfinite(values))
    kept = known[:: max(1, math.ceil(len(known) / POINTS))]
    return [[float(distance[i]), float(values[i]), float(track.step[i])] for i in kept]


def _curve(curve: Curve, track: Track) -> dict[str, Any]:
    along = np.linspace(0, curve.reach, 60)
    peak = None
    if math.isfinite(curve.peak):
        peak = {"d": [curve.peak, curve.low, curve.high], "kl": curve.peak**2, "gold": curve.top,
                "step": _step_at(track, curve.peak)}  # fmt: skip
    return {
        "form": curve.form, "formula": FORMS[curve.form], "coefficients": list(curve.coefficients),
        "errors": {name: value for name, value in curve.errors.items() if math.isfinite(value)},
        "reason": curve.reason, "peak": peak,
        "drawn": [[float(d), float(v)] for d, v in zip(along, curve.at(along), strict=True)],
    }  # fmt: skip


def _step_at(track: Track, d: float) -> int | None:
    """The first step whose window lies as far out as `d`."""
    distance = np.sqrt(np.maximum(smoothed(track.figures["kl/answer"], track.window), 0))
    reached = np.flatnonzero(distance >= d)
    return int(track.step[reached[0]]) if len(reached) else None

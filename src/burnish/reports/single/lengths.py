"""How length gets into a run in three ways, each with its figure, and how the policy's own length moved.

1. Sums drift with length: the slope of an answer's log-ratio on its tokens, within a group.
2. Long answers weigh more: the share of all tokens that the longest tenth of the answers holds.
3. The labels prefer a length: how often the longer answer is the preferred one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.reports.compare import levels
from burnish.reports.compare.tracks import Track
from burnish.reports.history import Completions, History
from burnish.stats import clustered_mean, wilson

LEAST = 20  # groups, below which no slope is given


def lengths(history: History, track: Track) -> dict[str, Any]:
    """The figures that the run's records allow; a missing one is None."""
    return {
        "drift": _drift(history.completions), "weight": _weight(history.completions), "labels": _labels(history),
        "moved": _moved(track),
    }  # fmt: skip


def _late(completions: Completions) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The completions of the last tenth of the steps."""
    last = int(completions.step.max())
    chosen: np.ndarray[Any, np.dtype[np.bool_]] = completions.step > 0.9 * last
    return chosen


def _drift(completions: Completions) -> list[float] | None:
    """[slope, low, high] of the log-ratio, nats a token: within groups of a step, groups as clusters."""
    if not len(completions):
        return None
    kept = _late(completions) & np.isfinite(completions.logp) & np.isfinite(completions.reference_logp)
    if not kept.any():
        return None
    ratio = completions.logp[kept] - completions.reference_logp[kept]
    size, group = completions.length[kept], completions.group[kept]
    places = np.unique(np.stack([completions.step[kept], group]), axis=1, return_inverse=True)[1].ravel()
    counts = np.bincount(places)
    dx, dy = (z - (np.bincount(places, weights=z) / counts)[places] for z in (size, ratio))
    spread = dx * dx
    if len(np.unique(group)) < LEAST or not spread.sum() > 0:
        return None
    used = spread > 0
    slope = clustered_mean(dy[used] / dx[used], group[used], spread[used])  # these weights give least squares' slope
    return [slope.value, slope.low, slope.high]


def _weight(completions: Completions) -> float | None:
    """The share of all tokens in the longest tenth of the answers that were trained on."""
    if len(completions) < LEAST:
        return None
    ordered = np.sort(completions.length)
    total = float(ordered.sum())
    return float(ordered[-max(1, len(ordered) // 10) :].sum()) / total if total > 0 else None


def _labels(history: History) -> list[float] | None:
    """[share, low, high] of the pairs whose preferred answer is the longer, over all steps."""
    rows = [(record.metrics.get("length/longer_wins", np.nan), record.groups or 0) for record in history.steps]
    known = [(value, count) for value, count in rows if np.isfinite(value) and count]
    total = sum(count for _, count in known)
    if not total:
        return None
    value = sum(value * count for value, count in known) / total
    different = len(history.completions.groups)  # a pair that comes again is the same label
    return [value, *wilson(value, float(min(total, different) if different else total))]


def _moved(track: Track) -> dict[str, list[float]] | None:
    """[mean, low, high] of the policy's own answers' length in tokens, in the first and the last window."""
    if len(track) < 2:
        return None
    first = levels.level_at(track, track.window - 1, "length")
    last = levels.at_end(track, "length")
    if first is None or last is None or first.step == last.step:
        return None
    return {"first": [first.value, first.low, first.high], "last": [last.value, last.low, last.high]}


def words(found: dict[str, Any]) -> list[str]:
    """The figures in sentences, in the order of the three ways."""
    lines = []
    if found["drift"]:
        slope, low, high = found["drift"]
        told = "beyond chance" if low > 0 or high < 0 else "not told from 0"
        lines.append(f"sums drift by {slope:+.3f} nats a token ({low:+.3f} to {high:+.3f}), {told}")
    if found["weight"] is not None:
        lines.append(f"the longest tenth of the answers holds {found['weight']:.0%} of the tokens")
    if found["labels"]:
        share, low, high = found["labels"]
        told = "no length is preferred beyond chance" if low <= 0.5 <= high else "the labels prefer a length"
        lines.append(f"the longer answer is the preferred one in {share:.0%} ({low:.0%} to {high:.0%}): {told}")
    if found["moved"]:
        first, last = found["moved"]["first"], found["moved"]["last"]
        lines.append(f"the policy's own answers went from {first[0]:.1f} to {last[0]:.1f} tokens")
    return lines

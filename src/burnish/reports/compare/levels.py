"""Runs at equal KL, each at its own best point, and at equal cost.

A run's level at a point is the mean of its gold (or reward) over a window of refreshes. Refreshes answer other prompts
by other draws, so that they count as independent; their noise is told from how successive ones scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.reports.compare.tracks import Floats, Track
from burnish.stats.intervals import t95

KLS = 4  # values of the KL at which runs are compared
COST_SHARES = (0.25, 0.5, 1.0)  # of the least that a run cost in all


@dataclass(frozen=True)
class Level:
    """A run at a point: quality with its 95 % interval (NaN bounds from one refresh alone), at which step and KL."""

    value: float
    low: float
    high: float
    step: int
    kl: float


def smoothed(values: Floats, window: int) -> Floats:
    """Means over the window that ends at each place, and begins at the first at the earliest; NaN is left out."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    starts = np.maximum(0, np.arange(len(values)) + 1 - window)
    ends = np.arange(len(values)) + 1
    number = counts[ends] - counts[starts]
    means: Floats = np.where(number > 0, (sums[ends] - sums[starts]) / np.maximum(1, number), np.nan)
    return means


def level_at(track: Track, place: int, figure: str) -> Level | None:
    """The level over the window that ends at a place; None where no refresh of it has the figure."""
    window = slice(max(0, place + 1 - track.window), place + 1)
    values = track.figures[figure][window]
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    mean, half = float(values.mean()), scatter_half(track.figures[figure], len(values))
    kl = track.figures["kl/answer"][window]
    known = kl[np.isfinite(kl)]
    mean_kl = float(known.mean()) if len(known) else math.nan
    return Level(mean, mean - half, mean + half, int(track.step[place]), mean_kl)


def scatter_half(values: Floats, count: int) -> float:
    """Half the 95 % interval of a mean over `count` refreshes, from the scatter of a run's successive refreshes.

    The variance is half the mean square of successive differences (von Neumann et al. 1941), which a trend hardly
    changes; it has about two thirds of the differences' number as degrees of freedom. NaN with fewer than 3 refreshes.
    """
    known = values[np.isfinite(values)]
    if len(known) < 3:
        return math.nan
    steps = np.diff(known)
    deviation = math.sqrt(float((steps**2).mean()) / 2)
    return t95(max(1, round(2 * len(steps) / 3))) * deviation / math.sqrt(count)


def common_kls(tracks: Sequence[Track]) -> list[float]:
    """KL values that every run with a KL reached: evenly spaced in sqrt(KL) up to the least of their highest."""
    highest = []
    for track in tracks:
        path = smoothed(track.figures["kl/answer"], track.window)
        if np.isfinite(path).any():
            highest.append(float(np.nanmax(path)))
    if len(highest) < 2 or min(highest) <= 0:
        return []
    top = math.sqrt(min(highest))
    return [(top * share / KLS) ** 2 for share in range(1, KLS + 1)]


def at_kl(track: Track, kl: float, figure: str) -> Level | None:
    """The run in the first window whose mean KL is at least `kl`; None where it never is."""
    path = smoothed(track.figures["kl/answer"], track.window)
    reached = np.flatnonzero(path >= kl * (1 - 1e-9))
    return level_at(track, int(reached[0]), figure) if len(reached) else None


def at_best(track: Track, figure: str) -> Level | None:
    """The window with the highest mean. It was chosen for being high, and so its level is a little too high."""
    path = smoothed(track.figures[figure], track.window)
    path[: track.window - 1] = np.nan  # a window that is not full is more noise than level
    return level_at(track, int(np.nanargmax(path)), figure) if np.isfinite(path).any() else None


def at_end(track: Track, figure: str) -> Level | None:
    """The last window."""
    known = np.flatnonzero(np.isfinite(track.figures[figure]))
    return level_at(track, int(known[-1]), figure) if len(known) else None


def at_cost(track: Track, cost: str, most: float, figure: str) -> Level | None:
    """The last window before the run had cost more than `most`; None where its first refresh came later."""
    affordable = np.flatnonzero(track.costs[cost] <= most * (1 + 1e-9))
    return level_at(track, int(affordable[-1]), figure) if len(affordable) else None

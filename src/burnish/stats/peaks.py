"""Where a noisy curve is highest, without a form for it: local quadratic fits, and the places that may be its peak.

A place may be the peak where no other place lies higher beyond chance (Hsu 1984: multiple comparisons with the best).
The interval is from the first such place to the last; that it comes from a set, and not from the scatter of the highest
point, keeps it honest on flat tops. The noise is taken to be the same everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.stats.intervals import seed_sequence

Floats = NDArray[np.float64]
SPAN = 0.2  # share of the points that a local fit looks at, with falling weight (Cleveland 1979)
FEWEST = 7  # points of a local fit, at least
PLACES = 60  # at which the curve is looked at, at most
DRAWS = 800  # of the errors' law
LEVEL = 0.95


@dataclass(frozen=True)
class Peak:
    """A peak with its 95 % interval. `first`, `last`: whether the curve's first and last places may be the peak."""

    place: float
    low: float
    high: float
    value: float
    first: bool
    last: bool


def peak_of(x: Floats, y: Floats, seed: int = 0) -> Peak:
    """The peak of y over x, [n] each, sorted by x; n is `FEWEST` at least."""
    count = len(x)
    places = np.unique(np.quantile(x, np.linspace(0.01, 0.99, min(PLACES, count))))
    there, here = local_weights(x, places), local_weights(x, x)
    freedom = max(1.0, count - 2 * float(np.trace(here)) + float((here * here).sum()))  # of the residuals
    deviation = math.sqrt(float(((y - here @ y) ** 2).sum()) / freedom)
    rng = np.random.default_rng(seed_sequence(seed, "peak"))
    errors = rng.normal(0.0, max(deviation, 1e-12), size=(DRAWS, count)) @ there.T
    curve = there @ y
    may = _may_be_highest(curve, errors)
    best = int(np.argmax(curve))
    first, last = (int(np.flatnonzero(may)[end]) for end in (0, -1))
    edges = np.concatenate([places[:1], (places[1:] + places[:-1]) / 2, places[-1:]])  # each place stands for its part
    ends = float(edges[first]), float(edges[last + 1])
    return Peak(float(places[best]), *ends, float(curve[best]), bool(may[0]), bool(may[-1]))


def _may_be_highest(curve: Floats, errors: Floats) -> NDArray[np.bool_]:
    """Whether each place may be the highest. Its critical value is that of the largest standardised difference between
    any place's error and its own."""
    covariance = np.cov(errors.T)
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * covariance, 1e-18))
    may = np.zeros(len(curve), dtype=np.bool_)
    for place in range(len(curve)):
        scaled = (errors - errors[:, [place]]) / spread[:, place]
        critical = float(np.quantile(scaled.max(axis=1), LEVEL))
        may[place] = float(((curve - curve[place]) / spread[:, place]).max()) <= critical
    may[int(np.argmax(curve))] = True
    return may


def local_weights(x: Floats, places: Floats) -> Floats:
    """[places, n]: the weights of y in a quadratic fitted around each place, tricube in the distance."""
    nearest = min(len(x), max(FEWEST, math.ceil(SPAN * len(x))))
    rows = np.zeros((len(places), len(x)))
    for number, place in enumerate(places):
        distance = np.abs(x - place)
        reach = float(np.partition(distance, nearest - 1)[nearest - 1]) * 1.0001 + 1e-12
        weight = np.clip(1 - (distance / reach) ** 3, 0.0, None) ** 3
        design = np.stack([np.ones_like(x), x - place, (x - place) ** 2], axis=1)
        weighted = design.T * weight
        rows[number] = (np.linalg.pinv(weighted @ design) @ weighted)[0]
    return rows

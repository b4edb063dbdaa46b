"""How far raters agree: with one another, with themselves, and with a judge."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.stats.intervals import seed_sequence

RESAMPLES = 400


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha with its 95 % interval; NaN where no item has two ratings. `items` have two at least."""

    alpha: float
    low: float
    high: float
    items: int


def krippendorff(items: Sequence[Mapping[str, Hashable]], resamples: int = RESAMPLES) -> Agreement:
    """Krippendorff's alpha for nominal ratings, 1 - observed over expected disagreement (Krippendorff 2018, ch. 12).

    Each item is a prompt's pair: its ratings by rater. The interval is the percentile bootstrap over items, which are
    what is sampled.
    """
    rated = [item for item in items if len(item) > 1]
    value = _alpha(rated)
    if math.isnan(value) or len(rated) < 2:
        return Agreement(value, math.nan, math.nan, len(rated))
    rng = np.random.default_rng(seed_sequence(0, "krippendorff"))
    drawn = [_alpha([rated[i] for i in rng.integers(0, len(rated), len(rated))]) for _ in range(resamples)]
    known = np.array([x for x in drawn if not math.isnan(x)])
    if not len(known):
        return Agreement(value, math.nan, math.nan, len(rated))
    low, high = np.quantile(known, [0.025, 0.975])
    return Agreement(value, float(low), float(high), len(rated))


def _alpha(items: Sequence[Mapping[str, Hashable]]) -> float:
    """The coefficient; NaN without items, or where every rating is the same."""
    import evalica
    import pandas as pd

    names = sorted({rater for item in items for rater in item})
    kinds = {kind: float(place) for place, kind in enumerate(sorted({k for i in items for k in i.values()}, key=repr))}
    if len(kinds) < 2:
        return math.nan
    columns = [[kinds[item[name]] if name in item else math.nan for item in items] for name in names]
    return float(evalica.alpha(pd.DataFrame(columns)).alpha)

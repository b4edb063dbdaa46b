"""Ensembles of reward models: several rewards of an answer -> a single score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from burnish.errors import ConfigError

How = Literal["mean", "worst", "uncertainty"]


def moments(rewards: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """(mean, standard deviation) of each member over a reference set [members][answers], for `combine`.

    Raises ConfigError where a member gives every answer the same reward.
    """
    table = np.asarray(rewards, dtype=np.float64)
    sds = table.std(axis=1)
    flat = np.flatnonzero(~(sds > 0))
    if len(flat):
        raise ConfigError(f"member {flat[0] + 1} of the ensemble gives every answer the same reward; leave it out")
    return table.mean(axis=1).tolist(), sds.tolist()


def combine(
    rewards: Sequence[Sequence[float]],
    how: How,
    *,
    means: Sequence[float],
    sds: Sequence[float],
    coef: float | None = None,
) -> list[float]:
    """A score for each answer from the rewards of several members [members][answers], as in 2310.02743.

    Members are first standardised, z = (r - mean) / sd with the moments of a reference set, since their scales are not
    comparable. `mean` is the mean of z over members, `worst` the smallest (WCO), `uncertainty` the mean minus `coef`
    times the variance over members, 1/M sum (z - mean)^2 (UWO). Raises ConfigError for what does not fit together.
    """
    table = np.asarray(rewards, dtype=np.float64)
    if (coef is None) == (how == "uncertainty"):
        need = "needs the coefficient of the variance" if coef is None else "takes no coefficient"
        raise ConfigError(f"an ensemble combined by '{how}' {need}")
    if table.ndim != 2 or not len(table) or not len(table) == len(means) == len(sds):
        raise ConfigError(f"an ensemble of {len(table)} members has {len(means)} means and {len(sds)} deviations")
    if not all(sd > 0 for sd in sds):
        raise ConfigError("a member of the ensemble has no spread over the reference set; leave it out")
    scaled = (table - np.asarray(means)[:, None]) / np.asarray(sds)[:, None]
    if how == "worst":
        return [float(x) for x in scaled.min(axis=0)]
    variance = scaled.var(axis=0) if coef is not None else 0.0
    return [float(x) for x in scaled.mean(axis=0) - (coef or 0.0) * variance]

"""Several reward models as one, and how far they disagree: where they do, none of them should be trusted alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from burnish.errors import ConfigError
from burnish.reports.rewards.columns import Answers, Floats, Pairs, figures
from burnish.reports.rewards.records import Scorer

How = Literal["mean", "worst", "uncertainty"]
BINS = 4  # of the disagreement, by its quantiles


def moments(rewards: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """(mean, standard deviation) of each member over a reference set [members][answers]: what `combine` wants.

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
    """One reward an answer from those of several members [members][answers], as in 2310.02743.

    Members are first standardised, z = (r - mean) / sd with the moments of a reference set, for their scales are not
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


def disagreement(answers: Answers, pairs: Pairs, scorers: Sequence[Scorer]) -> dict[str, Any]:
    """For each ensemble whose members stand beside it, how far they disagree, and its accuracy where they do.

    Members are standardised over the answers at hand. `sd` is the mean over answers of the standard deviation between
    members; a pair's disagreement is the standard deviation between their margins; `split` is the share of pairs (by
    weight) whose margins do not all have the same sign. The bins are quantiles of the disagreement.
    """
    found: dict[str, Any] = {}
    for scorer in scorers:
        if scorer.kind != "ensemble" or len(scorer.members) < 2:
            continue
        table = np.stack([answers.rewards[member] for member in scorer.members])
        sds = table.std(axis=1, keepdims=True)
        if not (sds > 0).all():
            flat = scorer.members[int(np.flatnonzero(~(sds[:, 0] > 0))[0])]
            found[scorer.name] = {
                "members": list(scorer.members),
                "said": f"{flat} gives every answer the same reward, so its disagreement has no scale",
            }
            continue
        table = (table - table.mean(axis=1, keepdims=True)) / sds
        row: dict[str, Any] = {"members": list(scorer.members), "sd": float(table.std(axis=0).mean())}
        if len(pairs):
            row |= _over_pairs(table[:, pairs.winners] - table[:, pairs.losers], pairs, scorer.name)
        found[scorer.name] = row
    return found


def _over_pairs(margins: Floats, pairs: Pairs, name: str) -> dict[str, Any]:
    """margins [members, pairs], standardised."""
    signs = np.sign(margins)
    split = (signs != signs[0]).any(axis=0)
    between = margins.std(axis=0)
    edges = np.quantile(between, np.linspace(0, 1, BINS + 1))
    places = np.clip(np.searchsorted(edges, between, side="left") - 1, 0, BINS - 1)
    rows = []
    for b in range(BINS):
        here: NDArray[np.bool_] = np.asarray(places == b, dtype=bool)
        if here.any():
            share = figures(pairs.accuracy(pairs.margins[name], here))
            rows.append({"pairs": int(here.sum()), "disagreement": float(between[here].mean()), **share})
    return {"split": float((pairs.weights * split).sum() / pairs.weights.sum()), "bins": rows}

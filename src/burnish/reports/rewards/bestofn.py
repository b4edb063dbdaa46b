"""What the best of n answers by a scorer is worth: by the scorer's reward, and by gold scores.

The estimator is exact over all subsets, not sampled: with K answers sorted by the proxy, the i-th smallest (from 1) is
the best of n drawn without replacement with probability C(i - 1, n - 1) / C(K, n) (the unbiased estimator of pass@k and
of best-of-n in 2112.09332, appendix I). Answers with the same proxy share their probability evenly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.reports.rewards.columns import Answers, Floats, Ints, figures, finite
from burnish.reports.rewards.spread import within_sd
from burnish.stats import clustered_mean

MOST = 64  # answers drawn, at most


def order_weights(count: int, most: int) -> Floats:
    """[n - 1, i - 1]: probability that the i-th smallest of `count` is the largest of n drawn, for n = 1..most."""
    weights = np.zeros((most, count))
    weights[0] = 1 / count
    places = np.arange(1, count + 1)
    for n in range(1, most):  # C(i-1, n) / C(i-1, n-1) x C(K, n) / C(K, n+1)
        weights[n] = weights[n - 1] * (places - n) / n * (n + 1) / (count - n)
    return weights


def best_of(proxy: Floats, values: Floats, most: int) -> Floats:
    """E[value of the best by `proxy` among n], n = 1..most, over all subsets of n of the K answers; most <= K."""
    order = np.argsort(proxy, kind="stable")
    _, tied = np.unique(proxy[order], return_inverse=True)
    evened = (np.bincount(tied, weights=values[order]) / np.bincount(tied))[tied]
    return np.asarray(order_weights(len(proxy), most) @ evened, dtype=np.float64)


def reach(sizes: Sequence[int]) -> int:
    """The n up to which a curve is drawn, at most 64: the one with the most points, (n - 1) x groups of n or more.

    Every point of a curve is over the same groups, those with at least so many answers.
    """
    candidates = sorted({min(size, MOST) for size in sizes})
    return max(candidates, key=lambda n: (n - 1) * sum(size >= n for size in sizes), default=1)


def best_of_n(answers: Answers) -> dict[str, Any] | None:
    """Curves over n for every scorer, means over groups with intervals clustered by prompt; None where K is 1.

    `proxy` is the scorer's reward, `gain` the same less its value at n = 1, in standard deviations within a prompt;
    `gold` the data's score of the answer picked, and under "gold" that of picking by gold itself, which nothing beats.
    `fall` is, where gold peaks before the end, gold at the end minus gold at the peak. Only groups with gold scores are
    drawn where any has them.
    """
    starts = np.flatnonzero(np.diff(answers.groups, prepend=-1))
    members = np.split(np.arange(len(answers.groups)), starts[1:])
    known = [index for index in members if np.isfinite(answers.gold[index]).all()]
    members = known or members
    most = reach([len(index) for index in members])
    members = [index for index in members if len(index) >= most]
    if most < 2:
        return None
    prompts = np.array([answers.prompts[index[0]] for index in members], dtype=np.int64)

    def curves(proxy: Floats, values: Floats) -> Floats:
        return np.stack([best_of(proxy[index], values[index], most) for index in members])

    by: dict[str, Any] = {}
    for name, rewards in answers.rewards.items():
        proxy = curves(rewards, rewards)
        sd = within_sd(rewards, answers)
        row: dict[str, Any] = {"proxy": _over(proxy, prompts)}
        row["gain"] = _over((proxy - proxy[:, :1]) / sd, prompts) if sd > 0 else None
        if known:
            row |= _against_gold(curves(rewards, answers.gold), prompts)
        by[name] = row
    return {
        "n": list(range(1, most + 1)),
        "kl": [math.log(n) - (n - 1) / n for n in range(1, most + 1)],
        "groups": len(members),
        "prompts": len(np.unique(prompts)),
        "by": by,
        "gold": _over(curves(answers.gold, answers.gold), prompts) if known else None,
    }


def _against_gold(curves: Floats, prompts: Ints) -> Mapping[str, Any]:
    """Gold along n [groups, n], the n of its peak, and how far it falls from there to the end, if at all."""
    last = curves.shape[1] - 1
    peak = int(np.argmax(curves.mean(axis=0)))
    fall = figures(clustered_mean(curves[:, last] - curves[:, peak], prompts)) if peak < last else None
    return {"gold": _over(curves, prompts), "peak": peak + 1, "fall": fall}


def _over(curves: Floats, prompts: Ints) -> dict[str, list[float | None]]:
    """Mean and interval at each n, of curves [groups, n]."""
    means = [clustered_mean(curves[:, n], prompts) for n in range(curves.shape[1])]
    return {name: [finite(getattr(mean, name)) for mean in means] for name in ("value", "low", "high")}

"""How rewards vary within a prompt, and with length. Rewards without spread teach nothing (2503.15477)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from burnish.reports.rewards.columns import Answers, Floats, figures, finite
from burnish.stats import clustered_correlation


def length_correlation(answers: Answers) -> dict[str, Any]:
    """Pearson's correlation of reward and length, both centred by prompt, for every scorer.

    Under `gold`, where the data has scores, the correlation of those: the raters' taste in length.
    """
    by = {
        name: figures(clustered_correlation(rewards, answers.lengths, answers.prompts))
        for name, rewards in answers.rewards.items()
    }
    known = np.isfinite(answers.gold)
    gold = clustered_correlation(answers.gold[known], answers.lengths[known], answers.prompts[known])
    return {"by": by, "gold": figures(gold) if known.any() else None}


def spread(answers: Answers, *, levels: dict[str, bool]) -> dict[str, Any]:
    """For every scorer the spread of its rewards within a prompt.

    `sd` is sqrt(SSW / (answers - prompts)) with SSW the sum of squares about each prompt's mean; `share` is SSW / SST,
    None where `levels` says that the scorer's level between prompts means nothing (an implicit reward is known up to a
    constant of the prompt); `flat` is the share of groups of two or more answers that all have the same reward.
    """
    by = {}
    for name, rewards in answers.rewards.items():
        inside = float((centred(rewards, answers) ** 2).sum())
        whole = float(((rewards - rewards.mean()) ** 2).sum())
        by[name] = {
            "sd": finite(within_sd(rewards, answers)),
            "share": inside / whole if levels[name] and whole > 0 else None,
            "flat": finite(_flat(rewards, answers)),
        }
    return by


def centred(values: Floats, answers: Answers) -> Floats:
    """Values [answers] minus the mean of their prompt."""
    counts = np.bincount(answers.prompts)
    return values - (np.bincount(answers.prompts, weights=values) / counts)[answers.prompts]


def within_sd(values: Floats, answers: Answers) -> float:
    """sqrt(sum of squares about the prompts' means / (answers - prompts)); NaN where each prompt has one answer."""
    freedom = len(values) - len(np.unique(answers.prompts))
    return math.sqrt(float((centred(values, answers) ** 2).sum()) / freedom) if freedom else math.nan


def _flat(rewards: Floats, answers: Answers) -> float:
    starts = np.flatnonzero(np.diff(answers.groups, prepend=-1))
    several = np.diff(np.append(starts, len(rewards))) > 1
    reach = np.maximum.reduceat(rewards, starts) - np.minimum.reduceat(rewards, starts)
    return float((reach[several] == 0).mean()) if several.any() else math.nan

"""Scored groups as columns of numbers: one row an answer, and one row a judged pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.data.identity import plain
from burnish.reports.rewards.records import ScoredGroup
from burnish.stats import Mean, Share, clustered_share

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """[answers] each: number of the prompt and of the group, length in tokens, gold (NaN where unknown), rewards."""

    prompts: Ints
    groups: Ints
    lengths: Floats
    gold: Floats
    rewards: Mapping[str, Floats]

    @staticmethod
    def of(groups: Sequence[ScoredGroup], scorers: Sequence[str]) -> Answers:
        prompts = numbered([plain(group.prompt) for group in groups])
        sizes = [len(group.answers) for group in groups]
        gold = [group.gold if group.gold is not None else (np.nan,) * len(group.answers) for group in groups]
        return Answers(
            np.repeat(prompts, sizes),
            np.repeat(np.arange(len(groups), dtype=np.int64), sizes),
            _floats([length for group in groups for length in group.lengths]),
            _floats([score for scores in gold for score in scores]),
            {name: _floats([r for group in groups for r in group.rewards[name]]) for name in scorers},
        )


@dataclass(frozen=True)
class PairMargins:
    """[pairs] each: prompt, group, rows of winner and loser in `Answers`, weight, winner's minus loser's length in
    tokens, and each scorer's margin, r(winner) - r(loser)."""

    prompts: Ints
    groups: Ints
    winners: Ints
    losers: Ints
    weights: Floats
    gaps: Floats
    margins: Mapping[str, Floats]

    @staticmethod
    def of(groups: Sequence[ScoredGroup], answers: Answers) -> PairMargins:
        starts = np.concatenate([[0], np.cumsum([len(group.answers) for group in groups])]).astype(np.int64)
        rows = [
            (index, starts[index] + winner, starts[index] + loser, weight)
            for index, group in enumerate(groups)
            for winner, loser, weight in group.pairs
        ]
        of_group, winners, losers = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
        return PairMargins(
            answers.prompts[winners],
            of_group,
            winners,
            losers,
            _floats([row[3] for row in rows]),
            answers.lengths[winners] - answers.lengths[losers],
            {name: rewards[winners] - rewards[losers] for name, rewards in answers.rewards.items()},
        )

    def __len__(self) -> int:
        return len(self.prompts)

    def accuracy(self, margins: Floats, mask: NDArray[np.bool_] | None = None) -> Share:
        """sum w credit(margin) / sum w, by default over all pairs; the interval is clustered by prompt."""
        kept = np.ones(len(self), dtype=bool) if mask is None else mask
        return clustered_share(credit(margins[kept]), self.prompts[kept], self.weights[kept])


def credit(margins: Floats) -> Floats:
    """1 where the margin is positive, 1/2 where it is zero, 0 where it is negative."""
    return np.heaviside(margins, 0.5).astype(np.float64)


def numbered(texts: Sequence[str]) -> Ints:
    """A number for each distinct text, in the order in which they come."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def figures(estimate: Share | Mean) -> dict[str, Any]:
    """value, low, high for JSON, which has no NaN: what is not known is None."""
    return {name: finite(getattr(estimate, name)) for name in ("value", "low", "high")}


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _floats(values: Sequence[int | float]) -> Floats:
    return np.array(values, dtype=np.float64)

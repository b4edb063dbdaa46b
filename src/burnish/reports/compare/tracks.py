"""A run along its way: at each refresh its quality and its KL, and what it had cost by then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.reports.history import History

Floats = NDArray[np.float64]
FIGURES = ("gold", "reward", "kl/answer", "length", "entropy/token", "distinct", "judge_accuracy")
COSTS = ("seconds", "tokens", "labels")


@dataclass(frozen=True)
class Track:
    """The refreshes of a run in order, [n] each; NaN where a refresh lacks a figure.

    `costs`: by then, in seconds of steps, tokens computed, and labels (answers judged, or groups of the data seen).
    """

    name: str
    step: NDArray[np.int64]
    figures: Mapping[str, Floats]
    costs: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.step)

    @property
    def window(self) -> int:
        """Refreshes that a figure at a point is the mean of: a tenth of the run, from 1 to 10."""
        return max(1, min(10, len(self) // 10))


def track_of(history: History) -> Track:
    """The track of a run; without refreshes it is empty."""
    refreshes = history.refreshes
    step = np.array([refresh.step for refresh in refreshes], dtype=np.int64)
    columns = {name: [refresh.metrics.get(name, np.nan) for refresh in refreshes] for name in FIGURES}
    figures = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    return Track(history.name, step, figures, _costs(history, step))


def _costs(history: History, step: NDArray[np.int64]) -> dict[str, Floats]:
    """Sums over the steps before each refresh, and the labels of the refreshes so far."""
    made = np.array([record.step for record in history.steps], dtype=np.int64)
    by_step = {
        "seconds": np.array([record.seconds for record in history.steps], dtype=np.float64),
        "tokens": np.array([record.tokens for record in history.steps], dtype=np.float64),
    }
    before = [made < at for at in step]
    costs = {name: np.array([values[earlier].sum() for earlier in before]) for name, values in by_step.items()}
    fresh = history.run is not None and history.run.sampled
    if fresh:
        answers = np.array([refresh.metrics.get("answers", 0.0) for refresh in history.refreshes], dtype=np.float64)
        costs["labels"] = np.cumsum(answers)
    else:
        groups = np.array([record.groups or 0 for record in history.steps], dtype=np.float64)
        costs["labels"] = np.array([_labels(history, float(groups[earlier].sum())) for earlier in before])
    return costs


def _labels(history: History, seen: float) -> float:
    """Labels of a data set that were used up: a group that comes again costs nothing."""
    different = len(history.completions.groups)
    return min(seen, float(different)) if different else seen


def totals(history: History) -> dict[str, float]:
    """What a run cost in all: seconds and tokens of its steps, labels, and dollars where a judge has a price."""
    fresh = history.run is not None and history.run.sampled
    answers = sum(refresh.metrics.get("answers", 0.0) for refresh in history.refreshes)
    labels = answers if fresh else _labels(history, sum((float(record.groups or 0) for record in history.steps), 0.0))
    dollars = max((refresh.metrics.get("judge/dollars", 0.0) for refresh in history.refreshes), default=0.0)
    found = {
        "steps": float(len(history.steps)), "seconds": sum(record.seconds for record in history.steps),
        "tokens": float(sum(record.tokens for record in history.steps)), "labels": labels,
    }  # fmt: skip
    return found | ({"dollars": dollars} if dollars else {})

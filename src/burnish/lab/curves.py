"""What a run's own answers were like, read from its log: gold, reward, KL and the judge's accuracy by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.runlog import log
from burnish.runlog.records import RefreshRecord

FEWEST_PAIRS = 20  # that a judge's accuracy is quoted of, in one refresh
WINDOW = 10  # refreshes that a figure at a step is the mean of


@dataclass(frozen=True)
class RunCurves:
    """One arm of the dial for one seed: a number for each refresh, NaN where there was nothing to measure."""

    steps: list[int]
    """Optimiser steps done before the refresh."""
    gold: list[float]
    """Mean gold utility of the answers."""
    reward: list[float]
    """Mean reward of the judge."""
    kl: list[float]
    """Exact KL to the reference, nats an answer."""
    accuracy: list[float]
    """Share of pairs of answers that the judge puts as gold does; NaN where there were fewer than 20 pairs."""

    def at_end(self, name: str) -> float:
        """Mean over the last window in which there was something to measure.

        A collapsed policy's answers leave a judge nothing to be right about.
        """
        values: list[float] = [value for value in getattr(self, name) if value == value]
        if not values:
            return math.nan
        tail = values[-WINDOW:] if len(values) > 3 * WINDOW else values[-1:]
        return sum(tail) / len(tail)


def curves_of(run_dir: Path) -> RunCurves:
    """The curves of a run, from its log. Raises DataError where it has none."""
    refreshes = list(log.read(run_dir, RefreshRecord))

    def column(name: str) -> list[float]:
        return [refresh.metrics.get(name, math.nan) for refresh in refreshes]

    counted = zip(column("judge_accuracy"), column("judge_pairs"), strict=True)
    accuracy = [share if pairs >= FEWEST_PAIRS else math.nan for share, pairs in counted]
    steps = [refresh.step - 1 for refresh in refreshes]
    return RunCurves(steps, column("gold"), column("reward"), column("kl/answer"), accuracy)


def smoothed(values: Sequence[float]) -> list[float]:
    """Mean over the window around each point."""
    half = WINDOW // 2 if len(values) > 3 * WINDOW else 0
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]

"""One arm of the dial on the flash cards, read from its log: gold, reward, KL and the judge's accuracy by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.runlog import log
from burnish.runlog.records import RefreshRecord

FEWEST_PAIRS = 20  # that a judge's accuracy is quoted of, in one refresh
WINDOW = 10  # refreshes that a figure at a step is the mean of


@dataclass(frozen=True)
class Curve:
    """One arm of one seed, from its log: by optimiser steps, what its own answers were like."""

    steps: list[int]
    gold: list[float]
    reward: list[float]
    kl: list[float]
    accuracy: list[float]

    def at_end(self, name: str) -> float:
        """Mean over the last window in which there was something to measure: a collapsed policy's answers leave a
        judge nothing to be right about."""
        values: list[float] = [value for value in getattr(self, name) if value == value]
        if not values:
            return float("nan")
        tail = values[-WINDOW:] if len(values) > 3 * WINDOW else values[-1:]
        return sum(tail) / len(tail)


def curve_of(run_dir: Path) -> Curve:
    """What the run's own answers were like, from its log."""
    records = list(log.read(run_dir, RefreshRecord))

    def column(name: str) -> list[float]:
        return [r.metrics.get(name, float("nan")) for r in records]

    steps = [r.step - 1 for r in records]
    pairs = column("judge_pairs")
    accuracy = [a if n >= FEWEST_PAIRS else float("nan") for a, n in zip(column("judge_accuracy"), pairs, strict=True)]
    return Curve(steps, column("gold"), column("reward"), column("kl/answer"), accuracy)


def smoothed(values: Sequence[float]) -> list[float]:
    """Mean over the window around each point."""
    half = WINDOW // 2 if len(values) > 3 * WINDOW else 0
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]

"""How often 95 % intervals of win rates hold the truth, in simulated worlds; AlpacaEval's standard error beside ours.

    python benchmarks/win_rate_coverage.py [--worlds 4000] --out results/win_rate_coverage.json

A world has n prompts, with one judged pair each or one to three ("clusters", which share an effect of their prompt), a
tie in five, and a judge whose log-odds rise with the tanh of the length difference. The truth is the raw rate, and the
regression's value at equal length, in the limit of many pairs; two million give it.

AlpacaEval 2's length-controlled standard error (`lc_standard_error`) is the standard error of the mean over instances
of the predicted chance at equal length. Its model has an ability, a length and a difficulty of each instruction. Here
the difficulty is the prompt's true effect, which is kinder than its estimated table, and noise where prompts have no
effect (its authors say that noise will do). The penalty, whose strength it finds by cross-validation, is left small.
Its interval is the estimate +- 1.96 standard errors.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine
from numpy.typing import NDArray
from scipy.optimize import minimize

from burnish.stats import Verdicts, win_rate
from burnish.stats.verdicts import fit, standardised

Floats = NDArray[np.float64]
SIZES = (50, 200, 800)
TIES = 0.2


@dataclass(frozen=True)
class World:
    """How a judge decides: log-odds = edge + slope x tanh(length) + the prompt's effect."""

    name: str
    edge: float
    slope: float
    effect: float  # standard deviation over prompts
    most: int = 1  # pairs of one prompt


WORLDS = (
    World("fair judge", 0.3, 0.0, 0.0),
    World("likes length", 0.3, 0.8, 0.0),
    World("likes length much", 1.0, 1.6, 0.0),
    World("clusters, likes length", 0.3, 0.8, 0.8, most=3),
)


def drawn(world: World, prompts: int, rng: np.random.Generator) -> tuple[Verdicts, Floats]:
    """Verdicts on so many prompts, and how hard each pair's prompt is."""
    ids = np.repeat(np.arange(prompts), rng.integers(1, world.most + 1, prompts))
    effects = rng.normal(0.0, world.effect, prompts)[ids] if world.effect else np.zeros(len(ids))
    lengths = rng.normal(0.4, 1.0, len(ids))
    chance = 1 / (1 + np.exp(-(world.edge + world.slope * np.tanh(lengths) + effects)))
    outcomes = (rng.random(len(ids)) < chance).astype(np.float64)
    outcomes[rng.random(len(ids)) < TIES] = 0.5
    return Verdicts(ids, outcomes, 100 * lengths), effects if world.effect else rng.normal(size=len(ids))


def truth(world: World) -> tuple[float, float]:
    """(raw, length-controlled) in the limit."""
    verdicts, _ = drawn(world, 2_000_000 // world.most, np.random.default_rng(0))
    ones = np.ones((1, len(verdicts.outcomes)))
    (intercept, _), *_ = fit(verdicts.outcomes, standardised(verdicts.longer), ones)
    return float(verdicts.outcomes.mean()), float(1 / (1 + np.exp(-intercept)))


def alpaca_eval(verdicts: Verdicts, difficulty: Floats) -> tuple[float, float]:
    """(estimate, half-width) of the interval that AlpacaEval's standard error gives."""
    scaled = standardised(verdicts.longer)
    columns = np.stack([np.ones_like(scaled), scaled, difficulty], axis=1)

    def loss(beta: Floats) -> tuple[float, Floats]:
        odds = columns @ beta
        slope = columns.T @ (1 / (1 + np.exp(-odds)) - verdicts.outcomes) + 2e-3 * beta
        return float(np.logaddexp(0, odds).sum() - verdicts.outcomes @ odds + 1e-3 * beta @ beta), slope

    ability, _, hard = minimize(loss, np.zeros(3), jac=True, method="BFGS").x
    chances = 1 / (1 + np.exp(-(ability + hard * difficulty)))
    return float(chances.mean()), 1.96 * float(chances.std(ddof=1)) / float(np.sqrt(len(chances)))


def coverage(world: World, prompts: int, worlds: int) -> dict[str, Any]:
    raw, controlled = truth(world)
    held = {"raw": 0, "controlled": 0, "alpaca_eval": 0}
    widths = dict.fromkeys(held, 0.0)
    for seed in range(worlds):
        verdicts, effects = drawn(world, prompts, np.random.default_rng([prompts, seed]))
        found = win_rate(verdicts, seed)
        middle, half = alpaca_eval(verdicts, effects)
        intervals = {
            "raw": (found.raw.low, raw, found.raw.high),
            "controlled": (found.controlled.low, controlled, found.controlled.high),
            "alpaca_eval": (middle - half, controlled, middle + half),
        }
        for name, (low, value, high) in intervals.items():
            held[name] += low <= value <= high
            widths[name] += (high - low) / worlds
    return {
        "world": world.name, "prompts": prompts, "worlds": worlds, "truth": {"raw": raw, "controlled": controlled},
        "coverage": {name: count / worlds for name, count in held.items()}, "mean_width": widths,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=4000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    print(f"{'world':24} {'prompts':>7} {'raw':>10} {'LC':>10} {'AlpacaEval':>10}   coverage of 95 % intervals")
    for world in WORLDS:
        for prompts in SIZES:
            row = coverage(world, prompts, given.worlds)
            rows.append(row)
            held = row["coverage"]
            shares = "".join(f"{held[name]:11.1%}" for name in held)
            print(f"{world.name:24} {prompts:7}{shares}", flush=True)
            given.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

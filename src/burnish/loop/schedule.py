"""What a run does at each step, as pure functions of the step and the seed, so that nothing here needs saving: which
groups, how many steps in all, which learning rate.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from burnish.config import Run
from burnish.findings import counted
from burnish.stats import seed_sequence

FEW_STEPS = 50
PUBLISHED_STEPS = 200


@lru_cache(maxsize=4)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch's groups: a pure function of (seed, epoch)."""
    return np.random.default_rng(seed_sequence(seed, epoch)).permutation(count)


def step_indices(step: int, count: int, per_step: int, seed: int, end: int | None = None) -> list[int]:
    """Groups of step `step` (from 0): a window on the endless sequence of shuffled epochs, cut at `end`."""
    first, last = step * per_step, (step + 1) * per_step
    positions = range(first, min(last, end) if end is not None else last)
    shuffled = {epoch: order(count, seed, epoch) for epoch in {p // count for p in positions}}
    return [int(shuffled[p // count][p % count]) for p in positions]


def total_steps(run: Run, count: int) -> tuple[int, int | None]:
    """(number of optimiser steps, number of groups at which an epoch-bounded run ends)."""
    if run.optim.steps is not None:
        return run.optim.steps, None
    end = round((run.optim.epochs or 1.0) * count)
    return max(1, -(-end // run.optim.groups_per_step)), max(1, end)


def learning_rate(step: int, total: int, *, peak: float, kind: str, warmup: float) -> float:
    """Rate of step `step` (from 0) of `total`. `warmup` is a fraction of the steps, risen linearly; then constant,
    linear to 0, or half a cosine to 0. The first step never has rate 0.
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    done = (step - rising) / max(1, total - rising)
    if kind == "constant":
        return peak
    if kind == "linear":
        return peak * (1 - done)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def steps_advice(steps: int, groups: int, per_step: int, *, fixed: bool = False) -> str | None:
    """A sentence where a data set gives fewer steps than a policy needs to move, and the keys that give more.

    `fixed` is for a number of steps that `optim.steps` names: then only a set smaller than one step, and a run of two
    steps or one, are spoken of.
    """
    if steps >= FEW_STEPS or fixed:
        return _sizes_advice(steps, groups, per_step)
    smaller = max(1, min(per_step, groups // 8))
    epochs = max(1, -(-FEW_STEPS * smaller // groups))
    return (
        f"advice: {counted(groups, 'group')} in steps of {per_step} make {counted(steps, 'step')}, "
        f"and a policy hardly moves in fewer than {FEW_STEPS}: set optim.groups_per_step={smaller} "
        f"optim.epochs={epochs}"
    )


def _sizes_advice(steps: int, groups: int, per_step: int) -> str | None:
    if groups < per_step:
        return (
            f"advice: {counted(groups, 'group')} for steps of {per_step} (optim.groups_per_step): a step takes each "
            f"{per_step / groups:.2g} times; more groups, or smaller steps, make steps that differ"
        )
    if steps <= 2:
        return f"advice: {counted(steps, 'step')} in all (optim.steps): such a run tries the set-up, and teaches little"
    return None


def lr_advice(
    objective: str, lr: float, published: tuple[float, float], adapter: bool, steps: int = PUBLISHED_STEPS
) -> str | None:
    """A sentence when the learning rate is more than ten times outside what was published for the objective.

    Published runs make some hundred steps; a run of fewer may go as much faster, up to ten times.
    """
    low, high = (bound * (10 if adapter else 1) for bound in published)
    high *= min(10.0, max(1.0, PUBLISHED_STEPS / steps))
    kind = "adapters (about ten times those of full training)" if adapter else "full training"
    if lr > 10 * high:
        return (
            f"advice: optim.lr = {lr:g} is far above published values for {objective}, {low:g} to {high:g} with {kind}"
        )
    if lr < low / 10:
        return (
            f"advice: optim.lr = {lr:g} is far below published values for {objective}, {low:g} to {high:g} with {kind}"
        )
    return None

"""The learning rate as a pure function of the step, so that nothing about it needs saving."""

from __future__ import annotations

import math


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

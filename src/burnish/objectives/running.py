"""Running averages of objectives that carry something from step to step; updated from the step's sums before their use.

Each takes (state, sums of the step's pairs, a generator of this step's random numbers) and gives (new state, arguments
of the objective's function for this step).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from burnish.objectives.batch import beta_dpo_state
from burnish.tensors import PairSums

BETA_DPO_START = {"m0": 0.0, "s0": 1.0}
ALPHA_DPO_START = {"mu": 0.0, "sigma": 1.0}


def beta_dpo_step(
    state: Mapping[str, float], sums: PairSums, generator: torch.Generator, *, momentum: float = 0.9, rho: float = 0.2
) -> tuple[dict[str, float], dict[str, Any]]:
    """Mean and spread of D as running averages, and the `(1 - rho)` of the step's pairs that are trained on, drawn
    without replacement by `exp(-(D - m0)^2 / (2 s0^2))` (2407.08639): far outliers are likely left out."""
    margins = (sums.chosen - sums.rejected).double().cpu()
    m0, s0, _ = beta_dpo_state(state["m0"], state["s0"], margins.tolist(), momentum=momentum)
    count = max(1, int((1 - rho) * len(margins)))
    # the largest of log-weight + Gumbel noise are a draw without replacement, also where every weight underflows
    gumbel = -torch.empty(len(margins), dtype=torch.float64).exponential_(generator=generator).log()
    log_weight = -(margins - m0).square() / (2 * max(s0, torch.finfo(torch.float64).tiny) ** 2)
    kept = (log_weight.clamp(min=-1e300) + gumbel).topk(count).indices.sort().values
    return {"m0": m0, "s0": s0}, {"m0": m0, "keep": tuple(kept.tolist())}


def alpha_dpo_step(
    state: Mapping[str, float], sums: PairSums, generator: torch.Generator, *, momentum: float = 0.9
) -> tuple[dict[str, float], dict[str, Any]]:
    """Mean and standard deviation of the pairs' gap of mean log-ratios as running averages (2410.10148)."""
    sides = ((sums.chosen, sums.chosen_lengths), (sums.rejected, sums.rejected_lengths))
    means = [ratio.double() / length.clamp(min=1) for ratio, length in sides]
    gap = means[0] - means[1]
    moved = {
        "mu": momentum * state["mu"] + (1 - momentum) * float(gap.mean()),
        "sigma": momentum * state["sigma"] + (1 - momentum) * float(gap.std(correction=0)),
    }
    return moved, dict(moved)

"""Metrics of a microbatch of pairs (objectives.md section 11), each a sum with its own count."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.tensors import Metric, Pairs, TokenScores


def pair_metrics(rewards: Tensor, scores: TokenScores, pairs: Pairs) -> Mapping[str, Metric]:
    """`rewards` [completions] is the reward inside the loss. Ties count one half; the strict count has its own name."""
    margin = (rewards[pairs.chosen] - rewards[pairs.rejected]).double()
    longer = (scores.lengths[pairs.chosen] - scores.lengths[pairs.rejected]).double()
    accuracy = half_ties(margin)
    values = {
        "rewards/chosen": rewards[pairs.chosen],
        "rewards/rejected": rewards[pairs.rejected],
        "rewards/margins": margin,
        "rewards/accuracies": accuracy,
        "rewards/accuracies_strict": (margin > 0).double(),
        "rewards/accuracies_longer": accuracy[longer > 0],
        "rewards/accuracies_shorter": accuracy[longer < 0],
        "calibration/nll": -F.logsigmoid(margin),
        "calibration/brier": torch.sigmoid(-margin).square(),
        "length/longer_wins": half_ties(longer),
    }
    with torch.no_grad():
        logps = scores.logps
        ratios = None if scores.reference is None else scores.logratios
        for side, index in (("chosen", pairs.chosen), ("rejected", pairs.rejected)):
            values[f"logps/{side}"] = logps[index]
            values[f"logps/{side}_per_token"] = logps[index] / scores.counts[index]
            values[f"length/{side}"] = scores.lengths[index].double()
            if ratios is not None:
                values[f"logratio/{side}"] = ratios[index]
                values[f"logratio/{side}_per_token"] = ratios[index] / scores.counts[index]
    return {name: Metric.of(value) for name, value in values.items()}


def half_ties(x: Tensor) -> Tensor:
    """1 where positive, 1/2 where zero, 0 where negative; not a number stays one."""
    return torch.where(x.isnan(), x, torch.heaviside(x, x.new_tensor(0.5)))

"""Maximum likelihood: the objective of supervised fine-tuning, and the anchor beside it in mixtures."""

from __future__ import annotations

import torch

from burnish.tensors import Losses, Metric, Singles, TokenScores


def sft(scores: TokenScores, singles: Singles) -> Losses:
    """`-p_t` for every token of the chosen completions; the loop's division makes it the step's mean per token."""
    trained = torch.zeros(scores.lengths.shape[0], dtype=torch.bool, device=scores.policy.device)
    trained[singles.index] = True
    losses = -scores.policy[trained[scores.completion_of]]
    sums = scores.logps.detach()[singles.index]
    metrics = {
        "logps/chosen": Metric.of(sums),
        "logps/chosen_per_token": Metric.of(sums / scores.counts[singles.index]),
        "length/chosen": Metric.of(scores.lengths[singles.index]),
    }
    return Losses(losses, "token", metrics)

"""What the objectives of pairs share: margins, the smoothed logistic, and losses with their metrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import pair_metrics
from burnish.tensors import Losses, Pairs, TokenScores


def smoothed_logistic(z: Float[Tensor, " pairs"], e: float) -> Float[Tensor, " pairs"]:
    """`-(1-e) log s(z) - e log s(-z)`; at e = 0 the second term is left out, for 0 x -inf is not a number."""
    loss = -F.logsigmoid(z)
    return loss if e == 0 else (1 - e) * loss - e * F.logsigmoid(-z)


def margin(values: Float[Tensor, " completions"], pairs: Pairs) -> Float[Tensor, " pairs"]:
    return values[pairs.chosen] - values[pairs.rejected]


def pair_losses(losses: Tensor, rewards: Tensor, scores: TokenScores, pairs: Pairs) -> Losses:
    """Weighted losses, with the metrics every pair objective logs: of the reward that is inside its loss."""
    metrics = pair_metrics(rewards.detach(), scores, pairs)
    weighted = torch.where(pairs.weight == 1, losses, losses * pairs.weight)
    return Losses(weighted, "pair", metrics, rewards.detach())

"""Objectives of pairs: from two answers' log-probs to one loss. One short function each, shaped like its equation.

Notation (objectives.md): S summed policy log-probs, a and b summed log-ratios of chosen and rejected, D = a - b,
a hat divides by the number of tokens. Every function returns one loss per pair, un-reduced.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.measures import pair_metrics
from burnish.tensors import Losses, Pairs, TokenScores


def smoothed_logistic(z: Float[Tensor, " pairs"], e: float) -> Float[Tensor, " pairs"]:
    """`-(1-e) log s(z) - e log s(-z)`; at e = 0 the second term is left out, for 0 x -inf is not a number."""
    loss = -F.logsigmoid(z)
    return loss if e == 0 else (1 - e) * loss - e * F.logsigmoid(-z)


def dpo(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Losses:
    """`-log s(beta D)`, Direct Preference Optimization (2305.18290, eq. 7); with label smoothing, conservative DPO.

    `beta` is per sequence. `label_smoothing` is the believed share of flipped labels: the loss is then least at
    `beta D = log((1-e)/e)` instead of at infinity (Mitchell's note on cDPO).
    """
    rewards = beta * scores.logratios
    return _losses(smoothed_logistic(_margin(rewards, pairs), label_smoothing), rewards, scores, pairs)


def dpo_norm(scores: TokenScores, pairs: Pairs, *, beta: float = 5.0, label_smoothing: float = 0.0) -> Losses:
    """`-log s(beta (a hat - b hat))`: DPO on mean log-ratios (Tulu 3, 2411.15124, eq. 6). `beta` is per token."""
    rewards = beta * scores.logratios / scores.counts
    return _losses(smoothed_logistic(_margin(rewards, pairs), label_smoothing), rewards, scores, pairs)


def ipo(scores: TokenScores, pairs: Pairs, *, tau: float = 0.1, normalize: Literal["sum", "avg"] = "sum") -> Losses:
    """`(D - 1/(2 tau))^2` (2310.12036, eq. 17), or with `avg` on mean log-ratios, as its authors ran it (TRL #1265).

    `tau` plays beta's part: larger stays closer to the reference. It is per sequence with `sum`, per token with `avg`.
    """
    ratios = scores.logratios if normalize == "sum" else scores.logratios / scores.counts
    losses = (_margin(ratios, pairs) - 1 / (2 * tau)).square()
    return _losses(losses, tau * ratios, scores, pairs)


def simpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 2.0, gamma: float = 1.0, label_smoothing: float = 0.0
) -> Losses:
    """`-log s(beta (S hat_w - S hat_l) - gamma)`: no reference (2405.14734, eq. 6). `beta` is per token.

    `gamma` is the target margin itself; the authors' code takes gamma / beta (they advise 0.1 to 0.8 for it).
    """
    rewards = beta * scores.logps / scores.counts
    return _losses(smoothed_logistic(_margin(rewards, pairs) - gamma, label_smoothing), rewards, scores, pairs)


def _margin(values: Float[Tensor, " completions"], pairs: Pairs) -> Float[Tensor, " pairs"]:
    return values[pairs.chosen] - values[pairs.rejected]


def _losses(losses: Tensor, rewards: Tensor, scores: TokenScores, pairs: Pairs) -> Losses:
    """Weighted losses, with the metrics every pair objective logs: of the reward that is inside its loss."""
    metrics = pair_metrics(rewards.detach(), scores, pairs)
    weighted = torch.where(pairs.weight == 1, losses, losses * pairs.weight)
    return Losses(weighted, "pair", metrics, rewards.detach())

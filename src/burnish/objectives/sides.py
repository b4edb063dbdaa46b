"""Objectives that look at each side of a pair by itself: the chosen answer has its own target, and so has the rejected.

Notation: a and b summed log-ratios of chosen and rejected, D = a - b, s the logistic function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from burnish.errors import ConfigError
from burnish.objectives.shapes import pair_losses
from burnish.tensors import Losses, Pairs, TokenScores


def nca_pair(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1) -> Losses:
    """`-log s(beta a) - 1/2 log s(-beta a) - 1/2 log s(-beta b)`: noise contrastive alignment (2402.05369).

    The chosen answer's likelihood is held up, where DPO looks at the margin alone.
    """
    rewards = beta * scores.logratios
    a, b = rewards[pairs.chosen], rewards[pairs.rejected]
    losses = -F.logsigmoid(a) - (F.logsigmoid(-a) + F.logsigmoid(-b)) / 2
    return pair_losses(losses, rewards, scores, pairs)


def apo_zero(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1) -> Losses:
    """`s(-beta a) + s(beta b)`: raise the chosen, lower the rejected (2408.06266, eq. 7, plus one).

    For answers better than the model's own.
    """
    rewards = beta * scores.logratios
    losses = torch.sigmoid(-rewards[pairs.chosen]) + torch.sigmoid(rewards[pairs.rejected])
    return pair_losses(losses, rewards, scores, pairs)


def apo_down(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1) -> Losses:
    """`s(beta a) + s(-beta D)`: lower both, the rejected more (2408.06266, eq. 8, plus one).

    For a model that is already better than its data.
    """
    rewards = beta * scores.logratios
    a, b = rewards[pairs.chosen], rewards[pairs.rejected]
    return pair_losses(torch.sigmoid(a) + torch.sigmoid(b - a), rewards, scores, pairs)


def sppo(scores: TokenScores, pairs: Pairs, *, beta: float = 1e-3, scale: float = 1.0, soft: bool = False) -> Losses:
    """`scale [(a - (P_w - 1/2)/beta)^2 + (b - (P_l - 1/2)/beta)^2]`: self-play (2405.00675, eq. 4.7).

    P is the chance that an answer wins: 1 and 0, or with `soft` the data's own (`pairs.wins`). The targets are
    +-1/(2 beta) nats a sequence, so the loss is huge and its gradient nearly constant. The authors' scale is 1/2.
    """
    ratios = scores.logratios
    a, b = ratios[pairs.chosen], ratios[pairs.rejected]
    if soft and pairs.wins is None:
        raise ConfigError("objective.soft = true needs each answer's chance of winning, which this data does not have")
    won, lost = pairs.wins if soft and pairs.wins is not None else (torch.ones_like(a), torch.zeros_like(b))
    losses = scale * ((a - (won - 0.5) / beta).square() + (b - (lost - 0.5) / beta).square())
    return pair_losses(losses, beta * ratios, scores, pairs)


def bco_pair(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, delta: float = 0.0) -> Losses:
    """`-log s(beta a - delta) - log s(-(beta b - delta))`: a binary classifier on each answer (2404.04656).

    `delta` is the reward shift, a constant here.
    """
    rewards = beta * scores.logratios
    losses = -F.logsigmoid(rewards[pairs.chosen] - delta) - F.logsigmoid(delta - rewards[pairs.rejected])
    return pair_losses(losses, rewards, scores, pairs)

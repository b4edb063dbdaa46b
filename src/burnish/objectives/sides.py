"""Objectives that look at each side of a pair by itself: the chosen answer has a target, and the rejected one another.

Notation: a and b summed log-ratios of chosen and rejected, D = a - b, z = beta D, s the logistic function.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from burnish.errors import ConfigError
from burnish.objectives.metrics import pair_losses
from burnish.objectives.settings import Positive
from burnish.objectives.table import DPO_LENGTHS, DPO_LR, LengthEffects, Objective
from burnish.tensors import Losses, Pairs, TokenScores


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=lambda beta: 2 * math.log(2), paper="2402.05369",
)  # fmt: skip
def nca_pair(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1) -> Losses:
    """Tell each answer from noise by itself, which keeps the chosen one's likelihood from falling.

    Loss: -log s(beta a) - 1/2 log s(-beta a) - 1/2 log s(-beta b)
    Gradient: dl/da = -beta (1 - 3/2 s(beta a)) ; dl/db = +beta/2 s(beta b)
    """
    rewards = beta * scores.logratios
    a, b = rewards[pairs.chosen], rewards[pairs.rejected]
    losses = -F.logsigmoid(a) - (F.logsigmoid(-a) + F.logsigmoid(-b)) / 2
    return pair_losses(losses, rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=lambda beta: 1.0, paper="2408.06266", equation="eq. 7",
)  # fmt: skip
def apo_zero(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1) -> Losses:
    """Raise the chosen answer and lower the rejected, each by itself: for data better than the model.

    Loss: s(-beta a) + s(beta b)
    Gradient: dl/da = -beta s(beta a) s(-beta a) ; dl/db = +beta s(beta b) s(-beta b)

    The paper's value plus one.
    """
    rewards = beta * scores.logratios
    losses = torch.sigmoid(-rewards[pairs.chosen]) + torch.sigmoid(rewards[pairs.rejected])
    return pair_losses(losses, rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=lambda beta: 1.0, paper="2408.06266", equation="eq. 8",
)  # fmt: skip
def apo_down(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1) -> Losses:
    """Lower both answers, the rejected one more: for a model that is already better than its data.

    Loss: s(beta a) + s(-z)
    Gradient: dl/da = beta [s(beta a) s(-beta a) - s(z) s(-z)] ; dl/db = +beta s(z) s(-z)

    The paper's value plus one.
    """
    rewards = beta * scores.logratios
    a, b = rewards[pairs.chosen], rewards[pairs.rejected]
    return pair_losses(torch.sigmoid(a) + torch.sigmoid(b - a), rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("drift", "yes, and short answers must move further", "yes"),
    paper="2405.00675", equation="eq. 4.7",
)  # fmt: skip
def sppo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 1e-3, scale: Positive = 1.0, soft: bool = False
) -> Losses:
    """Pull each answer's log-ratio to a target that its chance of winning sets; the targets are huge, so use a small
    rate.

    Loss: scale [(a - (P_w - 1/2)/beta)^2 + (b - (P_l - 1/2)/beta)^2]
    Gradient: dl/da = 2 scale (a - (P_w - 1/2)/beta) ; dl/db = 2 scale (b - (P_l - 1/2)/beta)

    P is the chance that an answer wins: 1 and 0, or with `soft` the data's own. The targets are +-1/(2 beta) nats a
    sequence, so the loss is huge and its gradient nearly constant. The authors' scale is 1/2.
    """
    ratios = scores.logratios
    a, b = ratios[pairs.chosen], ratios[pairs.rejected]
    if soft and pairs.wins is None:
        raise ConfigError("objective.soft = true needs each answer's chance of winning, which this data does not have")
    won, lost = pairs.wins if soft and pairs.wins is not None else (torch.ones_like(a), torch.zeros_like(b))
    losses = scale * ((a - (won - 0.5) / beta).square() + (b - (lost - 0.5) / beta).square())
    return pair_losses(losses, beta * ratios, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2404.04656",
    closed_form=lambda beta, delta: math.log1p(math.exp(delta)) + math.log1p(math.exp(-delta)),
)  # fmt: skip
def bco_pair(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, delta: float = 0.0) -> Losses:
    """A binary classifier on each answer of a pair, with a constant shift of the reward.

    Loss: -log s(beta a - delta) - log s(-(beta b - delta))
    Gradient: dl/da = -beta s(delta - beta a) ; dl/db = +beta s(beta b - delta)
    """
    rewards = beta * scores.logratios
    losses = -F.logsigmoid(rewards[pairs.chosen] - delta) - F.logsigmoid(delta - rewards[pairs.rejected])
    return pair_losses(losses, rewards, scores, pairs)

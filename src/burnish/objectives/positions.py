"""Objectives of pairs that look at single positions: at drawn ones, or at the whole distribution over the vocabulary.

Notation as in `pairs`; K is the sum over an answer's positions of the full-vocabulary KL from reference to policy.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.shapes import margin, pair_losses, smoothed_logistic
from burnish.tensors import Drawn, Losses, Pairs, TokenScores


def sampo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, mode: Literal["indices", "mean", "avg"] = "indices"
) -> Losses:
    """`-log s(beta (a' - b'))`, both sums over as many tokens as the shorter answer has: SamPO (2406.10957).

    `indices` sums over tokens drawn from the longer answer, the same for policy and reference; `mean` takes the
    expectation of that draw; `avg` multiplies the mean log-ratios by the pair's average length instead.
    """
    if mode == "indices":
        if pairs.drawn is None:
            raise ValueError("sampo with mode = 'indices' needs drawn positions")
        z = _sum_of_drawn(scores, pairs.drawn[0], pairs) - _sum_of_drawn(scores, pairs.drawn[1], pairs)
    else:
        lengths = torch.stack([scores.lengths[pairs.chosen], scores.lengths[pairs.rejected]]).to(scores.policy.dtype)
        size = lengths.amin(0) if mode == "mean" else lengths.mean(0)
        z = size * margin(scores.logratios / scores.counts, pairs)
    return pair_losses(-F.logsigmoid(beta * z), beta * scores.logratios, scores, pairs)


def _sum_of_drawn(scores: TokenScores, drawn: Drawn, pairs: Pairs) -> Float[Tensor, " pairs"]:
    assert scores.reference is not None
    ratio = (scores.policy - scores.reference)[drawn.token]
    zero = ratio.new_zeros(len(pairs.chosen), dtype=torch.float64)
    return zero.index_add(0, drawn.pair, ratio.to(torch.float64)).to(ratio.dtype)


def wpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, alignment: Literal["sampled", "none"] = "sampled",
    max_weight: float | None = 1.0, label_smoothing: float = 0.0,
) -> Losses:  # fmt: skip
    """`w dpo`, `w = sg(min(max_weight, exp(m_w + m_l)))`: pairs the policy would write itself weigh more (2406.11827).

    m is the mean over an answer of `p_t - log sum_v pi(v)^2`, the log-prob against what a sampled token would have on
    average ("sampled"), or of `p_t` alone ("none").
    """
    level = scores.policy.detach()
    if alignment == "sampled":
        level = level - scores.squares
    mean = scores.sum_by_completion(level) / scores.counts
    weight = (mean[pairs.chosen] + mean[pairs.rejected]).exp()
    weight = weight if max_weight is None else weight.clamp(max=max_weight)
    rewards = beta * scores.logratios
    losses = weight * smoothed_logistic(margin(rewards, pairs), label_smoothing)
    return pair_losses(losses, rewards, scores, pairs)


def tdpo1(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1) -> Losses:
    """`-log s(beta (D - (K_l - K_w)))`: token-level DPO, with a forward KL at every position (2404.11999)."""
    kl = scores.sum_by_completion(scores.divergence)
    z = margin(scores.logratios, pairs) + margin(kl, pairs)
    return pair_losses(-F.logsigmoid(beta * z), beta * scores.logratios, scores, pairs)


def tdpo2(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, alpha: float = 0.5) -> Losses:
    """`-log s(beta (D - alpha (K_l - sg(K_w))))`: the chosen answer's KL is a baseline only (2404.11999)."""
    kl = scores.sum_by_completion(scores.divergence)
    z = margin(scores.logratios, pairs) - alpha * (kl[pairs.rejected] - kl[pairs.chosen].detach())
    return pair_losses(-F.logsigmoid(beta * z), beta * scores.logratios, scores, pairs)

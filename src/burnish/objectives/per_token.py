"""Objectives of pairs that look at single tokens: at drawn ones, or at the whole distribution over the vocabulary.

Notation: a and b summed log-ratios of chosen and rejected, D = a - b, s the logistic function; K the sum over an
answer's positions of the full-vocabulary KL from reference to policy.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import margin, pair_losses, smoothed_logistic
from burnish.objectives.settings import FlippedShare, NotNegative, Positive
from burnish.objectives.table import DPO_LENGTHS, DPO_LR, LengthEffects, Objective, log2
from burnish.tensors import Drawn, Losses, Pairs, TokenScores


@Objective(
    view="pairs", unit="pair", needs={"reference", "draws"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("no", "yes across pairs, no within one", "yes"), closed_form=log2, paper="2406.10957",
)  # fmt: skip
def sampo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, mode: Literal["indices", "mean", "avg"] = "indices"
) -> Losses:
    """DPO on equally many tokens of both answers, drawn from the longer one, so that length cannot tell them apart.

    Loss: -log s(beta (a' - b')), a' and b' the log-ratios summed over min(n_w, n_l) tokens, drawn from the longer
    answer
    Gradient: dl/dp_t = -beta u for each drawn token of the chosen answer, +beta u of the rejected; else 0

    `indices` sums over the drawn tokens, the same for policy and reference; `mean` takes the expectation of that draw;
    `avg` multiplies the mean log-ratios by the pair's average length instead.
    """
    if mode == "indices":
        if pairs.drawn is None:
            raise ValueError("sampo with mode = 'indices' needs drawn positions")
        difference = _sum_of_drawn(scores, pairs.drawn[0], pairs) - _sum_of_drawn(scores, pairs.drawn[1], pairs)
    else:
        lengths = torch.stack([scores.lengths[pairs.chosen], scores.lengths[pairs.rejected]]).to(scores.policy.dtype)
        size = lengths.amin(0) if mode == "mean" else lengths.mean(0)
        difference = size * margin(scores.logratios / scores.counts, pairs)
    return pair_losses(-F.logsigmoid(beta * difference), beta * scores.logratios, scores, pairs)


def _sum_of_drawn(scores: TokenScores, drawn: Drawn, pairs: Pairs) -> Float[Tensor, " pairs"]:
    """Log-ratios of one side of each pair, summed over its drawn tokens."""
    assert scores.reference is not None
    ratio = (scores.policy - scores.reference)[drawn.token]
    zero = ratio.new_zeros(len(pairs.chosen), dtype=torch.float64)
    return zero.index_add(0, drawn.pair, ratio.to(torch.float64)).to(ratio.dtype)


@Objective(
    view="pairs", unit="pair", needs={"reference", "square"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2406.11827",
)  # fmt: skip
def wpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, alignment: Literal["sampled", "none"] = "sampled",
    max_weight: Positive | None = 1.0, label_smoothing: FlippedShare = 0.0,
) -> Losses:  # fmt: skip
    """DPO in which a pair weighs more the likelier the policy is to write its answers itself: off-policy data made to
    count as if on-policy.

    Loss: -w log s(beta D), w = sg(min(max_weight, exp(m_w + m_l))), m = mean_t (p_t - log sum_v pi(v)^2)
    Gradient: dl/da = -w beta u ; dl/db = +w beta u

    m holds a log-prob against what a sampled token would have on average (`sampled`), or is the mean of p_t alone
    (`none`).
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


@Objective(
    view="pairs", unit="pair", needs={"reference", "kl"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2404.11999",
)  # fmt: skip
def tdpo1(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1) -> Losses:
    """DPO with the forward KL of every token inside the margin, to hold the policy's diversity.

    Loss: -log s(beta (D - (K_l - K_w))), K = sum_t KL(pi_ref || pi) over the vocabulary
    Gradient: dl/da = -beta u ; dl/db = +beta u ; dl/dK_w = -beta u ; dl/dK_l = +beta u
    """
    kl = scores.sum_by_completion(scores.divergence)
    z = margin(scores.logratios, pairs) + margin(kl, pairs)
    return pair_losses(-F.logsigmoid(beta * z), beta * scores.logratios, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference", "kl"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2404.11999",
)  # fmt: skip
def tdpo2(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, alpha: NotNegative = 0.5) -> Losses:
    """TDPO whose chosen answer's KL is only a baseline: it charges for drifting on rejected answers.

    Loss: -log s(beta (D - alpha (K_l - sg(K_w))))
    Gradient: dl/da = -beta u ; dl/db = +beta u ; dl/dK_l = +alpha beta u
    """
    kl = scores.sum_by_completion(scores.divergence)
    z = margin(scores.logratios, pairs) - alpha * (kl[pairs.rejected] - kl[pairs.chosen].detach())
    return pair_losses(-F.logsigmoid(beta * z), beta * scores.logratios, scores, pairs)

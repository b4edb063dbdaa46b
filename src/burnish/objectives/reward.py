"""Objectives of a reward model: one number for each answer, from a scalar head, in place of log-probs.

Notation: r the reward of an answer, w and l the preferred and the other one of a pair, s the logistic function.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import half_ties, margin_metrics, smoothed_logistic
from burnish.objectives.settings import FlippedShare, NotNegative
from burnish.objectives.table import LengthEffects, Objective
from burnish.tensors import Lists, Losses, Metric, Pairs, ScalarScores

REWARD_MODEL_LR = (1e-6, 2e-5)  # published learning rates of reward models
RATERS_LENGTHS = LengthEffects("no", "no", "yes")
NO_WEIGHT = -torch.inf  # log 0: places of a group shorter than the longest


@Objective(
    view="pairs", unit="pair", needs={"scalar"}, lr_range=REWARD_MODEL_LR, length_effects=RATERS_LENGTHS,
    paper="2203.02155", equation="eq. 1",
)  # fmt: skip
def bradley_terry(
    scores: ScalarScores, pairs: Pairs, *, center: NotNegative = 0.0, use_margin: bool = False,
    label_smoothing: FlippedShare = 0.0, per_prompt: bool = False,
) -> Losses:  # fmt: skip
    """Train a reward model: one number for an answer, higher for the preferred one of every pair.

    Loss: -log s(r_w - r_l - m) + c (r_w + r_l)^2
    Gradient: dl/dr_w = -s(-(r_w - r_l - m)) + 2c (r_w + r_l) ; dl/dr_l = +s(-(r_w - r_l - m)) + 2c (r_w + r_l)

    `use_margin` takes m, by how much the data says the preferred answer is better, into the loss (arXiv 2307.09288, eq.
    2); else m = 0. `center` is c, which holds the rewards' free constant near 0 (arXiv 2312.09244). `label_smoothing`
    is the believed share of flipped labels. `per_prompt` averages over the pairs of a prompt before prompts, so that a
    prompt with many ranked answers weighs no more than one with two.
    """
    z = scores.rewards[pairs.chosen] - scores.rewards[pairs.rejected]
    if use_margin:
        if pairs.margin is None:
            raise ValueError("use_margin needs a margin for every pair")
        z = z - pairs.margin
    losses = smoothed_logistic(z, label_smoothing)
    if center:
        losses = losses + center * (scores.rewards[pairs.chosen] + scores.rewards[pairs.rejected]).square()
    weighted = torch.where(pairs.weight == 1, losses, losses * pairs.weight)
    if per_prompt:
        if pairs.share is None:
            raise ValueError("per_prompt needs each pair's share of its prompt")
        weighted = weighted * pairs.share
    rewards = scores.rewards.detach()
    return Losses(weighted, "pair", margin_metrics(rewards, scores.lengths, pairs), rewards)


@Objective(
    view="lists", unit="group", needs={"scalar"}, lr_range=REWARD_MODEL_LR, length_effects=RATERS_LENGTHS,
    paper="2305.18290", equation="app. A.3",
)  # fmt: skip
def plackett_luce(scores: ScalarScores, lists: Lists, *, center: NotNegative = 0.0) -> Losses:
    """Train a reward model on whole rankings: each answer against all that come behind it.

    Loss: sum_k [logsumexp(r_k .. r_K) - r_k] + c (2 mean_k r_k)^2
    Gradient: dl/dr_j = sum_{k <= j} softmax(r_k .. r_K)_j - 1 + 8c (mean_k r_k) / K

    The paper's ranking with the reward itself in the policy's place; K = 2 is Bradley-Terry. `center` is c.
    """
    ranked = torch.where(lists.mask, scores.rewards[lists.index], 0.0)
    behind = ranked.masked_fill(~lists.mask, NO_WEIGHT).flip(1).logcumsumexp(1).flip(1)
    losses = torch.where(lists.mask, behind - ranked, 0.0).sum(1)
    if center:
        losses = losses + center * (2 * ranked.sum(1) / lists.sizes).square()
    return _group_losses(losses, ranked, scores, lists)


@Objective(
    view="lists", unit="group", needs={"scalar"}, lr_range=REWARD_MODEL_LR, length_effects=RATERS_LENGTHS,
    paper="2311.09528",
)  # fmt: skip
def reward_regression(scores: ScalarScores, lists: Lists, *, center: NotNegative = 0.0) -> Losses:
    """Train a reward model to give the raters' own scores, on their scale.

    Loss: mean_k (r_k - score_k)^2 + c (mean_k r_k)^2
    Gradient: dl/dr_k = 2 (r_k - score_k) / K + 2c (mean_k r_k) / K

    `center` is c.
    """
    ranked = torch.where(lists.mask, scores.rewards[lists.index], 0.0)
    errors = torch.where(lists.mask, ranked - lists.score, 0.0).square()
    losses = errors.sum(1) / lists.sizes
    if center:
        losses = losses + center * (ranked.sum(1) / lists.sizes).square()
    return _group_losses(losses, ranked, scores, lists)


def _group_losses(
    losses: Float[Tensor, " groups"], ranked: Float[Tensor, "groups width"], scores: ScalarScores, lists: Lists
) -> Losses:
    """Losses of groups, with the accuracy over all pairs of a group whose scores differ."""
    gap = (ranked[:, :, None] - ranked[:, None, :]).detach()
    better = (lists.score[:, :, None] > lists.score[:, None, :]) & lists.mask[:, :, None] & lists.mask[:, None, :]
    metrics = {
        "rewards/accuracies": Metric.of(half_ties(gap[better])),
        "rewards/margins": Metric.of(gap[better]),
        "rewards/mean": Metric.of(scores.rewards),
        "length/mean": Metric.of(scores.lengths.double()),
    }
    return Losses(losses, "group", metrics, scores.rewards.detach())

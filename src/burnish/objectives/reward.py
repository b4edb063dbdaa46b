"""Objectives of a reward model: one number for each answer, from a scalar head, in place of log-probs.

Notation: r the reward of an answer, w and l the preferred and the other one of a pair, s the logistic function.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import half_ties, margin_metrics
from burnish.objectives.shapes import smoothed_logistic
from burnish.tensors import Lists, Losses, Metric, Pairs, ScalarScores

NOTHING = -torch.inf  # the log of no weight at all: places of a group shorter than the longest


def bradley_terry(
    scores: ScalarScores, pairs: Pairs, *, center: float = 0.0, use_margin: bool = False,
    label_smoothing: float = 0.0, per_prompt: bool = False,
) -> Losses:  # fmt: skip
    """`-log s(r_w - r_l - m) + c (r_w + r_l)^2`: the reward model of a Bradley-Terry preference (2203.02155, eq. 1).

    `use_margin` takes m, by how much the data says the preferred answer is better, into the loss (2307.09288, eq. 2);
    else m = 0. `center` is c, which holds the rewards' free constant near 0 (2312.09244). `label_smoothing` is
    the believed share of flipped labels. `per_prompt` averages over the pairs of a prompt before prompts, so
    that a prompt with many ranked answers weighs no more than one with two.
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


def plackett_luce(scores: ScalarScores, lists: Lists, *, center: float = 0.0) -> Losses:
    """`sum_k [logsumexp(r_k .. r_K) - r_k] + c (2 mean_k r_k)^2`: a whole ranking as one example; K = 2 is
    Bradley-Terry (2305.18290, app. A.3, with the reward itself in the policy's place)."""
    ranked = torch.where(lists.mask, scores.rewards[lists.index], 0.0)
    behind = ranked.masked_fill(~lists.mask, NOTHING).flip(1).logcumsumexp(1).flip(1)
    losses = torch.where(lists.mask, behind - ranked, 0.0).sum(1)
    if center:
        losses = losses + center * (2 * ranked.sum(1) / lists.sizes).square()
    return _group_losses(losses, ranked, scores, lists)


def reward_regression(scores: ScalarScores, lists: Lists, *, center: float = 0.0) -> Losses:
    """`mean_k (r_k - score_k)^2 + c (mean_k r_k)^2`: the rewards are the raters' scores themselves (2311.09528)."""
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
    told = (lists.score[:, :, None] > lists.score[:, None, :]) & lists.mask[:, :, None] & lists.mask[:, None, :]
    metrics = {
        "rewards/accuracies": Metric.of(half_ties(gap[told])),
        "rewards/margins": Metric.of(gap[told]),
        "rewards/mean": Metric.of(scores.rewards),
        "length/mean": Metric.of(scores.lengths.double()),
    }
    return Losses(losses, "group", metrics, scores.rewards.detach())

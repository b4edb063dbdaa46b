"""Objectives of a whole ranked group: K answers to a prompt, from best to worst; one loss per group.

Notation: r_i = beta times the summed log-ratio of answer i, K >= 2 answers; softmax and sums run over the group.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from burnish.errors import DataError
from burnish.objectives.metrics import half_ties
from burnish.objectives.settings import Positive
from burnish.objectives.table import DPO_LENGTHS, DPO_LR, Objective
from burnish.tensors import Lists, Losses, Metric, TokenScores

NO_WEIGHT = -math.inf  # log 0: places of a group shorter than the longest


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2305.18290", equation="app. A.3",
)  # fmt: skip
def pl_dpo(scores: TokenScores, lists: Lists, *, beta: Positive = 0.1) -> Losses:
    """DPO on a whole ranking: each answer against all that come behind it.

    Loss: sum_k [logsumexp(r_k .. r_K) - r_k], r = beta log-ratio, best first
    Gradient: dl/dr_j = sum_{k <= j} softmax(r_k .. r_K)_j - 1

    DPO under Plackett-Luce; K = 2 is DPO.
    """
    rewards = _rewards(scores, lists, beta)
    behind = rewards.masked_fill(~lists.mask, NO_WEIGHT).flip(1).logcumsumexp(1).flip(1)
    terms = torch.where(lists.mask, behind - rewards, 0.0)
    return _losses(terms.sum(1), rewards, scores, lists, beta)


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2203.02155", equation="eq. 1",
)  # fmt: skip
def multi_pair_dpo(
    scores: TokenScores, lists: Lists, *, beta: Positive = 0.1,
    which: Literal["all", "best_vs_rest", "best_vs_worst", "adjacent"] = "all",
    reduction: Literal["mean", "sum"] = "mean",
) -> Losses:  # fmt: skip
    """DPO on all pairs of a ranked group, together one example.

    Loss: mean of -log s(r_i - r_j) over pairs where i is better than j
    Gradient: dl/dr_i = -u_ij, dl/dr_j = +u_ij for each pair, divided by their number

    Answers of equal score make no pair.
    """
    rewards = _rewards(scores, lists, beta)
    better = _better(lists, which)
    losses = torch.where(better, -F.logsigmoid(rewards[:, :, None] - rewards[:, None, :]), 0.0).sum((1, 2))
    if reduction == "mean":
        losses = losses / better.sum((1, 2)).clamp(min=1)
    return _losses(losses, rewards, scores, lists, beta)


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2406.09215",
)  # fmt: skip
def s_dpo(scores: TokenScores, lists: Lists, *, beta: Positive = 0.1) -> Losses:
    """The best answer against all the others in one softmax: for one good answer among many poor ones.

    Loss: logsumexp(r) - r_best
    Gradient: dl/dr_j = softmax(r)_j, minus 1 for the best
    """
    rewards = _rewards(scores, lists, beta)
    return _losses(_logsumexp(rewards, lists.mask) - rewards[:, 0], rewards, scores, lists, beta)


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2402.05369",
)  # fmt: skip
def info_nca(scores: TokenScores, lists: Lists, *, beta: Positive = 0.1, temp: Positive = 1.0) -> Losses:
    """Match the softmax of the implicit rewards to that of the scores: for answers with graded scores.

    Loss: -sum_i w_i log softmax(r)_i, w = softmax(score / temp)
    Gradient: dl/dr_i = softmax(r)_i - w_i
    """
    rewards = _rewards(scores, lists, beta)
    logs = torch.where(lists.mask, rewards - _logsumexp(rewards, lists.mask)[:, None], 0.0)
    return _losses(-(_targets(lists, temp) * logs).sum(1), rewards, scores, lists, beta)


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2402.05369",
)  # fmt: skip
def nca(scores: TokenScores, lists: Lists, *, beta: Positive = 0.1, temp: Positive = 1.0) -> Losses:
    """Match rewards to scores by noise contrast, which holds likelihoods up: for answers with graded scores.

    Loss: -sum_i [w_i log s(r_i) + 1/K log s(-r_i)], w = softmax(score / temp)
    Gradient: dl/dr_i = s(r_i)/K - w_i s(-r_i)
    """
    rewards = _rewards(scores, lists, beta)
    terms = _targets(lists, temp) * F.logsigmoid(rewards) + F.logsigmoid(-rewards) / lists.sizes[:, None]
    return _losses(-torch.where(lists.mask, terms, 0.0).sum(1), rewards, scores, lists, beta)


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2402.00856",
)  # fmt: skip
def exo(scores: TokenScores, lists: Lists, *, beta: Positive = 0.1, temp: Positive = 1.0) -> Losses:
    """Match rewards to scores under the reverse KL: seek the best answers rather than cover all.

    Loss: KL(softmax(r) || softmax(score / temp))
    Gradient: dl/dr_i = q_i [log q_i - log w_i - KL], q = softmax(r)
    """
    rewards = _rewards(scores, lists, beta)
    logs = torch.where(lists.mask, rewards - _logsumexp(rewards, lists.mask)[:, None], NO_WEIGHT)
    targets = (lists.score / temp).masked_fill(~lists.mask, NO_WEIGHT).log_softmax(1)
    differences = torch.where(lists.mask, logs - targets, 0.0)
    return _losses((logs.exp() * differences).sum(1), rewards, scores, lists, beta)


@Objective(
    view="lists", unit="group", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2402.04792",
)  # fmt: skip
def online_dpo(scores: TokenScores, lists: Lists, *, beta: Positive = 0.1) -> Losses:
    """DPO on the best and the worst answer of each scored group; groups scored all alike are left out.

    Loss: -log s(r_best - r_worst)
    Gradient: dl/dr_best = -u ; dl/dr_worst = +u

    Of equal answers the first in the group is taken. A group that is left out has no loss.
    """
    rewards = _rewards(scores, lists, beta)
    score = lists.score.masked_fill(~lists.mask, math.inf)
    worst = score.argmin(1, keepdim=True)
    differs = lists.score[:, 0] > score.gather(1, worst)[:, 0]
    losses = -F.logsigmoid(rewards[:, 0] - rewards.gather(1, worst)[:, 0])
    return _losses(losses[differs], rewards, scores, lists, beta)


def _rewards(scores: TokenScores, lists: Lists, beta: float) -> Float[Tensor, "groups width"]:
    """r of each group's answers, best first; 0 in the places behind a group's last.

    Raises DataError for a group of one answer, which has no order.
    """
    if bool((lists.sizes < 2).any()):
        raise DataError("this objective compares the answers of a group, and one group has fewer than two")
    return torch.where(lists.mask, beta * scores.logratios[lists.index], 0.0)


def _logsumexp(rewards: Tensor, mask: Bool[Tensor, "groups width"]) -> Float[Tensor, " groups"]:
    return rewards.masked_fill(~mask, NO_WEIGHT).logsumexp(1)


def _targets(lists: Lists, temp: float) -> Float[Tensor, "groups width"]:
    return (lists.score / temp).masked_fill(~lists.mask, NO_WEIGHT).softmax(1)


def _better(lists: Lists, which: str) -> Bool[Tensor, "groups width width"]:
    """Where answer i (rows, best first) beats answer j (columns): of those that score better, the ones named."""
    place = torch.arange(lists.mask.shape[1], device=lists.mask.device)
    i, j = place[None, :, None], place[None, None, :]
    scored = lists.mask[:, :, None] & lists.mask[:, None, :] & (lists.score[:, :, None] > lists.score[:, None, :])
    if which == "adjacent":
        return scored & (j == i + 1)
    if which == "best_vs_rest":
        return scored & (i == 0)
    last = (lists.sizes - 1)[:, None, None]
    return scored & (i == 0) & (j == last) if which == "best_vs_worst" else scored


def _losses(losses: Tensor, rewards: Tensor, scores: TokenScores, lists: Lists, beta: float) -> Losses:
    """Losses of groups, with the metrics of a ranking: the best and the worst answer, and pairs in the right order."""
    with torch.no_grad():
        best, worst = rewards[:, 0], rewards.gather(1, (lists.sizes - 1)[:, None])[:, 0]
        better, lengths = _better(lists, "all"), scores.lengths[lists.index]
        right, longer = (half_ties((x[:, :, None] - x[:, None, :])[better].double()) for x in (rewards, lengths))
        ends = lists.index[:, 0], lists.index.gather(1, (lists.sizes - 1)[:, None])[:, 0]
        values = {
            "rewards/chosen": best, "rewards/rejected": worst, "rewards/margins": best - worst,
            "rewards/accuracies": right, "length/longer_wins": longer,
        }  # fmt: skip
        for side, index in zip(("chosen", "rejected"), ends, strict=True):
            values[f"logps/{side}"] = scores.logps[index]
            values[f"logratio/{side}"] = scores.logratios[index]
            values[f"length/{side}"] = scores.lengths[index].double()
    metrics = {name: Metric.of(value) for name, value in values.items()}
    return Losses(losses, "group", metrics, (beta * scores.logratios).detach())

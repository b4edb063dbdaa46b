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
from burnish.tensors import Lists, Losses, Metric, TokenScores

NOTHING = -math.inf  # the log of no weight at all: places of a group shorter than the longest


def pl_dpo(scores: TokenScores, lists: Lists, *, beta: float = 0.1) -> Losses:
    """`sum_k [logsumexp(r_k .. r_K) - r_k]`: DPO under Plackett-Luce (2305.18290, app. A.3). K = 2 is DPO."""
    rewards = _rewards(scores, lists, beta)
    behind = rewards.masked_fill(~lists.mask, NOTHING).flip(1).logcumsumexp(1).flip(1)
    terms = torch.where(lists.mask, behind - rewards, 0.0)
    return _losses(terms.sum(1), rewards, scores, lists, beta)


def multi_pair_dpo(
    scores: TokenScores, lists: Lists, *, beta: float = 0.1,
    which: Literal["all", "best_vs_rest", "best_vs_worst", "adjacent"] = "all",
    reduction: Literal["mean", "sum"] = "mean",
) -> Losses:  # fmt: skip
    """DPO on several pairs of a group, together one loss: all K(K-1)/2 of them (2203.02155), or the ones named.

    Answers of equal score make no pair.
    """
    rewards = _rewards(scores, lists, beta)
    chosen = _pairs(lists, which)
    losses = torch.where(chosen, -F.logsigmoid(rewards[:, :, None] - rewards[:, None, :]), 0.0).sum((1, 2))
    if reduction == "mean":
        losses = losses / chosen.sum((1, 2)).clamp(min=1)
    return _losses(losses, rewards, scores, lists, beta)


def s_dpo(scores: TokenScores, lists: Lists, *, beta: float = 0.1) -> Losses:
    """`logsumexp(r) - r_best`: softmax-DPO, the best against all the others at once (2406.09215)."""
    rewards = _rewards(scores, lists, beta)
    return _losses(_logsumexp(rewards, lists.mask) - rewards[:, 0], rewards, scores, lists, beta)


def online_dpo(scores: TokenScores, lists: Lists, *, beta: float = 0.1) -> Losses:
    """DPO on the best and the worst answer of a group (2402.04792); of equal ones the first in the group.

    A group whose answers are all scored alike teaches nothing and has no loss.
    """
    rewards = _rewards(scores, lists, beta)
    score = lists.score.masked_fill(~lists.mask, math.inf)
    worst = score.argmin(1, keepdim=True)
    apart = lists.score[:, 0] > score.gather(1, worst)[:, 0]
    losses = -F.logsigmoid(rewards[:, 0] - rewards.gather(1, worst)[:, 0])
    return _losses(losses[apart], rewards, scores, lists, beta)


def info_nca(scores: TokenScores, lists: Lists, *, beta: float = 0.1, temp: float = 1.0) -> Losses:
    """`-sum_i w_i log softmax(r)_i`, w the softmax of score / temp: InfoNCA (2402.05369)."""
    rewards = _rewards(scores, lists, beta)
    logs = torch.where(lists.mask, rewards - _logsumexp(rewards, lists.mask)[:, None], 0.0)
    return _losses(-(_targets(lists, temp) * logs).sum(1), rewards, scores, lists, beta)


def nca(scores: TokenScores, lists: Lists, *, beta: float = 0.1, temp: float = 1.0) -> Losses:
    """`-sum_i [w_i log s(r_i) + 1/K log s(-r_i)]`, w the softmax of score / temp: NCA (2402.05369)."""
    rewards = _rewards(scores, lists, beta)
    terms = _targets(lists, temp) * F.logsigmoid(rewards) + F.logsigmoid(-rewards) / lists.sizes[:, None]
    return _losses(-torch.where(lists.mask, terms, 0.0).sum(1), rewards, scores, lists, beta)


def exo(scores: TokenScores, lists: Lists, *, beta: float = 0.1, temp: float = 1.0) -> Losses:
    """`KL(softmax(r) || softmax(score / temp))`: EXO over the group (2402.00856)."""
    rewards = _rewards(scores, lists, beta)
    logs = torch.where(lists.mask, rewards - _logsumexp(rewards, lists.mask)[:, None], NOTHING)
    wanted = (lists.score / temp).masked_fill(~lists.mask, NOTHING).log_softmax(1)
    apart = torch.where(lists.mask, logs - wanted, 0.0)
    return _losses((logs.exp() * apart).sum(1), rewards, scores, lists, beta)


def _rewards(scores: TokenScores, lists: Lists, beta: float) -> Float[Tensor, "groups width"]:
    """r of each group's answers, best first; 0 in the places behind a group's last.

    Raises DataError for a group of one answer, which has no order.
    """
    if bool((lists.sizes < 2).any()):
        raise DataError("this objective compares the answers of a group, and a group here has fewer than two")
    return torch.where(lists.mask, beta * scores.logratios[lists.index], 0.0)


def _logsumexp(rewards: Tensor, mask: Bool[Tensor, "groups width"]) -> Float[Tensor, " groups"]:
    return rewards.masked_fill(~mask, NOTHING).logsumexp(1)


def _targets(lists: Lists, temp: float) -> Float[Tensor, "groups width"]:
    return (lists.score / temp).masked_fill(~lists.mask, NOTHING).softmax(1)


def _pairs(lists: Lists, which: str) -> Bool[Tensor, "groups width width"]:
    """Where answer i (rows, best first) beats answer j (columns): of those that are really better, the ones named."""
    place = torch.arange(lists.mask.shape[1], device=lists.mask.device)
    i, j = place[None, :, None], place[None, None, :]
    real = lists.mask[:, :, None] & lists.mask[:, None, :] & (lists.score[:, :, None] > lists.score[:, None, :])
    if which == "adjacent":
        return real & (j == i + 1)
    if which == "best_vs_rest":
        return real & (i == 0)
    last = (lists.sizes - 1)[:, None, None]
    return real & (i == 0) & (j == last) if which == "best_vs_worst" else real


def _losses(losses: Tensor, rewards: Tensor, scores: TokenScores, lists: Lists, beta: float) -> Losses:
    """Losses of groups, with the metrics of a ranking: the best and the worst answer, and pairs in the right order."""
    with torch.no_grad():
        best, worst = rewards[:, 0], rewards.gather(1, (lists.sizes - 1)[:, None])[:, 0]
        every, lengths = _pairs(lists, "all"), scores.lengths[lists.index]
        right, longer = (half_ties((x[:, :, None] - x[:, None, :])[every].double()) for x in (rewards, lengths))
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

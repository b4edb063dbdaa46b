"""Objectives of pairs that look at the whole step: sorted margins, shifts of the reward, moving targets.

A first pass without gradient gives the sums of all the step's pairs (`Pairs.step`), so that the result is the same
under any microbatching. Notation as in `pairs`; what is marked sg has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from burnish.objectives.shapes import margin, pair_losses, smoothed_logistic
from burnish.tensors import Losses, Pairs, PairSums, TokenScores


def step_of(scores: TokenScores, pairs: Pairs) -> tuple[PairSums, Int[Tensor, " pairs"]]:
    """(sums of the step's pairs, which of them these are); without a first pass these pairs are the step."""
    if pairs.step is not None and pairs.place is not None:
        return pairs.step, pairs.place
    with torch.no_grad():
        policy, ratios = scores.logps, scores.logratios
        sides = policy[pairs.chosen], policy[pairs.rejected]
        references = sides[0] - ratios[pairs.chosen], sides[1] - ratios[pairs.rejected]
        lengths = scores.lengths[pairs.chosen], scores.lengths[pairs.rejected]
        return PairSums(*sides, *references, *lengths), torch.arange(len(pairs.chosen), device=policy.device)


def aot_paired(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Losses:
    """`-log s(beta (u_(i) - v_(i)))`, u and v the step's sorted margins `S_w - S_l` and `R_w - R_l` (2406.05882).

    The policy's margins are to dominate the reference's as distributions, not pair by pair.
    """
    step, place = step_of(scores, pairs)
    ours = step.policy_chosen - step.policy_rejected
    matched = (step.reference_chosen - step.reference_rejected).sort().values[_ranks(ours)][place]
    z = beta * (margin(scores.logps, pairs) - matched)
    return pair_losses(smoothed_logistic(z, label_smoothing), beta * scores.logratios, scores, pairs)


def aot_unpaired(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Losses:
    """`-log s(beta (a_(i) - b_(i)))`, the step's chosen and rejected log-ratios, each sorted (2406.05882).

    A pair's value is that of its chosen answer's rank; its rejected answer meets the chosen one of its own rank, and
    brings a gradient without a value.
    """
    step, place = step_of(scores, pairs)
    a, b = scores.logratios[pairs.chosen], scores.logratios[pairs.rejected]
    below = step.rejected.sort().values[_ranks(step.chosen)][place]
    above = step.chosen.sort().values[_ranks(step.rejected)][place]
    told = smoothed_logistic(beta * (a - below), label_smoothing)
    silent = smoothed_logistic(beta * (above - b), label_smoothing)
    losses = told + silent - silent.detach()
    return pair_losses(losses, beta * scores.logratios, scores, pairs)


def bco_pair_batch_shift(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1) -> Losses:
    """`bco_pair` with delta = sg(mean of the two sides' mean rewards over the step) (2404.04656)."""
    step, _ = step_of(scores, pairs)
    delta = beta * (step.chosen.mean() + step.rejected.mean()) / 2
    rewards = beta * scores.logratios
    losses = -F.logsigmoid(rewards[pairs.chosen] - delta) - F.logsigmoid(delta - rewards[pairs.rejected])
    return pair_losses(losses, rewards, scores, pairs)


def beta_dpo(
    scores: TokenScores, pairs: Pairs, *, beta0: float = 0.1, alpha: float = 0.6, m0: float = 0.0,
    keep: tuple[int, ...] | None = None, beta_min: float = 1e-3,
) -> Losses:  # fmt: skip
    """`-log s(beta D)`, `beta = sg(max(beta_min, beta0 (1 + alpha (mean D - m0))))` over the step (2407.08639).

    Pairs that are told apart already are held harder. In a run `m0` is a running mean of D, and `keep` names the step's
    pairs that are trained on, four fifths of them (`running.beta_dpo_step`); None: all.
    """
    step, place = step_of(scores, pairs)
    kept = torch.ones(len(step.chosen), dtype=torch.bool, device=place.device)
    if keep is not None:
        kept = torch.zeros_like(kept).index_fill(0, torch.tensor(keep, device=place.device), True)
    mean = (step.chosen - step.rejected)[kept].mean()
    beta = (beta0 * (1 + alpha * (mean - m0))).clamp(min=beta_min)
    losses = -F.logsigmoid(beta * margin(scores.logratios, pairs))
    found = pair_losses(losses, beta * scores.logratios, scores, pairs)
    return found if keep is None else replace(found, values=found.values[kept[place]])


def beta_dpo_state(
    m0: float, s0: float, deltas: Sequence[float], momentum: float = 0.9
) -> tuple[float, float, list[float]]:
    """Running mean and standard deviation (n - 1) of a step's margins D, and the weight `exp(-(D - m0)^2 / (2 s0^2))`
    of each pair in the draw of those that are trained on, with the averages already moved (2407.08639)."""
    margins = torch.tensor(list(deltas), dtype=torch.float64)
    spread = float(margins.std()) if len(margins) > 1 else 0.0
    m0 = momentum * m0 + (1 - momentum) * float(margins.mean())
    s0 = momentum * s0 + (1 - momentum) * spread
    return m0, s0, torch.exp(-(margins - m0).square() / (2 * s0**2)).tolist()


def alpha_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 2.5, gamma_beta_ratio: float = 0.1, alpha: float = 0.05,
    mu: float = 0.0, sigma: float = 1.0,
) -> Losses:  # fmt: skip
    """`-log s(beta (S hat_w - S hat_l - sg(gamma/beta + alpha (g - mu)/sigma)))`, `g = a hat - b hat` (2410.10148).

    SimPO whose target margin follows the reference's view of each pair. `mu` and `sigma` centre and scale g; in a run
    they are running averages (`running.alpha_dpo_step`).
    """
    means = scores.logps / scores.counts
    gap = margin(scores.logratios / scores.counts, pairs).detach()
    target = gamma_beta_ratio + alpha * (gap - mu) / sigma
    return pair_losses(-F.logsigmoid(beta * (margin(means, pairs) - target)), beta * means, scores, pairs)


def _ranks(values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Place of each value in ascending order; ties in the order they stand."""
    return values.argsort(stable=True).argsort()

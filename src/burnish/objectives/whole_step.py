"""Objectives of pairs that look at the whole step: sorted margins, shifts of the reward, moving targets.

A first pass without gradient gives the sums of all the step's pairs (`Pairs.step`), so that the result is the same
under any microbatching. Running averages carry from step to step what `beta_dpo` and `alpha_dpo` need of the past.

Notation: S summed policy log-probs, R the reference's, a and b summed log-ratios of chosen and rejected, D = a - b, s
the logistic function; a hat divides by the number of tokens; sg() has no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from jaxtyping import Float, Int
from torch import Tensor

from burnish.objectives.metrics import margin, pair_losses, smoothed_logistic
from burnish.objectives.settings import FlippedShare, Momentum, NotNegative, Positive
from burnish.objectives.table import DPO_LENGTHS, DPO_LR, LengthEffects, Objective, Running, log2
from burnish.tensors import Losses, Pairs, PairSums, TokenScores

LEAST_SIGMA = 0.01  # nats a token


def step_of(scores: TokenScores, pairs: Pairs) -> tuple[PairSums, Int[Tensor, " pairs"]]:
    """(sums of the step's pairs, which of them these are); without a first pass these pairs are the step."""
    if pairs.step is not None and pairs.place is not None:
        return pairs.step, pairs.place
    with torch.no_grad():
        references, ratios, lengths = scores.reference_logps, scores.logratios, scores.lengths
        sides = [values[side] for values in (references, ratios, lengths) for side in (pairs.chosen, pairs.rejected)]
        return PairSums(*sides), torch.arange(len(pairs.chosen), device=ratios.device)


@Objective(
    view="pairs", unit="pair", needs={"reference", "step"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2406.05882",
)  # fmt: skip
def aot_paired(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: FlippedShare = 0.0
) -> Losses:
    """Make the policy's margins dominate the reference's as distributions; wants large steps.

    Loss: -log s(beta (u_(i) - v_(i))), u and v the sorted margins of policy and reference
    Gradient: -beta s(-beta (u_(i) - v_(i))) to the pair that holds rank i

    u is S_w - S_l and v is R_w - R_l, each sorted over the step: not pair by pair.
    """
    step, place = step_of(scores, pairs)
    v = step.reference_chosen - step.reference_rejected
    u = v + step.chosen - step.rejected
    moved = (v - v.sort().values[_ranks(u)])[place].to(scores.policy.dtype)
    z = beta * (margin(scores.logratios, pairs) + moved)  # u - v_(i), without the difference of two long sums
    return pair_losses(smoothed_logistic(z, label_smoothing), beta * scores.logratios, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference", "step"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2406.05882",
)  # fmt: skip
def aot_unpaired(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: FlippedShare = 0.0
) -> Losses:
    """Make chosen log-ratios dominate rejected ones as distributions: pairs need not be pairs.

    Loss: -log s(beta (a_(i) - b_(i))), the step's chosen and rejected log-ratios sorted
    Gradient: -beta s(..) to the chosen answer of rank i, the opposite to the rejected one of rank i

    A pair's value is that of its chosen answer's rank; its rejected answer meets the chosen one of its own rank, and
    brings a gradient without a value.
    """
    step, place = step_of(scores, pairs)
    a, b = scores.logratios[pairs.chosen], scores.logratios[pairs.rejected]
    matched_b = step.rejected.sort().values[_ranks(step.chosen)][place]
    matched_a = step.chosen.sort().values[_ranks(step.rejected)][place]
    of_chosen = smoothed_logistic(beta * (a - matched_b), label_smoothing)
    of_rejected = smoothed_logistic(beta * (matched_a - b), label_smoothing)
    losses = of_chosen + of_rejected - of_rejected.detach()
    return pair_losses(losses, beta * scores.logratios, scores, pairs)


def _ranks(values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Place of each value in ascending order; ties in the order they stand."""
    return values.argsort(stable=True).argsort()


@Objective(
    view="pairs", unit="pair", needs={"reference", "step"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=lambda beta: 2 * math.log(2), paper="2404.04656",
)  # fmt: skip
def bco_pair_batch_shift(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1) -> Losses:
    """A binary classifier on each answer, its shift the step's own mean reward.

    Loss: -log s(beta a - delta) - log s(-(beta b - delta)), delta = sg(mean reward of the step)
    Gradient: dl/da = -beta s(delta - beta a) ; dl/db = +beta s(beta b - delta)
    """
    step, _ = step_of(scores, pairs)
    delta = beta * (step.chosen.mean() + step.rejected.mean()) / 2
    rewards = beta * scores.logratios
    losses = -F.logsigmoid(rewards[pairs.chosen] - delta) - F.logsigmoid(delta - rewards[pairs.rejected])
    return pair_losses(losses, rewards, scores, pairs)


def alpha_dpo_step(
    state: Mapping[str, float], sums: PairSums, generator: torch.Generator, *, momentum: Momentum = 0.9
) -> tuple[dict[str, float], dict[str, Any]]:
    """Mean and standard deviation of the pairs' gap of mean log-ratios as running averages (2410.10148).

    A step of one pair has no spread, and leaves the standard deviation as it is. That stays at `LEAST_SIGMA` or above:
    of steps whose pairs are alike it would fall to 0, and the targets that it divides would grow without bound.
    """
    sides = ((sums.chosen, sums.chosen_lengths), (sums.rejected, sums.rejected_lengths))
    means = [ratio.double() / length.clamp(min=1) for ratio, length in sides]
    gap = means[0] - means[1]
    spread = float(gap.std(correction=0)) if len(gap) > 1 else state["sigma"]
    moved = {
        "mu": momentum * state["mu"] + (1 - momentum) * float(gap.mean()),
        "sigma": max(LEAST_SIGMA, momentum * state["sigma"] + (1 - momentum) * spread),
    }
    return moved, dict(moved)


@Objective(
    view="pairs", unit="pair", needs={"reference", "step"}, beta_unit="per token", lr_range=(3e-7, 1e-6),
    length_effects=LengthEffects("no", "no", "yes"), paper="2410.10148",
    running=Running({"mu": 0.0, "sigma": 1.0}, alpha_dpo_step, given=("mu", "sigma")),
)  # fmt: skip
def alpha_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 2.5, gamma_beta_ratio: NotNegative = 0.1,
    alpha: NotNegative = 0.05, mu: float = 0.0, sigma: Positive = 1.0,
) -> Losses:  # fmt: skip
    """SimPO whose target margin follows the reference's view of each pair.

    Loss: -log s(beta (S hat_w - S hat_l - sg(gamma/beta + alpha (g - mu)/sigma))), g = a hat - b hat
    Gradient: dl/dS_w = -beta u / n_w ; dl/dS_l = +beta u / n_l

    `gamma_beta_ratio` is gamma/beta. mu and sigma centre and scale g: running averages over the steps. sigma is 0.01
    at least, and steps of one pair leave it as it is.
    """
    means = scores.logps / scores.counts
    gap = margin(scores.logratios / scores.counts, pairs).detach()
    target = gamma_beta_ratio + alpha * (gap - mu) / sigma
    return pair_losses(-F.logsigmoid(beta * (margin(means, pairs) - target)), beta * means, scores, pairs)


def beta_dpo_step(
    state: Mapping[str, float], sums: PairSums, generator: torch.Generator, *, momentum: Momentum = 0.9,
    rho: Annotated[float, Ge(0), Lt(1), "it is the share of pairs left out"] = 0.2,
) -> tuple[dict[str, float], dict[str, Any]]:  # fmt: skip
    """Mean and spread of D as running averages, and the `(1 - rho)` of the step's pairs that are trained on, drawn
    without replacement by `exp(-(D - m0)^2 / (2 s0^2))` (2407.08639): far outliers are likely left out."""
    margins = (sums.chosen - sums.rejected).double().cpu()
    m0, s0, _ = beta_dpo_state(state["m0"], state["s0"], margins.tolist(), momentum=momentum)
    count = max(1, int((1 - rho) * len(margins)))
    # the largest of log-weight + Gumbel noise are a draw without replacement, also where every weight underflows
    gumbel = -torch.empty(len(margins), dtype=torch.float64).exponential_(generator=generator).log()
    log_weight = -(margins - m0).square() / (2 * max(s0, torch.finfo(torch.float64).tiny) ** 2)
    kept = (log_weight.clamp(min=-1e300) + gumbel).topk(count).indices.sort().values
    return {"m0": m0, "s0": s0}, {"m0": m0, "keep": tuple(kept.tolist())}


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


@Objective(
    view="pairs", unit="pair", needs={"reference", "step"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2407.08639",
    running=Running({"m0": 0.0, "s0": 1.0}, beta_dpo_step, given=("m0", "keep")),
)  # fmt: skip
def beta_dpo(
    scores: TokenScores, pairs: Pairs, *, beta0: Positive = 0.1, alpha: NotNegative = 0.6, m0: float = 0.0,
    keep: tuple[int, ...] | None = None, beta_min: Positive = 1e-3,
) -> Losses:  # fmt: skip
    """DPO whose beta follows the step's mean margin, and which leaves out unlikely pairs: for noisy data.

    Loss: -log s(beta_B D), beta_B = sg(max(beta_min, beta0 (1 + alpha (mean D - m0))))
    Gradient: dl/da = -beta_B u ; dl/db = +beta_B u

    Where the margin is wide already, beta holds the policy harder. m0 is a running mean of D; `rho` of the step's pairs
    are left out, drawn by how far their D lies from it.
    """
    step, place = step_of(scores, pairs)
    kept = torch.ones(len(step.chosen), dtype=torch.bool, device=place.device)
    if keep is not None:
        kept = torch.zeros_like(kept).index_fill(0, torch.tensor(keep, device=place.device), True)
    mean = (step.chosen - step.rejected)[kept].mean()
    beta = (beta0 * (1 + alpha * (mean - m0))).clamp(min=beta_min)
    losses = -F.logsigmoid(beta * margin(scores.logratios, pairs))
    result = pair_losses(losses, beta * scores.logratios, scores, pairs)
    return result if keep is None else replace(result, values=result.values[kept[place]])

"""Objectives of single answers with a yes or a no: one loss per answer.

Notation: h the summed log-ratio of an answer, s the logistic function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.errors import DataError
from burnish.objectives.metrics import half_ties
from burnish.tensors import Losses, Metric, Singles, SingleSums, TokenScores


def kto(
    scores: TokenScores, singles: Singles, *, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0
) -> Losses:
    """`lamD s(-beta (h - z0))` for a yes, `lamU s(-beta (z0 - h))` for a no (2402.01306).

    z0 is the KL to the reference, estimated on prompts with other prompts' answers over the whole step, held at 0 or
    above, without gradient. Keep `desirable` x yeses over `undesirable` x noes between 1 and 4/3.
    """
    ratios = scores.logratios[singles.index]
    if singles.step is None or not len(singles.step.mismatched):
        raise DataError("kto estimates a KL from mismatched answers, so a step needs two prompts at least")
    baseline = singles.step.mismatched.mean().clamp(min=0)
    good = desirable * torch.sigmoid(-beta * (ratios - baseline))
    bad = undesirable * torch.sigmoid(-beta * (baseline - ratios))
    return _losses(torch.where(singles.desirable, good, bad), beta * scores.logratios, scores, singles, baseline)


def bco(scores: TokenScores, singles: Singles, *, beta: float = 0.1, delta: float | None = None) -> Losses:
    """`-log s(beta h - delta)` for a yes, `-log s(-(beta h - delta))` for a no: a binary classifier (2404.04656).

    delta, where it is not given, is the mean of the two classes' mean rewards over the whole step, without gradient.
    """
    rewards = beta * scores.logratios[singles.index]
    shift = _shift(singles.step, rewards, singles.desirable, beta) if delta is None else delta
    sign = torch.where(singles.desirable, 1.0, -1.0).to(rewards.dtype)
    return _losses(-F.logsigmoid(sign * (rewards - shift)), beta * scores.logratios, scores, singles)


def apo_zero_unpaired(scores: TokenScores, singles: Singles, *, beta: float = 0.1) -> Losses:
    """`s(-beta h)` for a yes, `s(beta h)` for a no: KTO with z0 = 0 (2408.06266)."""
    rewards = beta * scores.logratios[singles.index]
    losses = torch.sigmoid(torch.where(singles.desirable, -rewards, rewards))
    return _losses(losses, beta * scores.logratios, scores, singles)


def _shift(step: SingleSums | None, rewards: Tensor, desirable: Tensor, beta: float) -> Tensor:
    """The mean of the means of both classes, so that neither outweighs the other; of one class, its own mean."""
    every = rewards.detach() if step is None else beta * step.logratios
    labels = desirable if step is None else step.desirable
    means = [every[kind].mean() for kind in (labels, ~labels) if bool(kind.any())]
    return torch.stack(means).mean()


def _losses(
    losses: Float[Tensor, " singles"], rewards: Tensor, scores: TokenScores, singles: Singles,
    baseline: Tensor | None = None,
) -> Losses:  # fmt: skip
    """Losses of single answers with the metrics of each class; in a step every yes is compared with every no."""
    with torch.no_grad():
        values: dict[str, Tensor] = {}
        for side, kind in (("chosen", singles.desirable), ("rejected", ~singles.desirable)):
            index = singles.index[kind]
            values |= {
                f"rewards/{side}": rewards[index], f"logps/{side}": scores.logps[index],
                f"logratio/{side}": scores.logratios[index], f"length/{side}": scores.lengths[index].double(),
            }  # fmt: skip
        right = torch.where(singles.desirable, rewards[singles.index], -rewards[singles.index])
        values["rewards/accuracies_sign"] = half_ties(right.double())
        if baseline is not None:
            values["kl/mismatched"] = baseline[None]
    return Losses(losses, "completion", {name: Metric.of(v) for name, v in values.items()}, rewards.detach())

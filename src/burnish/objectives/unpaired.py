"""Objectives of single answers with a yes or a no: one loss per answer.

Notation: h the summed log-ratio of an answer, s the logistic function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import half_ties
from burnish.objectives.settings import Positive
from burnish.objectives.table import DPO_LENGTHS, DPO_LR, Objective
from burnish.tensors import Losses, Metric, Singles, SingleSums, TokenScores


@Objective(
    view="labels", unit="completion", needs={"reference", "mismatched"}, beta_unit="per sequence",
    lr_range=(5e-7, 5e-6), length_effects=DPO_LENGTHS, paper="2402.01306",
)  # fmt: skip
def kto(
    scores: TokenScores, singles: Singles, *, beta: Positive = 0.1, desirable: Positive = 1.0,
    undesirable: Positive = 1.0,
) -> Losses:  # fmt: skip
    """A yes or a no for each answer: gains and losses against the reference, as people weigh them.

    Loss: w s(-beta (h - z0)) for a yes, w s(-beta (z0 - h)) for a no; h the log-ratio, z0 = sg(max(0, mean mismatched
    h))
    Gradient: dl/dh = -w beta s(.) s(-.) for a yes, + for a no

    z0 is the KL to the reference, estimated on prompts with other prompts' answers over the whole step; it is 0 where
    the data has one prompt only. w is
    `desirable` or `undesirable`: keep `desirable` x yeses over `undesirable` x noes between 1 and 4/3.
    """
    ratios = scores.logratios[singles.index]
    if singles.step is None:
        raise ValueError("kto needs the log-ratios of mismatched answers, and none were computed")
    mismatched = singles.step.mismatched
    baseline = mismatched.mean().clamp(min=0) if len(mismatched) else mismatched.new_zeros(())
    yes = desirable * torch.sigmoid(-beta * (ratios - baseline))
    no = undesirable * torch.sigmoid(-beta * (baseline - ratios))
    return _losses(torch.where(singles.desirable, yes, no), beta * scores.logratios, scores, singles, baseline)


@Objective(
    view="labels", unit="completion", needs={"reference", "step"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2404.04656",
)  # fmt: skip
def bco(scores: TokenScores, singles: Singles, *, beta: Positive = 0.1, delta: float | None = None) -> Losses:
    """A binary classifier on single answers.

    Loss: -log s(beta h - delta) for a yes, -log s(-(beta h - delta)) for a no, delta = sg(mean of the two classes' mean
    rewards)
    Gradient: dl/dh = -beta s(delta - beta h) for a yes ; +beta s(beta h - delta) for a no

    The means are over the whole step; `delta`, where it is set, stands in their place.
    """
    rewards = beta * scores.logratios[singles.index]
    shift = _shift(singles.step, rewards, singles.desirable, beta) if delta is None else delta
    sign = torch.where(singles.desirable, 1.0, -1.0).to(rewards.dtype)
    return _losses(-F.logsigmoid(sign * (rewards - shift)), beta * scores.logratios, scores, singles)


@Objective(
    view="labels", unit="completion", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2408.06266",
)  # fmt: skip
def apo_zero_unpaired(scores: TokenScores, singles: Singles, *, beta: Positive = 0.1) -> Losses:
    """Raise every yes and lower every no, each by itself: KTO without its baseline.

    Loss: s(-beta h) for a yes, s(beta h) for a no
    Gradient: dl/dh = -beta s(beta h) s(-beta h) for a yes, + for a no
    """
    rewards = beta * scores.logratios[singles.index]
    losses = torch.sigmoid(torch.where(singles.desirable, -rewards, rewards))
    return _losses(losses, beta * scores.logratios, scores, singles)


def _shift(step: SingleSums | None, rewards: Tensor, desirable: Tensor, beta: float) -> Tensor:
    """The mean of the means of both classes, so that neither outweighs the other; of one class, its own mean."""
    of_step = rewards.detach() if step is None else beta * step.logratios
    labels = desirable if step is None else step.desirable
    means = [of_step[label].mean() for label in (labels, ~labels) if bool(label.any())]
    return torch.stack(means).mean()


def _losses(
    losses: Float[Tensor, " singles"], rewards: Tensor, scores: TokenScores, singles: Singles,
    baseline: Tensor | None = None,
) -> Losses:  # fmt: skip
    """Losses of single answers with the metrics of each class; an accuracy counts rewards of the label's sign."""
    with torch.no_grad():
        values: dict[str, Tensor] = {}
        for side, label in (("chosen", singles.desirable), ("rejected", ~singles.desirable)):
            index = singles.index[label]
            values |= {
                f"rewards/{side}": rewards[index], f"logps/{side}": scores.logps[index],
                f"logratio/{side}": scores.logratios[index], f"length/{side}": scores.lengths[index].double(),
            }  # fmt: skip
        right = torch.where(singles.desirable, rewards[singles.index], -rewards[singles.index])
        values["rewards/accuracies_sign"] = half_ties(right.double())
        if baseline is not None:
            values["kl/mismatched"] = baseline[None]
    return Losses(losses, "completion", {name: Metric.of(v) for name, v in values.items()}, rewards.detach())

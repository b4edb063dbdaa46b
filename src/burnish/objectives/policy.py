"""Policy-gradient objectives: answers that the policy sampled, with an advantage for every token.

Notation: p the new log-prob of a token, o the one it was sampled with, q the reference's; rho = e^(p - o), A the
advantage. What the mask leaves out is taken out before any exponential, so it has no gradient whatever stands there.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from burnish.errors import ConfigError
from burnish.objectives.metrics import ExplainedVariance, Largest
from burnish.tensors import Losses, Metric, Rollouts, TokenScores

Aggregation = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const"]
Estimator = Literal["k1", "k2", "k3"]


def pg(
    scores: TokenScores, rollouts: Rollouts, *,
    level: Literal["token", "sequence", "sequence_token", "sequence_sum"] = "token", eps_low: float = 0.2,
    eps_high: float = 0.2, dual_clip: float | None = None, agg: Aggregation = "seq_mean_token_mean",
    l_max: int | None = None, kl_coef: float = 0.0, kl: Estimator = "k3", kl_is: bool = False,
) -> Losses:  # fmt: skip
    """`-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + kl_coef k` for each token, put together as `agg` says.

    `level` is what rho is a ratio of: tokens (PPO, 1707.06347; GRPO, 2402.03300), `e^(mean log-ratio)` of the sequence
    (GSPO, 2507.18071), that value with each token's own gradient (GSPO-token), or `e^(sum of log-ratios)`, one term a
    sequence (RLOO as TRL has it). `dual_clip` c > 1 bounds the loss of a negative advantage by `c A` (1912.09729).
    """
    log_rho = _log_ratio(scores, rollouts, level)
    advantage = rollouts.advantage
    if level == "sequence_sum":
        if kl_coef:
            raise ConfigError("level = 'sequence_sum' has no term for each token: put the KL in the reward instead")
        last = _last_of(scores, rollouts.mask)
        values = _surrogate(log_rho, advantage, eps_low, eps_high, dual_clip)
        per_sequence = scores.sum_by_completion(torch.where(last, values, 0.0))
        return Losses(per_sequence, "completion", _ratio_metrics(log_rho, advantage, last, eps_low, eps_high))
    values = _surrogate(log_rho, advantage, eps_low, eps_high, dual_clip)
    metrics = _ratio_metrics(log_rho, advantage, rollouts.mask, eps_low, eps_high)
    if scores.reference is not None:
        k = _kl(scores, rollouts, kl)
        k = k * _select(rollouts.mask, log_rho).exp() if kl_is else k
        metrics["kl/mean"] = Metric.of(k[rollouts.mask])
        values = values + kl_coef * k if kl_coef else values
    elif kl_coef:
        raise ValueError("kl_coef needs reference log-probs")
    return _aggregated(values, scores, rollouts, agg, l_max, metrics)


def reinforce(
    scores: TokenScores, rollouts: Rollouts, *, agg: Aggregation = "seq_mean_token_sum", l_max: int | None = None
) -> Losses:
    """`-A p`: the policy gradient itself, of which clipped objectives are the first step (2402.14740)."""
    values = -rollouts.advantage * _select(rollouts.mask & (rollouts.advantage != 0), scores.policy)
    return _aggregated(values, scores, rollouts, agg, l_max, {})


def kl_loss(
    scores: TokenScores, rollouts: Rollouts, *, kl: Estimator = "k3",
    agg: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum"] = "token_mean",
) -> Losses:  # fmt: skip
    """The sampled KL to the reference as a loss, `d = p - q`: k1 `d`, k2 `d^2 / 2`, k3 `e^-d - 1 + d`.

    Differentiated, k1 has no gradient on average, k2 that of the reverse KL, k3 that of the forward KL.
    """
    return _aggregated(_kl(scores, rollouts, kl), scores, rollouts, agg, None, {})


def value_loss(
    scores: TokenScores, rollouts: Rollouts, *, clip: float | None = 0.2,
    agg: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum"] = "token_mean",
) -> Losses:  # fmt: skip
    """`1/2 max((v - R)^2, (o + clip(v - o, +-c) - R)^2)`, o the value when the answer was sampled (1707.06347)."""
    if rollouts.values is None or rollouts.returns is None:
        raise ValueError("the value loss needs values and returns")
    v, target = _select(rollouts.mask, rollouts.values), _select(rollouts.mask, rollouts.returns)
    errors = (v - target).square()
    if clip is not None:
        if rollouts.old_values is None:
            raise ValueError("the clipped value loss needs the values of the sampling policy")
        old = _select(rollouts.mask, rollouts.old_values)
        errors = torch.maximum(errors, (old + (v - old).clamp(-clip, clip) - target).square())
    metrics: dict[str, Metric] = {
        "value/explained_variance": ExplainedVariance.of_two(v[rollouts.mask], target[rollouts.mask])
    }
    return _aggregated(errors / 2, scores, rollouts, agg, None, metrics)


def _select(mask: Tensor, values: Tensor) -> Float[Tensor, " tokens"]:
    return torch.where(mask, values, 0.0)


def _log_ratio(scores: TokenScores, rollouts: Rollouts, level: str) -> Float[Tensor, " tokens"]:
    """log rho of every token at this level; its exponential has the level's gradient."""
    ratio = _select(rollouts.mask, scores.policy) - _select(rollouts.mask, rollouts.behavior)
    if level == "token":
        return ratio
    total = scores.sum_by_completion(ratio)
    if level == "sequence_sum":
        return total[scores.completion_of]
    count = scores.sum_by_completion(rollouts.mask.to(ratio.dtype)).clamp(min=1)
    mean = (total / count)[scores.completion_of]
    return mean if level == "sequence" else mean.detach() + ratio - ratio.detach()


def _surrogate(
    log_rho: Tensor, advantage: Tensor, eps_low: float, eps_high: float, dual_clip: float | None
) -> Float[Tensor, " tokens"]:
    """The clipped loss; where the clip or an advantage of 0 decides, rho is never formed with gradient, so that an
    overflow there leaves no trace."""
    rho = log_rho.detach().exp()
    clipped = rho.clamp(1 - eps_low, 1 + eps_high) * advantage
    flows = (advantage != 0) & ~((advantage > 0) & (rho > 1 + eps_high)) & ~((advantage < 0) & (rho < 1 - eps_low))
    if dual_clip is not None:
        bound = dual_clip * advantage
        flows = flows & ~((advantage < 0) & (rho > dual_clip))
        clipped = torch.where((advantage < 0) & (rho > dual_clip), bound, clipped)
    live = torch.where(flows, log_rho, 0.0).exp() * advantage
    return -torch.where(flows, live, torch.where(advantage == 0, 0.0, clipped))


def _kl(scores: TokenScores, rollouts: Rollouts, kind: str) -> Float[Tensor, " tokens"]:
    if scores.reference is None:
        raise ValueError("a KL needs reference log-probs")
    d = _select(rollouts.mask, scores.policy) - _select(rollouts.mask, scores.reference)
    if kind == "k1":
        return d
    return d.square() / 2 if kind == "k2" else torch.expm1(-d) + d


def _last_of(scores: TokenScores, mask: Tensor) -> Tensor:
    """True at one token of every completion that has any inside the mask."""
    place = torch.where(mask, scores.places, -1)
    most = place.new_full((len(scores.lengths),), -1).scatter_reduce(0, scores.completion_of, place, "amax")
    return mask & (scores.places == most[scores.completion_of])


def _aggregated(
    values: Float[Tensor, " tokens"], scores: TokenScores, rollouts: Rollouts, agg: str, l_max: int | None,
    metrics: dict[str, Metric],
) -> Losses:  # fmt: skip
    """One loss a token for `token_mean`, else one a completion; the loop divides by the step's count of that unit."""
    if (agg == "const") != (l_max is not None):
        raise ConfigError("agg = 'const' divides by l_max: give both, or neither")
    if agg == "token_mean":
        return Losses(values[rollouts.mask], "token", metrics)
    total = scores.sum_by_completion(_select(rollouts.mask, values))
    if agg == "const":
        return Losses(total / float(l_max or 1), "completion", metrics)
    if agg == "seq_mean_token_mean":
        total = total / scores.sum_by_completion(rollouts.mask.to(total.dtype)).clamp(min=1)
    return Losses(total, "completion", metrics)


def _ratio_metrics(
    log_rho: Tensor, advantage: Tensor, mask: Tensor, eps_low: float, eps_high: float
) -> dict[str, Metric]:
    rho, sign = log_rho.detach()[mask].exp(), advantage[mask]
    return {
        "ratio/mean": Metric.of(rho),
        "ratio/max": Largest.of(rho),
        "clip/low": Metric.of(((rho < 1 - eps_low) & (sign < 0)).double()),
        "clip/high": Metric.of(((rho > 1 + eps_high) & (sign > 0)).double()),
    }

"""Policy-gradient objectives: answers that the policy sampled, with an advantage for every token.

Each method is `pg` or `reinforce` as its paper sets it, with its own advantages (`advantages`).

Notation: p the new log-prob of a token, o the one it was sampled with, q the reference's; rho = e^(p - o), A the
advantage. What the mask leaves out is taken out before any exponential, so it has no gradient whatever stands there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from jaxtyping import Float
from torch import Tensor

from burnish.errors import ConfigError
from burnish.objectives import advantages
from burnish.objectives.metrics import ExplainedVariance, Largest
from burnish.objectives.settings import Count, NotNegative, Positive
from burnish.objectives.table import LengthEffects, Objective
from burnish.tensors import Losses, Metric, Rollouts, TokenScores

Aggregation = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const"]
Estimator = Literal["k1", "k2", "k3"]
ClipLow = Annotated[float, Gt(0), Le(1), "a ratio of probabilities is never below 0"]
DualClip = Annotated[float, Gt(1), "it bounds ratios that are above 1"]

RL_LR = (1e-7, 5e-6)  # published learning rates of on-policy training
TRUE_GRADIENT = LengthEffects("no", "yes, as the true gradient has it", "yes, by the reward")
NO_LENGTHS = LengthEffects("no", "no", "no")


@Objective(
    view="rollouts", unit="completion", needs={"reference"}, lr_range=RL_LR, length_effects=TRUE_GRADIENT,
    advantages=advantages.rloo, paper="2402.14740", equation="eq. 8",
)  # fmt: skip
def rloo(scores: TokenScores, rollouts: Rollouts) -> Losses:
    """REINFORCE whose baseline is the mean of the prompt's other answers; the KL stands in the reward.

    Loss: -A log p, summed over the answer; A = r_i - mean of the others' r, r less kl_in_reward x log-ratio
    Gradient: dl/dp_t = -A
    """
    return reinforce(scores, rollouts)


@Objective(
    view="rollouts", unit="completion", needs={"reference"}, lr_range=RL_LR, length_effects=TRUE_GRADIENT,
    advantages=advantages.reinforce, paper="2402.14740",
)  # fmt: skip
def reinforce(
    scores: TokenScores, rollouts: Rollouts, *, agg: Aggregation = "seq_mean_token_sum", l_max: Count | None = None
) -> Losses:
    """The plain policy gradient: raise the log-prob of answers better than the batch's mean.

    Loss: -A log p, summed over the answer; A = r - mean over all answers
    Gradient: dl/dp_t = -A

    The clipped objectives have this gradient in their first step.
    """
    values = -rollouts.advantage * _select(rollouts.mask & (rollouts.advantage != 0), scores.policy)
    return _aggregated(values, scores, rollouts, agg, l_max, {})


@Objective(
    view="rollouts", unit="completion", needs={"reference"}, lr_range=RL_LR, advantages=advantages.grpo,
    length_effects=LengthEffects(
        "no", "1/n a token: wrong answers grow, right ones are pushed harder when short", "yes, by the reward"
    ),
    paper="2402.03300", equation="eq. 3",
)  # fmt: skip
def grpo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: ClipLow = 0.2, eps_high: Positive = 0.2,
    kl_coef: NotNegative = 0.04, kl: Estimator = "k3", kl_is: bool = False,
) -> Losses:  # fmt: skip
    """Rewards standardised within the prompt, clipped ratios by token, the KL in the loss.

    Loss: -min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + kl_coef k3, mean over the answer's tokens
    Gradient: dl/dp_t = -A rho where the clip does not decide, else 0; rho = e^(p - o), o the log-prob as sampled
    """
    return pg(scores, rollouts, eps_low=eps_low, eps_high=eps_high, kl_coef=kl_coef, kl=kl, kl_is=kl_is)


@Objective(
    view="rollouts", unit="completion", needs={"reference"}, lr_range=RL_LR, length_effects=TRUE_GRADIENT,
    advantages=advantages.dr_grpo, paper="2503.20783",
)  # fmt: skip
def dr_grpo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: ClipLow = 0.2, eps_high: Positive = 0.2,
    kl_coef: NotNegative = 0.0, kl: Estimator = "k3", l_max: Count | None = None,
) -> Losses:  # fmt: skip
    """GRPO without its two biases: no division by the spread, none by the answer's own length.

    Loss: -min(rho A, clip(rho) A), summed over the answer and divided by one constant; A = r - mean
    Gradient: dl/dp_t = -A rho where the clip does not decide, else 0; rho = e^(p - o), o the log-prob as sampled

    `l_max` is that constant, in tokens; unset, the most that an answer may have.
    """
    return pg(
        scores, rollouts, eps_low=eps_low, eps_high=eps_high, kl_coef=kl_coef, kl=kl, agg="const",
        l_max=l_max or rollouts.limit,
    )  # fmt: skip


@Objective(
    view="rollouts", unit="token", lr_range=RL_LR, advantages=advantages.dapo, paper="2503.14476", equation="eq. 8",
    length_effects=LengthEffects(
        "no", "all tokens of a step weigh the same", "yes, by the reward (and its overlong penalty)"
    ),
)  # fmt: skip
def dapo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: ClipLow = 0.2, eps_high: Positive = 0.28,
    dual_clip: DualClip | None = None,
) -> Losses:  # fmt: skip
    """GRPO that clips higher, averages over tokens, leaves out prompts without signal, and has no KL.

    Loss: -min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A), mean over all tokens of the step
    Gradient: dl/dp_t = -A rho where the clip does not decide, else 0; rho = e^(p - o), o the log-prob as sampled
    """
    return pg(scores, rollouts, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip, agg="token_mean")


@Objective(
    view="rollouts", unit="completion", needs={"reference"}, lr_range=RL_LR, advantages=advantages.grpo,
    length_effects=LengthEffects("no", "no: 1/n a token", "yes, by the reward"), paper="2507.18071", equation="eq. 5",
)  # fmt: skip
def gspo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: ClipLow = 3e-4, eps_high: Positive = 4e-4,
    kl_coef: NotNegative = 0.0, kl: Estimator = "k3",
) -> Losses:  # fmt: skip
    """GRPO whose ratio is that of whole answers, per token: e^(mean log-ratio).

    Loss: -min(s A, clip(s, 1 - eps_low, 1 + eps_high) A), s = e^(mean of p - o over the answer)
    Gradient: dl/dp_t = -A s / n where the clip does not decide, else 0
    """
    return pg(scores, rollouts, level="sequence", eps_low=eps_low, eps_high=eps_high, kl_coef=kl_coef, kl=kl)


@Objective(
    view="rollouts", unit="token", needs={"reference", "value"}, lr_range=RL_LR, advantages=advantages.ppo,
    length_effects=LengthEffects(
        "yes: each token more costs its KL", "all tokens of a step weigh the same", "yes, by the reward"
    ),
    paper="1707.06347", equation="eq. 9",
)  # fmt: skip
def ppo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: ClipLow = 0.2, eps_high: Positive = 0.2,
    dual_clip: DualClip | None = None, kl_coef: NotNegative = 0.0, kl: Estimator = "k2",
    value_coef: NotNegative = 0.1, value_clip: Positive | None = 0.2,
) -> Losses:  # fmt: skip
    """Clipped ratios with a value head: each token's credit by generalised advantage estimation.

    Loss: -min(rho A, clip(rho) A) + value_coef (v - R)^2 / 2, mean over all tokens
    Gradient: dl/dp_t = -A rho where the clip does not decide, else 0; rho = e^(p - o), o the log-prob as sampled

    The KL stands in the reward (`kl_in_reward`); `kl_coef` puts an estimate of it, `kl`, into the loss as well.
    """
    policy = pg(
        scores, rollouts, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip, agg="token_mean", kl_coef=kl_coef,
        kl=kl,
    )  # fmt: skip
    value = value_loss(scores, rollouts, clip=value_clip)
    means = {"loss/policy": Metric.of(policy.values), "loss/value": Metric.of(value.values)}
    return Losses(policy.values + value_coef * value.values, "token", {**policy.metrics, **value.metrics, **means})


@Objective(
    view="rollouts", unit="completion", needs={"reference"}, lr_range=RL_LR, advantages=advantages.by_kind,
    length_effects=LengthEffects(
        "no", "no with const, token_mean; 1/n a token with seq_mean_token_mean", "yes, by the reward"
    ),
    paper="1707.06347", equation="eq. 7",
)  # fmt: skip
def pg(
    scores: TokenScores, rollouts: Rollouts, *,
    level: Literal["token", "sequence", "sequence_token", "sequence_sum"] = "token", eps_low: ClipLow = 0.2,
    eps_high: Positive = 0.2, dual_clip: DualClip | None = None, agg: Aggregation = "seq_mean_token_mean",
    l_max: Count | None = None, kl_coef: NotNegative = 0.0, kl: Estimator = "k3", kl_is: bool = False,
) -> Losses:  # fmt: skip
    """The clipped policy gradient with all its settings: GRPO, Dr. GRPO, DAPO and GSPO are some of them.

    Loss: -min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + kl_coef k, put together as agg says
    Gradient: dl/dp_t = -A rho where the clip does not decide, else 0; rho = e^(p - o), o the log-prob as sampled

    `level` is what rho is a ratio of: tokens (PPO, GRPO), e^(mean log-ratio) of the sequence (GSPO), that value with
    each token's own gradient (`sequence_token`), or e^(sum of log-ratios), one term a sequence (RLOO as TRL has it).
    `dual_clip` c bounds the loss of a negative advantage by c A (arXiv 1912.09729). `kl_is` multiplies the KL by rho.
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


@Objective(
    view="rollouts", unit="token", needs={"reference"}, lr_range=RL_LR, length_effects=NO_LENGTHS, paper="2402.03300",
)  # fmt: skip
def kl_loss(
    scores: TokenScores, rollouts: Rollouts, *, kl: Estimator = "k3",
    agg: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum"] = "token_mean",
) -> Losses:  # fmt: skip
    """The KL to the reference, estimated on the policy's own answers, as a part of a mixture.

    Loss: k1 = d, k2 = d^2/2, k3 = e^-d - 1 + d, with d = log p - log q
    Gradient: dl/dp_t = 1 (k1: nothing on average) ; d (k2: reverse KL) ; 1 - e^-d (k3: forward KL)
    """
    return _aggregated(_kl(scores, rollouts, kl), scores, rollouts, agg, None, {})


@Objective(
    view="rollouts", unit="token", needs={"value"}, lr_range=RL_LR, length_effects=NO_LENGTHS, paper="1707.06347",
    equation="eq. 9",
)  # fmt: skip
def value_loss(
    scores: TokenScores, rollouts: Rollouts, *, clip: Positive | None = 0.2,
    agg: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum"] = "token_mean",
) -> Losses:  # fmt: skip
    """The value head's regression on returns, for PPO.

    Loss: 1/2 max((v - R)^2, (v_old + clip(v - v_old, +-c) - R)^2)
    Gradient: dl/dv_t = v - R where the first is larger, else that of the clipped one

    v_old is the value when the answer was sampled; `clip` is c.
    """
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

"""The policy-gradient methods by their names: each is `pg` or `reinforce` as its paper sets it."""

from __future__ import annotations

from burnish.objectives.policy import Estimator, pg, reinforce, value_loss
from burnish.tensors import Losses, Metric, Rollouts, TokenScores


def rloo(scores: TokenScores, rollouts: Rollouts) -> Losses:
    """`-A log p` summed over the answer: REINFORCE with the other answers as the baseline (2402.14740, eq. 8)."""
    return reinforce(scores, rollouts)


def grpo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: float = 0.2, eps_high: float = 0.2, kl_coef: float = 0.04,
    kl: Estimator = "k3", kl_is: bool = False,
) -> Losses:  # fmt: skip
    """Clipped ratios by token, averaged over each answer, the KL in the loss (2402.03300, eq. 3)."""
    return pg(scores, rollouts, eps_low=eps_low, eps_high=eps_high, kl_coef=kl_coef, kl=kl, kl_is=kl_is)


def dr_grpo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: float = 0.2, eps_high: float = 0.2, kl_coef: float = 0.0,
    kl: Estimator = "k3", l_max: int | None = None,
) -> Losses:  # fmt: skip
    """Clipped ratios by token, each answer's sum over one constant: its length weighs nothing (2503.20783).

    `l_max` is that constant, in tokens; unset, the most that an answer may have.
    """
    return pg(
        scores, rollouts, eps_low=eps_low, eps_high=eps_high, kl_coef=kl_coef, kl=kl, agg="const",
        l_max=l_max or rollouts.limit,
    )  # fmt: skip


def dapo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: float = 0.2, eps_high: float = 0.28,
    dual_clip: float | None = None,
) -> Losses:  # fmt: skip
    """Clip higher, averaged over all tokens of the step, no KL (2503.14476, eq. 8)."""
    return pg(scores, rollouts, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip, agg="token_mean")


def gspo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: float = 3e-4, eps_high: float = 4e-4, kl_coef: float = 0.0,
    kl: Estimator = "k3",
) -> Losses:  # fmt: skip
    """The ratio is e^(mean log-ratio of the answer), clipped as one (2507.18071, eq. 5)."""
    return pg(scores, rollouts, level="sequence", eps_low=eps_low, eps_high=eps_high, kl_coef=kl_coef, kl=kl)


def ppo(
    scores: TokenScores, rollouts: Rollouts, *, eps_low: float = 0.2, eps_high: float = 0.2,
    dual_clip: float | None = None, kl_coef: float = 0.0, kl: Estimator = "k2", value_coef: float = 0.1,
    value_clip: float | None = 0.2,
) -> Losses:  # fmt: skip
    """Clipped ratios by token and `value_coef` x the value head's loss, averaged over all tokens (1707.06347, eq. 9).

    The KL stands in the reward (`kl_in_reward`); `kl_coef` puts an estimate of it, `kl`, into the loss as well.
    """
    policy = pg(
        scores, rollouts, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip, agg="token_mean", kl_coef=kl_coef,
        kl=kl,
    )  # fmt: skip
    value = value_loss(scores, rollouts, clip=value_clip)
    return Losses(
        policy.values + value_coef * value.values, "token",
        {**policy.metrics, **value.metrics, "loss/policy": _mean(policy), "loss/value": _mean(value)},
    )  # fmt: skip


def _mean(losses: Losses) -> Metric:
    return Metric.of(losses.values)

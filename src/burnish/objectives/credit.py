"""From the rewards of fresh answers to an advantage for every token: what each policy-gradient method means by credit.

A function here sees all answers of one refresh at once, judged and measured; its keyword-only arguments are settings
of the objective it belongs to. Equal rewards within a group give advantages of exactly 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from burnish.objectives.advantages import Rows, adaptive_coefficient, gae, group_advantages, overlong_penalty, whiten
from burnish.objectives.advantages import kl_in_reward as kl_rewards


@dataclass(frozen=True)
class Sample:
    """The answers of one refresh, in order. Log-probs in nats by token: `policy` at the moment of sampling, as the
    trainer computes them; `reference`, `values` where there are any. `limit` is the most tokens an answer could have.
    `state` is what the credit function carried over from the refresh before."""

    rewards: Float[Tensor, " completions"]
    groups: Int[Tensor, " completions"]
    policy: Rows
    reference: Rows | None = None
    values: Rows | None = None
    limit: int = 0
    state: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Credit:
    """Advantages by token of every answer; `returns` for a value head; `kept` False for answers that are not trained
    on; `state` is carried to the next refresh, `figures` go to the log."""

    advantages: Sequence[Tensor]
    returns: Sequence[Tensor] | None = None
    kept: Bool[Tensor, " completions"] | None = None
    state: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def leave_one_out(sample: Sample, *, kl_in_reward: float = 0.05) -> Credit:
    """RLOO: `r_i - mean of the other answers' r`, r less `kl_in_reward` x the summed log-ratio (2402.14740, eq. 8)."""
    return _spread(group_advantages(_with_kl(sample, kl_in_reward), sample.groups, "rloo"), sample)


def batch_baseline(sample: Sample, *, kl_in_reward: float = 0.05) -> Credit:
    """REINFORCE: r less the mean over all answers of the refresh, the KL in the reward as for RLOO (2402.14740)."""
    return _spread(group_advantages(_with_kl(sample, kl_in_reward), sample.groups, "batch_mean"), sample)


def standardised(sample: Sample, *, std_eps: float = 1e-4) -> Credit:
    """GRPO: `(r - mean) / (std + std_eps)` over the group's answers (2402.03300)."""
    return _spread(group_advantages(sample.rewards, sample.groups, "grpo", eps=std_eps), sample)


def centred(sample: Sample) -> Credit:
    """Dr. GRPO: `r - mean` over the group's answers (2503.20783)."""
    return _spread(group_advantages(sample.rewards, sample.groups, "dr_grpo"), sample)


def dynamic(sample: Sample, *, std_eps: float = 1e-4, overlong_buffer: int | None = None) -> Credit:
    """DAPO: as GRPO, without the groups whose rewards are all alike, and with a soft penalty on the last
    `overlong_buffer` tokens before the limit where that is set (2503.14476)."""
    rewards = sample.rewards.double()
    if overlong_buffer is not None:
        sizes = [len(row) for row in sample.policy]
        penalty = [overlong_penalty(size, sample.limit, min(overlong_buffer, sample.limit)) for size in sizes]
        rewards = rewards + torch.tensor(penalty, dtype=torch.float64)
    kept = torch.ones(len(rewards), dtype=torch.bool)
    for group in sample.groups.unique().tolist():
        here = sample.groups == group
        kept[here] = bool(rewards[here].max() > rewards[here].min())
    credit = _spread(group_advantages(rewards, sample.groups, "grpo", eps=std_eps), sample)
    return Credit(credit.advantages, kept=kept)


def chosen(
    sample: Sample, *, advantage: Literal["rloo", "grpo", "dr_grpo", "batch_mean"] = "grpo", kl_in_reward: float = 0.0
) -> Credit:  # fmt: skip
    """Any of the group advantages, with or without the KL in the reward."""
    return _spread(group_advantages(_with_kl(sample, kl_in_reward), sample.groups, advantage), sample)


def generalised(
    sample: Sample, *, kl_in_reward: float = 0.05, discount: float = 1.0, lam: float = 0.95, whitened: bool = True,
    kl_target: float | None = None, kl_horizon: float = 10_000.0,
) -> Credit:  # fmt: skip
    """PPO: generalised advantage estimation over tokens, the reward on the last one and `-coefficient x log-ratio` on
    each (1506.02438, eq. 16; 1909.08593). The coefficient is `kl_in_reward`; with `kl_target` (nats an answer) it
    starts there and follows the target over about `kl_horizon` answers. Advantages are whitened over the refresh."""
    if sample.values is None:
        raise ValueError("generalised advantages need a value head")
    coefficient = float(sample.state.get("kl_in_reward", kl_in_reward))
    reference = sample.policy if sample.reference is None else sample.reference
    inside = [torch.ones(len(row), dtype=torch.bool) for row in sample.policy]
    rewards = kl_rewards(sample.rewards.double(), sample.policy, reference, inside, coefficient)
    found, returns = gae(rewards, sample.values, inside, discount, lam)
    found = whiten(found, inside) if whitened else found
    state: dict[str, float] = {}
    if kl_target is not None:
        drift = [float((p.double() - q.double()).sum()) for p, q in zip(sample.policy, reference, strict=True)]
        mean = sum(drift) / max(1, len(drift))
        state["kl_in_reward"] = adaptive_coefficient(coefficient, mean, kl_target, len(drift), int(kl_horizon))
    return Credit(found, returns, state=state, figures={"kl_in_reward": coefficient})


# credit that is a comparison within the prompt: one answer alone has an advantage of 0
COMPARING = (leave_one_out, standardised, centred, dynamic)


def _with_kl(sample: Sample, coefficient: float) -> Tensor:
    """Rewards less the coefficient times each answer's summed log-ratio at the time it was sampled."""
    rewards = sample.rewards.double()
    if not coefficient or sample.reference is None:
        return rewards
    ratios = [(p.double() - q.double()).sum() for p, q in zip(sample.policy, sample.reference, strict=True)]
    return rewards - coefficient * torch.stack(ratios)


def _spread(advantages: Tensor, sample: Sample) -> Credit:
    """The advantage of an answer at each of its tokens."""
    return Credit([one.expand(len(row)) for one, row in zip(advantages, sample.policy, strict=True)])

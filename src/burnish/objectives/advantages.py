"""From the rewards of sampled answers to an advantage for every token, one function a policy-gradient method.

A method's function sees all answers of one refresh, judged and measured; its keyword-only arguments are settings of the
objective that it belongs to. Equal rewards within a group give advantages of exactly 0.

All in float64: a float32 residue of equal rewards, divided by a tiny spread, would be an advantage out of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor

from burnish.objectives.settings import Count, NotNegative, Positive, Share

Rows = Sequence[Tensor]  # one tensor of tokens for each completion


@dataclass(frozen=True)
class RolloutBatch:
    """The answers of one refresh, in order. Log-probs in nats by token: `policy` as the trainer computes them when the
    answers are sampled; `reference` and `values` where there are any. `limit` is the most tokens an answer could have.
    `state` is what the advantages' function carried over from the refresh before."""

    rewards: Float[Tensor, " completions"]
    groups: Int[Tensor, " completions"]
    policy: Rows
    reference: Rows | None = None
    values: Rows | None = None
    limit: int = 0
    state: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Advantages:
    """Of every answer the advantage of each token; `returns` for a value head; `kept` False for answers that are not
    trained on; `state` is carried to the next refresh, `metrics` go to the log."""

    by_token: Sequence[Tensor]
    returns: Sequence[Tensor] | None = None
    kept: Bool[Tensor, " completions"] | None = None
    state: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def rloo(batch: RolloutBatch, *, kl_in_reward: NotNegative = 0.05) -> Advantages:
    """RLOO: `r_i - mean of the other answers' r`, r less `kl_in_reward` x the summed log-ratio (2402.14740, eq. 8)."""
    return _spread(group_advantages(_with_kl(batch, kl_in_reward), batch.groups, "rloo"), batch)


def reinforce(batch: RolloutBatch, *, kl_in_reward: NotNegative = 0.05) -> Advantages:
    """REINFORCE: r less the mean over all answers of the refresh, the KL in the reward as for RLOO (2402.14740)."""
    return _spread(group_advantages(_with_kl(batch, kl_in_reward), batch.groups, "batch_mean"), batch)


def grpo(batch: RolloutBatch, *, std_eps: Positive = 1e-4) -> Advantages:
    """GRPO: `(r - mean) / (std + std_eps)` over the group's answers (2402.03300)."""
    return _spread(group_advantages(batch.rewards, batch.groups, "grpo", eps=std_eps), batch)


def dr_grpo(batch: RolloutBatch) -> Advantages:
    """Dr. GRPO: `r - mean` over the group's answers (2503.20783)."""
    return _spread(group_advantages(batch.rewards, batch.groups, "dr_grpo"), batch)


def dapo(batch: RolloutBatch, *, std_eps: Positive = 1e-4, overlong_buffer: Count | None = None) -> Advantages:
    """DAPO: as GRPO, without the groups whose rewards are all alike, and with a soft penalty on the last
    `overlong_buffer` tokens before the limit where that is set (2503.14476)."""
    rewards = batch.rewards.double()
    if overlong_buffer is not None:
        sizes = [len(row) for row in batch.policy]
        penalty = [overlong_penalty(size, batch.limit, min(overlong_buffer, batch.limit)) for size in sizes]
        rewards = rewards + torch.tensor(penalty, dtype=torch.float64)
    kept = torch.ones(len(rewards), dtype=torch.bool)
    for group in batch.groups.unique().tolist():
        members = batch.groups == group
        kept[members] = bool(rewards[members].max() > rewards[members].min())
    return replace(_spread(group_advantages(rewards, batch.groups, "grpo", eps=std_eps), batch), kept=kept)


def by_kind(
    batch: RolloutBatch, *, advantage: Literal["rloo", "grpo", "dr_grpo", "batch_mean"] = "grpo",
    kl_in_reward: NotNegative = 0.0,
) -> Advantages:  # fmt: skip
    """Any of the group advantages, with or without the KL in the reward."""
    return _spread(group_advantages(_with_kl(batch, kl_in_reward), batch.groups, advantage), batch)


def ppo(
    batch: RolloutBatch, *, kl_in_reward: NotNegative = 0.05, discount: Annotated[float, Gt(0), Le(1)] = 1.0,
    lam: Share = 0.95, whitened: bool = True, kl_target: Positive | None = None, kl_horizon: Count = 10_000,
) -> Advantages:  # fmt: skip
    """PPO: generalised advantage estimation over tokens, the reward on the last one and `-coefficient x log-ratio` on
    each (1506.02438, eq. 16; 1909.08593). The coefficient is `kl_in_reward`; with `kl_target` (nats an answer) it
    starts there and follows the target over about `kl_horizon` answers. Advantages are whitened over the refresh."""
    if batch.values is None:
        raise ValueError("generalised advantages need a value head")
    coefficient = float(batch.state.get("kl_in_reward", kl_in_reward))
    reference = batch.policy if batch.reference is None else batch.reference
    mask = [torch.ones(len(row), dtype=torch.bool) for row in batch.policy]
    rewards = rewards_with_kl(batch.rewards.double(), batch.policy, reference, mask, coefficient)
    by_token, returns = gae(rewards, batch.values, mask, discount, lam)
    by_token = whiten(by_token, mask) if whitened else by_token
    state: dict[str, float] = {}
    if kl_target is not None:
        kl = [float((p.double() - q.double()).sum()) for p, q in zip(batch.policy, reference, strict=True)]
        mean = sum(kl) / max(1, len(kl))
        state["kl_in_reward"] = adaptive_coefficient(coefficient, mean, kl_target, len(kl), kl_horizon)
    return Advantages(by_token, returns, state=state, metrics={"kl_in_reward": coefficient})


# advantages that compare the answers of a prompt: one answer alone has an advantage of 0
COMPARING = (rloo, grpo, dr_grpo, dapo)


def _with_kl(batch: RolloutBatch, coefficient: float) -> Tensor:
    """Rewards less the coefficient times each answer's summed log-ratio at the time it was sampled."""
    rewards = batch.rewards.double()
    if not coefficient or batch.reference is None:
        return rewards
    ratios = [(p.double() - q.double()).sum() for p, q in zip(batch.policy, batch.reference, strict=True)]
    return rewards - coefficient * torch.stack(ratios)


def _spread(advantages: Tensor, batch: RolloutBatch) -> Advantages:
    """The advantage of an answer at each of its tokens."""
    return Advantages([value.expand(len(row)) for value, row in zip(advantages, batch.policy, strict=True)])


def group_advantages(
    rewards: Float[Tensor, " completions"], groups: Int[Tensor, " completions"],
    kind: Literal["rloo", "grpo", "dr_grpo", "batch_mean"], eps: float = 1e-4, ddof: int = 1,
) -> Float[Tensor, " completions"]:  # fmt: skip
    """The advantage of each completion over its group; exactly 0 where its rewards are all equal.

    rloo: `r_i - mean of the others` (2402.14740); grpo: `(r_i - mean) / (std + eps)`, the std with `ddof` (2402.03300);
    dr_grpo: `r_i - mean` (2503.20783); batch_mean: the same with the mean of all completions.
    """
    rewards = rewards.double()
    advantages = torch.zeros_like(rewards)
    baseline_of = torch.zeros_like(groups) if kind == "batch_mean" else groups
    for baseline in baseline_of.unique().tolist():
        members = baseline_of == baseline
        r = rewards[members]
        if len(r) < 2 or bool(r.max() == r.min()):
            continue
        centred = r - r.mean()
        if kind == "rloo":
            centred = centred * (len(r) / (len(r) - 1))
        elif kind == "grpo":
            centred = centred / (r.std(correction=ddof) + eps)
        advantages[members] = centred
    return advantages


def gae(rewards: Rows, values: Rows, mask: Rows, gamma: float, lam: float) -> tuple[list[Tensor], list[Tensor]]:
    """(advantages, returns) of every completion: `A_t = d_t + gamma lam A_{t+1}`, `d_t = r_t + gamma V_{t+1} - V_t`,
    returns `A + V` (1506.02438, eq. 16).

    Tokens outside the mask (a tool's output) are stepped over: V and A are carried across them, and theirs are 0.
    """
    advantages, returns = [], []
    for r, v, inside in zip(rewards, values, mask, strict=True):
        a, a_plus_v = torch.zeros_like(v, dtype=torch.float64), torch.zeros_like(v, dtype=torch.float64)
        next_v = next_a = 0.0
        for t in range(len(v) - 1, -1, -1):
            if not inside[t]:
                continue
            delta = float(r[t]) + gamma * next_v - float(v[t])
            next_a, next_v = delta + gamma * lam * next_a, float(v[t])
            a[t], a_plus_v[t] = next_a, next_a + next_v
        advantages.append(a)
        returns.append(a_plus_v)
    return advantages, returns


def whiten(rows: Rows, mask: Rows, ddof: int = 0, eps: float = 1e-8, shift_mean: bool = True) -> list[Tensor]:
    """`(x - mean) / sqrt(var + eps)` over all tokens inside the mask, 0 outside; with `shift_mean` false the mean is
    added back. A single token, or none, has no variance and stays as it is."""
    inside = torch.cat([row[keep] for row, keep in zip(rows, mask, strict=True)]).double()
    if len(inside) < 2:
        return [torch.where(keep, row.double(), 0.0) for row, keep in zip(rows, mask, strict=True)]
    mean, scale = inside.mean(), (inside.var(correction=ddof) + eps).sqrt()
    shift = 0.0 if shift_mean else mean
    return [torch.where(keep, (row.double() - mean) / scale + shift, 0.0) for row, keep in zip(rows, mask, strict=True)]


def rewards_with_kl(
    scores: Float[Tensor, " completions"], new: Rows, ref: Rows, mask: Rows, coef: float
) -> list[Tensor]:
    """Rewards per token: `-coef (log p - log q)`, and the score on the last token inside the mask; without gradient.

    As a reward the sampled log-ratio gives the reverse KL's gradient; as a loss it would give none (1909.08593).
    """
    rewards = []
    for score, p, q, inside in zip(scores.tolist(), new, ref, mask, strict=True):
        ratio = torch.where(inside, p.detach(), 0.0).double() - torch.where(inside, q.detach(), 0.0).double()
        reward = torch.where(inside, -coef * ratio, 0.0)
        if inside.any():
            reward[int(inside.nonzero()[-1])] += score
        rewards.append(reward)
    return rewards


def overlong_penalty(length: int, max_len: int, buffer: int) -> float:
    """DAPO's soft penalty: 0 up to `max_len - buffer` tokens, then linearly to -1 at `max_len` (2503.14476, eq. 13)."""
    return -min(1.0, max(0.0, (length - (max_len - buffer)) / buffer))


def adaptive_coefficient(coef: float, kl: float, target: float, count: int, horizon: int) -> float:
    """`coef (1 + clip(KL / target - 1, +-0.2) n / horizon)`: the KL's price follows its target (1909.08593)."""
    return coef * (1 + min(0.2, max(-0.2, kl / target - 1)) * count / horizon)

"""From rewards to advantages: baselines over groups, generalised advantage estimation, KL in the reward.

All in float64: a float32 residue of equal rewards, divided by a tiny spread, would be an advantage out of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rows = Sequence[Tensor]  # one tensor of tokens for each completion


def group_advantages(
    rewards: Float[Tensor, " completions"], groups: Int[Tensor, " completions"],
    kind: Literal["rloo", "grpo", "dr_grpo", "batch_mean"], eps: float = 1e-4, ddof: int = 1,
) -> Float[Tensor, " completions"]:  # fmt: skip
    """The advantage of each completion over its group; exactly 0 where all rewards of a group are equal, or it is one.

    rloo: `r_i - mean of the others` (2402.14740); grpo: `(r_i - mean) / (std + eps)`, the std with `ddof` (2402.03300);
    dr_grpo: `r_i - mean` (2503.20783); batch_mean: the same with the mean of all completions.
    """
    rewards = rewards.double()
    found = torch.zeros_like(rewards)
    keys = torch.zeros_like(groups) if kind == "batch_mean" else groups
    for key in keys.unique().tolist():
        here = keys == key
        own = rewards[here]
        if len(own) < 2 or bool(own.max() == own.min()):
            continue
        centred = own - own.mean()
        if kind == "rloo":
            centred = centred * (len(own) / (len(own) - 1))
        elif kind == "grpo":
            centred = centred / (own.std(correction=ddof) + eps)
        found[here] = centred
    return found


def gae(rewards: Rows, values: Rows, mask: Rows, gamma: float, lam: float) -> tuple[list[Tensor], list[Tensor]]:
    """(advantages, returns) of every completion: `A_t = d_t + gamma lam A_{t+1}`, `d_t = r_t + gamma V_{t+1} - V_t`,
    returns `A + V` (1506.02438, eq. 16).

    Tokens outside the mask (a tool's output) are stepped over: V and A are carried across them, and theirs are 0.
    """
    advantages, returns = [], []
    for reward, value, inside in zip(rewards, values, mask, strict=True):
        found, back = torch.zeros_like(value, dtype=torch.float64), torch.zeros_like(value, dtype=torch.float64)
        ahead_value = ahead = 0.0
        for t in range(len(value) - 1, -1, -1):
            if not inside[t]:
                continue
            delta = float(reward[t]) + gamma * ahead_value - float(value[t])
            ahead, ahead_value = delta + gamma * lam * ahead, float(value[t])
            found[t], back[t] = ahead, ahead + ahead_value
        advantages.append(found)
        returns.append(back)
    return advantages, returns


def whiten(rows: Rows, mask: Rows, ddof: int = 0, eps: float = 1e-8, shift_mean: bool = True) -> list[Tensor]:
    """`(x - mean) / sqrt(var + eps)` over all tokens inside the mask, 0 outside; with `shift_mean` false the mean is
    added back. A single token, or none, has no variance and stays as it is."""
    inside = torch.cat([row[keep] for row, keep in zip(rows, mask, strict=True)]).double()
    if len(inside) < 2:
        return [torch.where(keep, row.double(), 0.0) for row, keep in zip(rows, mask, strict=True)]
    mean, scale = inside.mean(), (inside.var(correction=ddof) + eps).sqrt()
    kept = 0.0 if shift_mean else mean
    return [torch.where(keep, (row.double() - mean) / scale + kept, 0.0) for row, keep in zip(rows, mask, strict=True)]


def kl_in_reward(scores: Float[Tensor, " completions"], new: Rows, ref: Rows, mask: Rows, coef: float) -> list[Tensor]:
    """Rewards per token: `-coef (log p - log q)`, and the score on the last token inside the mask; without gradient.

    As a reward the sampled log-ratio gives the reverse KL's gradient; as a loss it would give none (1909.08593).
    """
    found = []
    for score, p, q, inside in zip(scores.tolist(), new, ref, mask, strict=True):
        ratio = torch.where(inside, p.detach(), 0.0).double() - torch.where(inside, q.detach(), 0.0).double()
        reward = torch.where(inside, -coef * ratio, 0.0)
        if inside.any():
            reward[int(inside.nonzero()[-1])] += score
        found.append(reward)
    return found


def overlong_penalty(length: int, max_len: int, buffer: int) -> float:
    """DAPO's soft penalty: 0 up to `max_len - buffer` tokens, then linearly to -1 at `max_len` (2503.14476, eq. 13)."""
    return -min(1.0, max(0.0, (length - (max_len - buffer)) / buffer))


def adaptive_coefficient(coef: float, kl: float, target: float, count: int, horizon: int) -> float:
    """`coef (1 + clip(KL / target - 1, +-0.2) n / horizon)`: the KL's price follows its target (1909.08593)."""
    return coef * (1 + min(0.2, max(-0.2, kl / target - 1)) * count / horizon)

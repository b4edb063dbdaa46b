"""Objectives of the margin between two answers: one loss per pair, un-reduced; each shaped like its equation.

Notation: S summed policy log-probs, a and b summed log-ratios of chosen and rejected, D = a - b, z = beta D, s the
logistic function; a hat divides by the number of tokens.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.shapes import margin, pair_losses, smoothed_logistic
from burnish.tensors import Losses, Pairs, TokenScores


def dpo(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Losses:
    """`-log s(beta D)`, Direct Preference Optimization (2305.18290, eq. 7); with label smoothing, conservative DPO.

    `beta` is per sequence. `label_smoothing` is the believed share of flipped labels: the loss is then least at
    `beta D = log((1-e)/e)` instead of at infinity (Mitchell's note on cDPO).
    """
    rewards = beta * scores.logratios
    return pair_losses(smoothed_logistic(margin(rewards, pairs), label_smoothing), rewards, scores, pairs)


def dpo_norm(scores: TokenScores, pairs: Pairs, *, beta: float = 5.0, label_smoothing: float = 0.0) -> Losses:
    """`-log s(beta (a hat - b hat))`: DPO on mean log-ratios (Tulu 3, 2411.15124, eq. 6). `beta` is per token."""
    rewards = beta * scores.logratios / scores.counts
    return pair_losses(smoothed_logistic(margin(rewards, pairs), label_smoothing), rewards, scores, pairs)


def ipo(scores: TokenScores, pairs: Pairs, *, tau: float = 0.1, normalize: Literal["sum", "avg"] = "sum") -> Losses:
    """`(D - 1/(2 tau))^2` (2310.12036, eq. 17), or with `avg` on mean log-ratios, as its authors ran it (TRL #1265).

    `tau` plays beta's part: larger stays closer to the reference. It is per sequence with `sum`, per token with `avg`.
    """
    ratios = scores.logratios if normalize == "sum" else scores.logratios / scores.counts
    losses = (margin(ratios, pairs) - 1 / (2 * tau)).square()
    return pair_losses(losses, tau * ratios, scores, pairs)


def simpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 2.0, gamma: float = 1.0, label_smoothing: float = 0.0
) -> Losses:
    """`-log s(beta (S hat_w - S hat_l) - gamma)`: no reference (2405.14734, eq. 6). `beta` is per token.

    `gamma` is the target margin itself; the authors' code takes gamma / beta (they advise 0.1 to 0.8 for it).
    """
    rewards = beta * scores.logps / scores.counts
    return pair_losses(smoothed_logistic(margin(rewards, pairs) - gamma, label_smoothing), rewards, scores, pairs)


def robust_dpo(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Losses:
    """`[-(1-e) log s(z) + e log s(-z)] / (1-2e)`: unbiased when a share e of the labels is flipped (2403.00409).

    Note the plus: conservative DPO has a minus and stops at a finite margin, this one never does, and may be negative.
    """
    e, rewards = label_smoothing, beta * scores.logratios
    z = margin(rewards, pairs)
    losses = -F.logsigmoid(z) if e == 0 else (-(1 - e) * F.logsigmoid(z) + e * F.logsigmoid(-z)) / (1 - 2 * e)
    return pair_losses(losses, rewards, scores, pairs)


def hinge(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, margin: float = 1.0) -> Losses:
    """`max(0, m - z)`: the hinge on the normalised margin (RSO, 2309.06657); libraries call it SLiC."""
    rewards = beta * scores.logratios
    z = rewards[pairs.chosen] - rewards[pairs.rejected]
    return pair_losses(F.relu(margin - z), rewards, scores, pairs)


def r_dpo(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, alpha: float = 0.01) -> Losses:
    """`-log s(z + alpha (n_w - n_l))`: a constant for length, so that the longer winner needs less (2403.19159)."""
    rewards = beta * scores.logratios
    longer = (scores.lengths[pairs.chosen] - scores.lengths[pairs.rejected]).to(rewards.dtype)
    return pair_losses(-F.logsigmoid(margin(rewards, pairs) + alpha * longer), rewards, scores, pairs)


def ld_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, alpha: float = 0.5,
    ref: Literal["both", "policy"] = "both",
) -> Losses:  # fmt: skip
    """`-log s(beta (a - b))` with tokens behind the shorter answer's length weighted by alpha (2409.06411).

    alpha = 1 is DPO, 0 cuts both answers to the shorter length. `ref` says whether the reference is weighted too (then
    the loss starts at log 2) or the policy alone.
    """
    shorter = torch.minimum(scores.lengths[pairs.chosen], scores.lengths[pairs.rejected])
    sides = [_tail_weighted(scores, index, shorter, alpha, ref) for index in (pairs.chosen, pairs.rejected)]
    rewards = beta * scores.logratios
    return pair_losses(-F.logsigmoid(beta * (sides[0] - sides[1])), rewards, scores, pairs)


def _tail_weighted(
    scores: TokenScores, index: Tensor, shorter: Tensor, alpha: float, ref: str
) -> Float[Tensor, " pairs"]:
    """Each pair's log-ratio of one side, its tokens at `shorter` and behind weighted by alpha."""
    ratio = scores.policy - _reference(scores)
    tail = alpha * ratio if ref == "both" else alpha * scores.policy - _reference(scores)
    place = scores.places
    # a completion may stand in several pairs, cut at another length in each: pairs x tokens, one completion at a time
    pair, token = (scores.completion_of[None, :] == index[:, None]).nonzero(as_tuple=True)
    values = torch.where(place[token] < shorter[pair], ratio[token], tail[token])
    zero = values.new_zeros(len(index), dtype=torch.float64)
    return zero.index_add(0, pair, values.to(torch.float64)).to(values.dtype)


def _reference(scores: TokenScores) -> Tensor:
    assert scores.reference is not None
    return scores.reference


def dpop(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, lam: float = 5.0) -> Losses:
    """`-log s(beta (D - lam max(0, -a)))`: DPO-positive, a price on a chosen answer that loses (2402.13228)."""
    ratios = scores.logratios
    fallen = F.relu(-ratios[pairs.chosen])
    return pair_losses(-F.logsigmoid(beta * (margin(ratios, pairs) - lam * fallen)), beta * ratios, scores, pairs)


def exo_pair(scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, eps: float = 1e-3) -> Losses:
    """KL from (s(z), s(-z)) to (1-eps, eps): the reverse KL of EXO for two answers (2402.00856, eq. 16).

    Its gradient vanishes for a large |z|, also where that is wrong.
    """
    rewards = beta * scores.logratios
    z = margin(rewards, pairs)
    right, wrong = F.logsigmoid(z), F.logsigmoid(-z)
    losses = _weighted(right, right - math.log(1 - eps)) + _weighted(wrong, wrong - math.log(eps))
    return pair_losses(losses, rewards, scores, pairs)


def _weighted(log_weight: Tensor, value: Tensor) -> Tensor:
    """`exp(log_weight) value`, where a weight of 0 leaves nothing of an infinite value."""
    gone = log_weight == -math.inf
    return torch.where(gone, 0.0, log_weight.exp() * torch.where(gone, 0.0, value))


def discopop(scores: TokenScores, pairs: Pairs, *, beta: float = 0.05, tau: float = 0.05) -> Losses:
    """`(1 - s(z/tau)) log(1 + e^-z) + s(z/tau) e^-z`: log-ratio modulated loss, found by search (2406.08414, eq. 5).

    At beta = tau its slope at z = 0 is positive: the first steps push the margin down. That is the published loss.
    """
    rewards = beta * scores.logratios
    z = margin(rewards, pairs)
    # s(z/tau) e^-z as one exponential: apart, they are 0 x inf far below 0
    losses = torch.sigmoid(-z / tau) * -F.logsigmoid(z) + torch.exp(F.logsigmoid(z / tau) - z)
    return pair_losses(losses, rewards, scores, pairs)


def chi_po(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, clip: float | None = None, exp_lo: float = -88.0,
    exp_hi: float = 20.0,
) -> Losses:  # fmt: skip
    """`-log s(clip(beta (phi(a) - phi(b)), +-clip))`, `phi(v) = e^v + v`: chi-squared and KL together (2407.13399)."""
    ratios = scores.logratios
    scored = ratios.clamp(exp_lo, exp_hi).exp() + ratios
    z = beta * margin(scored, pairs)
    z = z if clip is None else z.clamp(-clip, clip)
    return pair_losses(-F.logsigmoid(z), beta * scored, scores, pairs)


def f_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl", alpha: float = 0.5,
    exp_hi: float = 80.0,
) -> Losses:  # fmt: skip
    """`-log s(beta (f'(e^a) - f'(e^b)))`: DPO under another divergence (2309.16240). reverse_kl is DPO itself.

    With v a log-ratio, f' is v (reverse KL), `-e^-v` (forward KL), `log s(v)` (Jensen-Shannon), `-e^(-alpha v)/alpha`.
    """
    ratios = scores.logratios
    if divergence == "reverse_kl":
        scored = ratios
    elif divergence == "js":
        scored = F.logsigmoid(ratios)
    else:
        power = 1.0 if divergence == "forward_kl" else alpha
        scored = -(-power * ratios).clamp(max=exp_hi).exp() / power
    return pair_losses(-F.logsigmoid(beta * margin(scored, pairs)), beta * scored, scores, pairs)

"""Maximum likelihood: the objective of supervised fine-tuning, and objectives of pairs that it anchors.

Notation: S summed policy log-probs of chosen (w) and rejected (l); S hat divides by the number of tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.shapes import margin, pair_losses, smoothed_logistic
from burnish.tensors import Losses, Metric, Pairs, Singles, TokenScores


def sft(scores: TokenScores, singles: Singles) -> Losses:
    """`-p_t` for every token of the chosen completions; the loop's division makes it the step's mean per token."""
    trained = torch.zeros(scores.lengths.shape[0], dtype=torch.bool, device=scores.policy.device)
    trained[singles.index] = True
    losses = -scores.policy[trained[scores.completion_of]]
    sums = scores.logps.detach()[singles.index]
    metrics = {
        "logps/chosen": Metric.of(sums),
        "logps/chosen_per_token": Metric.of(sums / scores.counts[singles.index]),
        "length/chosen": Metric.of(scores.lengths[singles.index]),
    }
    return Losses(losses, "token", metrics)


def _nll(
    scores: TokenScores, pairs: Pairs, kind: Literal["seq_sum", "seq_mean", "token_mean"]
) -> Float[Tensor, " pairs"]:
    """Negative log-likelihood of the chosen answers. `token_mean` is the step's mean per token, the same for each pair:
    the loop divides by the step's pairs, so the sum over a microbatch is brought to the step's mean length."""
    nll = -scores.logps[pairs.chosen]
    if kind == "seq_sum":
        return nll
    lengths = scores.counts[pairs.chosen]
    if kind == "seq_mean":
        return nll / lengths
    mean = scores.lengths[pairs.chosen].to(nll.dtype).mean() if pairs.mean_length is None else pairs.mean_length
    return (nll.mean() / mean).expand(nll.shape)


def cpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, nll_weight: float = 1.0,
    nll: Literal["seq_sum", "token_mean"] = "seq_sum", label_smoothing: float = 0.0,
) -> Losses:  # fmt: skip
    """`-log s(beta (S_w - S_l)) + nll_weight NLL_w`: contrastive, without a reference (2401.08417)."""
    rewards = beta * scores.logps
    losses = smoothed_logistic(margin(rewards, pairs), label_smoothing) + nll_weight * _nll(scores, pairs, nll)
    return pair_losses(losses, rewards, scores, pairs)


def rpo(
    scores: TokenScores, pairs: Pairs, *, beta: float = 0.1, alpha: float = 1.0,
    nll: Literal["seq_mean", "token_mean", "seq_sum"] = "seq_mean",
) -> Losses:  # fmt: skip
    """`-log s(beta D) + alpha NLL_w`: DPO anchored on the chosen answer (2404.19733; with `seq_sum`, 2405.16436)."""
    rewards = beta * scores.logratios
    losses = -F.logsigmoid(margin(rewards, pairs)) + alpha * _nll(scores, pairs, nll)
    return pair_losses(losses, rewards, scores, pairs)


def orpo(
    scores: TokenScores, pairs: Pairs, *, lam: float = 0.1, nll_weight: float = 1.0, max_logp: float = -1e-7
) -> Losses:
    """`-S hat_w - lam log s(o_w - o_l)`, `o = S hat - log(1 - e^(S hat))`: odds ratios, no reference (2403.07691).

    Likelihood is that of the completion alone. The mean log-prob is kept below `max_logp` inside the odds, which are
    infinite at 0.
    """
    means = scores.logps / scores.counts
    held = means.clamp(max=max_logp)
    odds = held - log1mexp(held)
    losses = -nll_weight * means[pairs.chosen] - lam * F.logsigmoid(margin(odds, pairs))
    return pair_losses(losses, lam * means, scores, pairs)


def log1mexp(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """`log(1 - e^x)` for x < 0, each branch on its own inputs: the gradient of the other would be infinite."""
    near = x > -0.6931471805599453
    small = torch.where(near, x, -1.0)
    large = torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))


def slic_hf(
    scores: TokenScores, pairs: Pairs, *, delta: float = 1.0, lam: float = 0.1,
    reg_norm: Literal["sum", "avg"] = "sum",
) -> Losses:  # fmt: skip
    """`max(0, delta - S_w + S_l) + lam NLL_w`: sequence likelihood calibration (2305.10425); the chosen answer is the
    target of the likelihood term."""
    anchor = _nll(scores, pairs, "seq_sum" if reg_norm == "sum" else "seq_mean")
    losses = F.relu(delta - margin(scores.logps, pairs)) + lam * anchor
    return pair_losses(losses, scores.logps, scores, pairs)

"""Maximum likelihood: the objective of supervised fine-tuning, and objectives of pairs that it anchors.

Notation: S summed policy log-probs of chosen (w) and rejected (l); S hat divides by the number of tokens; NLL_w the
chosen answer's negative log-likelihood; s the logistic function; u = s of the margin's negative.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Lt
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import margin, pair_losses, smoothed_logistic
from burnish.objectives.settings import FlippedShare, NotNegative, Positive
from burnish.objectives.table import DPO_LR, LengthEffects, Objective
from burnish.tensors import Losses, Metric, Pairs, Singles, TokenScores

REFERENCE_FREE_LR = (5e-7, 1e-5)


@Objective(
    view="winners", unit="token", lr_range=(5e-6, 5e-5), paper="maximum likelihood", equation="-log p",
    length_effects=LengthEffects("no", "yes, by token", "no: it sees no labels but the choice of answers"),
)  # fmt: skip
def sft(scores: TokenScores, singles: Singles) -> Losses:
    """Imitate the chosen answers: the baseline that every preference run should be compared with.

    Loss: -log p(y), the mean over the step's tokens
    Gradient: dl/dp_t = -1 for each token of the answers imitated
    """
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


@Objective(
    view="pairs", unit="pair", beta_unit="per sequence", lr_range=REFERENCE_FREE_LR, paper="2401.08417",
    length_effects=LengthEffects("yes, from the first step", "yes", "yes"),
)  # fmt: skip
def cpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, nll_weight: NotNegative = 1.0,
    nll: Literal["seq_sum", "token_mean"] = "seq_sum", label_smoothing: FlippedShare = 0.0,
) -> Losses:  # fmt: skip
    """Contrast summed log-probs without a reference, anchored on the chosen answer; longer answers lose from the first
    step.

    Loss: -log s(beta (S_w - S_l)) + nll_weight NLL_w
    Gradient: dl/dS_w = -beta u - nll_weight ; dl/dS_l = +beta u
    """
    rewards = beta * scores.logps
    losses = smoothed_logistic(margin(rewards, pairs), label_smoothing) + nll_weight * _nll(scores, pairs, nll)
    return pair_losses(losses, rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR, paper="2404.19733",
    length_effects=LengthEffects("drift, held back by the likelihood", "yes", "yes"),
)  # fmt: skip
def rpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, alpha: NotNegative = 1.0,
    nll: Literal["seq_mean", "token_mean", "seq_sum"] = "seq_mean",
) -> Losses:  # fmt: skip
    """DPO beside the likelihood of the chosen answer, which keeps that from falling.

    Loss: -log s(beta D) + alpha NLL_w
    Gradient: dl/da = -beta u, and -alpha / n_w for each chosen token ; dl/db = +beta u

    With `nll = "seq_sum"` it is the form of arXiv 2405.16436.
    """
    rewards = beta * scores.logratios
    losses = -F.logsigmoid(margin(rewards, pairs)) + alpha * _nll(scores, pairs, nll)
    return pair_losses(losses, rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", beta_unit="per token", lr_range=REFERENCE_FREE_LR, paper="2403.07691",
    length_effects=LengthEffects("no", "no with nll by sequence", "yes"),
)  # fmt: skip
def orpo(
    scores: TokenScores, pairs: Pairs, *, lam: NotNegative = 0.1, nll_weight: NotNegative = 1.0,
    max_logp: Annotated[float, Lt(0), "the odds of a log-prob of 0 are infinite"] = -1e-7,
) -> Losses:  # fmt: skip
    """Imitation and an odds ratio in one, without a reference or an SFT stage before.

    Loss: nll_weight NLL_w - lam log s(o_w - o_l), o = S hat - log(1 - e^(S hat))
    Gradient: through the odds: d o / d S hat = 1 / (1 - e^(S hat)), which grows as an answer becomes certain

    The likelihood is the mean per token, of the completion alone. The mean log-prob is held below `max_logp` inside the
    odds, which are infinite at 0.
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


@Objective(
    view="pairs", unit="pair", lr_range=REFERENCE_FREE_LR, paper="2305.10425",
    length_effects=LengthEffects("yes, from the first step", "yes", "yes"),
)  # fmt: skip
def slic_hf(
    scores: TokenScores, pairs: Pairs, *, delta: NotNegative = 1.0, lam: NotNegative = 0.1,
    reg_norm: Literal["sum", "avg"] = "sum",
) -> Losses:  # fmt: skip
    """A hinge on summed log-probs without a reference, anchored on the chosen answer.

    Loss: max(0, delta - S_w + S_l) + lam NLL_w
    Gradient: dl/dS_w = -1 inside the hinge, and -lam for each chosen token ; dl/dS_l = +1 inside the hinge

    `reg_norm` says whether NLL_w is the chosen answer's sum or its mean per token.
    """
    anchor = _nll(scores, pairs, "seq_sum" if reg_norm == "sum" else "seq_mean")
    losses = F.relu(delta - margin(scores.logps, pairs)) + lam * anchor
    return pair_losses(losses, scores.logps, scores, pairs)


def _nll(
    scores: TokenScores, pairs: Pairs, kind: Literal["seq_sum", "seq_mean", "token_mean"]
) -> Float[Tensor, " pairs"]:
    """Negative log-likelihood of the chosen answers. `token_mean` is the step's mean per token, a pair's tokens counted
    with its weight: sum w NLL / sum w n. It is the same for each pair of a microbatch, and its weighted sum is what the
    microbatch has of the step's."""
    nll = -scores.logps[pairs.chosen]
    if kind == "seq_sum":
        return nll
    lengths = scores.counts[pairs.chosen]
    if kind == "seq_mean":
        return nll / lengths
    weights = pairs.weight.sum()
    of_these = (pairs.weight * scores.lengths[pairs.chosen]).sum() / weights
    mean = of_these if pairs.mean_length is None else pairs.mean_length
    return ((pairs.weight * nll).sum() / weights / mean).expand(nll.shape)

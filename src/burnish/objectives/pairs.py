"""Objectives of the margin between two answers: one loss per pair, un-reduced; each shaped like its equation.

Notation: S summed policy log-probs, a and b summed log-ratios of chosen and rejected, D = a - b, z = beta D, s the
logistic function, u = s(-z); a hat divides by the number of tokens.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le, Lt
from jaxtyping import Float
from torch import Tensor

from burnish.objectives.metrics import margin, pair_losses, smoothed_logistic
from burnish.objectives.settings import FlippedShare, NotNegative, Positive, Share
from burnish.objectives.table import DPO_LENGTHS, DPO_LR, LengthEffects, Objective, log2
from burnish.tensors import Losses, Pairs, TokenScores

TargetShare = Annotated[float, Gt(0), Lt(0.5), "the target keeps a share for the rejected answer, and the smaller one"]
HighestExponent = Annotated[float, Gt(0), Le(88), "float32 holds no larger power of e than e^88"]


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=(5e-8, 1e-6),
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2305.18290", equation="eq. 7",
)  # fmt: skip
def dpo(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: FlippedShare = 0.0) -> Losses:
    """Raise the chosen answer's log-ratio to the reference above the rejected one's: the place to start.

    Loss: -log s(beta D); with label_smoothing e: -(1-e) log s(z) - e log s(-z)
    Gradient: dl/da = -beta (u - e) ; dl/db = +beta (u - e)

    Direct Preference Optimization. `label_smoothing` is the believed share of flipped labels: the loss is then least at
    beta D = log((1-e)/e) instead of at infinity (conservative DPO, in Mitchell's note).
    """
    rewards = beta * scores.logratios
    return pair_losses(smoothed_logistic(margin(rewards, pairs), label_smoothing), rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per token", lr_range=(8e-8, 1e-6),
    length_effects=LengthEffects("no", "no", "yes"), closed_form=log2, paper="2411.15124", equation="eq. 6",
)  # fmt: skip
def dpo_norm(scores: TokenScores, pairs: Pairs, *, beta: Positive = 5.0, label_smoothing: FlippedShare = 0.0) -> Losses:
    """DPO on log-ratios per token, so that long answers weigh no more than short ones.

    Loss: -log s(beta (a hat - b hat))
    Gradient: dl/da = -beta u / n_w ; dl/db = +beta u / n_l

    The loss of Tulu 3.
    """
    rewards = beta * scores.logratios / scores.counts
    return pair_losses(smoothed_logistic(margin(rewards, pairs), label_smoothing), rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=(1e-7, 1e-6),
    length_effects=LengthEffects("drift with sums, no with averages", "yes with sums, no with averages", "yes"),
    closed_form=lambda tau, normalize: 1 / (4 * tau**2), paper="2310.12036", equation="eq. 17",
)  # fmt: skip
def ipo(scores: TokenScores, pairs: Pairs, *, tau: Positive = 0.1, normalize: Literal["sum", "avg"] = "sum") -> Losses:
    """Pull the margin to a finite target instead of pushing it for ever: for clean labels that DPO would overfit.

    Loss: (D - 1/(2 tau))^2; with normalize = avg: (a hat - b hat - 1/(2 tau))^2
    Gradient: dl/da = 2 (D - 1/(2 tau)) ; dl/db = -2 (D - 1/(2 tau)); with avg divided by n_w and n_l

    `tau` plays beta's part: larger stays closer to the reference. It is per sequence with `sum`, per token with `avg`,
    which is how the authors ran it (TRL #1265).
    """
    ratios = scores.logratios if normalize == "sum" else scores.logratios / scores.counts
    losses = (margin(ratios, pairs) - 1 / (2 * tau)).square()
    return pair_losses(losses, tau * ratios, scores, pairs)


@Objective(
    view="pairs", unit="pair", beta_unit="per token", lr_range=(3e-7, 1e-6),
    length_effects=LengthEffects("no", "no", "yes"), paper="2405.14734", equation="eq. 6",
)  # fmt: skip
def simpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 2.0, gamma: NotNegative = 1.0,
    label_smoothing: FlippedShare = 0.0,
) -> Losses:  # fmt: skip
    """Compare mean log-probs with a target margin, without a reference: half the memory, and nothing that holds it
    back.

    Loss: -log s(beta (S hat_w - S hat_l) - gamma)
    Gradient: dl/dS_w = -beta u / n_w ; dl/dS_l = +beta u / n_l

    `gamma` is the target margin itself; the authors' code takes gamma / beta (they advise 0.1 to 0.8 for it).
    """
    rewards = beta * scores.logps / scores.counts
    return pair_losses(smoothed_logistic(margin(rewards, pairs) - gamma, label_smoothing), rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=log2, paper="2403.00409",
)  # fmt: skip
def robust_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, label_smoothing: FlippedShare = 0.1
) -> Losses:
    """DPO made unbiased for labels of which a known share is flipped; it never stops pushing.

    Loss: [-(1-e) log s(z) + e log s(-z)] / (1 - 2e)
    Gradient: dl/da = -beta [(1-e) u + e (1-u)] / (1 - 2e) ; dl/db = the same, positive

    Mind the plus: conservative DPO has a minus and stops at a finite margin, this one never does, and may be negative.
    """
    e, rewards = label_smoothing, beta * scores.logratios
    z = margin(rewards, pairs)
    losses = -F.logsigmoid(z) if e == 0 else (-(1 - e) * F.logsigmoid(z) + e * F.logsigmoid(-z)) / (1 - 2 * e)
    return pair_losses(losses, rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=lambda beta, margin: margin, paper="2309.06657",
)  # fmt: skip
def hinge(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, margin: Positive = 1.0) -> Losses:
    """Push the margin to a target, and no further: pairs that are right by enough teach nothing more.

    Loss: max(0, margin - z)
    Gradient: dl/da = -beta where z < margin, else 0 ; dl/db = +beta there

    The hinge on the normalised margin, of RSO; libraries call it SLiC.
    """
    rewards = beta * scores.logratios
    z = rewards[pairs.chosen] - rewards[pairs.rejected]
    return pair_losses(F.relu(margin - z), rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("drift", "yes", "reduced"), paper="2403.19159",
)  # fmt: skip
def r_dpo(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, alpha: NotNegative = 0.01) -> Losses:
    """DPO with a constant for each token by which the winner is longer, against raters who prefer length.

    Loss: -log s(z + alpha (n_w - n_l))
    Gradient: dl/da = -beta u' ; dl/db = +beta u', u' = s(-(z + alpha (n_w - n_l)))
    """
    rewards = beta * scores.logratios
    longer = (scores.lengths[pairs.chosen] - scores.lengths[pairs.rejected]).to(rewards.dtype)
    return pair_losses(-F.logsigmoid(margin(rewards, pairs) + alpha * longer), rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("reduced", "reduced", "yes"), paper="2409.06411",
    closed_form=lambda beta, alpha, ref: math.log(2) if ref == "both" else None,
)  # fmt: skip
def ld_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, alpha: Share = 0.5,
    ref: Literal["both", "policy"] = "both",
) -> Losses:  # fmt: skip
    """DPO in which tokens beyond the shorter answer's length count less.

    Loss: -log s(beta (a' - b')), a' and b' with the tokens behind the shorter length weighted by alpha
    Gradient: dl/dp_t = -beta u for a chosen token, +beta u for a rejected one; times alpha behind the shorter length

    alpha = 1 is DPO, 0 cuts both answers to the shorter length. `ref` says whether the reference is weighted too (then
    the loss starts at log 2) or the policy alone.
    """
    shorter = torch.minimum(scores.lengths[pairs.chosen], scores.lengths[pairs.rejected])
    a, b = (_tail_weighted(scores, index, shorter, alpha, ref) for index in (pairs.chosen, pairs.rejected))
    return pair_losses(-F.logsigmoid(beta * (a - b)), beta * scores.logratios, scores, pairs)


def _tail_weighted(
    scores: TokenScores, index: Tensor, shorter: Tensor, alpha: float, ref: str
) -> Float[Tensor, " pairs"]:
    """Each pair's log-ratio of one side, its tokens at `shorter` and behind weighted by alpha."""
    assert scores.reference is not None
    ratio = scores.policy - scores.reference
    tail = alpha * ratio if ref == "both" else alpha * scores.policy - scores.reference
    place = scores.places
    # a completion may stand in several pairs, cut at another length in each: pairs x tokens, one completion at a time
    pair, token = (scores.completion_of[None, :] == index[:, None]).nonzero(as_tuple=True)
    values = torch.where(place[token] < shorter[pair], ratio[token], tail[token])
    zero = values.new_zeros(len(index), dtype=torch.float64)
    return zero.index_add(0, pair, values.to(torch.float64)).to(values.dtype)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("drift", "yes", "yes: the penalty falls on long winners first"),
    closed_form=log2, paper="2402.13228",
)  # fmt: skip
def dpop(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, lam: NotNegative = 5.0) -> Losses:
    """DPO that charges for a chosen answer losing likelihood: for pairs that differ in a few tokens.

    Loss: -log s(beta (D - lam max(0, -a)))
    Gradient: dl/da = -beta u (1 + lam where a < 0) ; dl/db = +beta u
    """
    ratios = scores.logratios
    fallen = F.relu(-ratios[pairs.chosen])
    return pair_losses(-F.logsigmoid(beta * (margin(ratios, pairs) - lam * fallen)), beta * ratios, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, paper="2402.00856", equation="eq. 16",
    closed_form=lambda beta, eps: math.log(0.5) - (math.log(1 - eps) + math.log(eps)) / 2,
)  # fmt: skip
def exo_pair(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, eps: TargetShare = 1e-3) -> Losses:
    """Match the policy's preference to the data's under the reverse KL, which seeks the better answer instead of
    covering both.

    Loss: s(z) (log s(z) - log(1-eps)) + s(-z) (log s(-z) - log eps)
    Gradient: dl/da = beta s(z) s(-z) [z - log((1-eps)/eps)] ; dl/db = the negative; it vanishes for large |z|, also
    where that is wrong
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


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=DPO_LENGTHS, closed_form=lambda beta, tau: (math.log(2) + 1) / 2,
    paper="2406.08414", equation="eq. 5",
)  # fmt: skip
def discopop(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.05, tau: Positive = 0.05) -> Losses:
    """A loss found by search: logistic and exponential, mixed by the margin itself.

    Loss: (1 - s(z/tau)) log(1 + e^-z) + s(z/tau) e^-z
    Gradient: dl/dz has the wrong sign near z = 0 (+0.78 at beta = tau = 0.05): the published loss
    """
    rewards = beta * scores.logratios
    z = margin(rewards, pairs)
    # s(z/tau) e^-z as one exponential: apart, they are 0 x inf far below 0
    losses = torch.sigmoid(-z / tau) * -F.logsigmoid(z) + torch.exp(F.logsigmoid(z / tau) - z)
    return pair_losses(losses, rewards, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("drift", "yes, exponentially in length", "yes"), closed_form=log2, paper="2407.13399",
)  # fmt: skip
def chi_po(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1, clip: Positive | None = None,
    exp_lo: Annotated[float, Lt(0)] = -88.0, exp_hi: HighestExponent = 20.0,
) -> Losses:  # fmt: skip
    """DPO with a stronger pull to the reference, chi-squared beside KL: against over-optimisation.

    Loss: -log s(beta (phi(a) - phi(b))), phi(v) = e^v + v, clipped where clip is set
    Gradient: dl/da = -beta u (1 + e^a) ; dl/db = +beta u (1 + e^b); 0 where clipped

    `clip` holds the margin between -clip and +clip; `exp_lo` and `exp_hi` hold the exponent.
    """
    ratios = scores.logratios
    phi = ratios.clamp(exp_lo, exp_hi).exp() + ratios
    z = beta * margin(phi, pairs)
    z = z if clip is None else z.clamp(-clip, clip)
    return pair_losses(-F.logsigmoid(z), beta * phi, scores, pairs)


@Objective(
    view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", lr_range=DPO_LR,
    length_effects=LengthEffects("drift", "yes; exponentially under forward KL and alpha", "yes"),
    closed_form=log2, paper="2309.16240",
)  # fmt: skip
def f_dpo(
    scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl",
    alpha: Annotated[float, Gt(0), Lt(1), "0 is the reverse and 1 the forward KL"] = 0.5,
    exp_hi: HighestExponent = 80.0,
) -> Losses:  # fmt: skip
    """DPO under forward KL, Jensen-Shannon or an alpha-divergence, which keep more of the reference's variety.

    Loss: -log s(beta (f'(e^a) - f'(e^b)))
    Gradient: DPO's, times 1 (reverse KL), e^-v (forward KL), s(-v) (JS), e^(-alpha v) (alpha), v each side's log-ratio

    With v a log-ratio, f' is v (reverse KL: DPO itself), -e^-v (forward KL), log s(v) (Jensen-Shannon) and
    -e^(-alpha v)/alpha; `exp_hi` holds the exponent.
    """
    ratios = scores.logratios
    if divergence == "reverse_kl":
        slopes = ratios
    elif divergence == "js":
        slopes = F.logsigmoid(ratios)
    else:
        power = 1.0 if divergence == "forward_kl" else alpha
        slopes = -(-power * ratios).clamp(max=exp_hi).expm1() / power  # less the constant, next to which v is lost
    losses = -F.logsigmoid(beta * margin(slopes, pairs))
    if divergence in ("forward_kl", "alpha"):
        slopes = slopes - 1 / power
    return pair_losses(losses, beta * slopes, scores, pairs)

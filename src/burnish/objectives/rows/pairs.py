"""Rows of the objectives of a margin: two answers, one number between them."""

from __future__ import annotations

import math

from burnish.objectives import pairs
from burnish.objectives.table import AS_DPO, Objective, log2

ROWS = [
    Objective(
        name="dpo", function=pairs.dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=(5e-8, 1e-6),
        paper="2305.18290", equation="eq. 7",
        summary="Raise the chosen answer's log-ratio to the reference above the rejected one's: the place to start.",
        formula="-log s(beta D); with label_smoothing e: -(1-e) log s(z) - e log s(-z)",
        gradient="dl/da = -beta (u - e) ; dl/db = +beta (u - e)",
        closed_form=log2,
    ),
    Objective(
        name="dpo_norm", function=pairs.dpo_norm, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per token", lr_range=(8e-8, 1e-6),
        paper="2411.15124", equation="eq. 6",
        summary="DPO on log-ratios per token, so that long answers weigh no more than short ones.",
        formula="-log s(beta (a hat - b hat))",
        gradient="dl/da = -beta u / n_w ; dl/db = +beta u / n_l",
        closed_form=log2,
    ),
    Objective(
        name="ipo", function=pairs.ipo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=(1e-7, 1e-6),
        paper="2310.12036", equation="eq. 17",
        summary=(
            "Pull the margin to a finite target instead of pushing it for ever: for clean labels that DPO would "
            "overfit."
        ),
        formula="(D - 1/(2 tau))^2; with normalize = avg: (a hat - b hat - 1/(2 tau))^2",
        gradient="dl/da = 2 (D - 1/(2 tau)) ; dl/db = -2 (D - 1/(2 tau)); with avg divided by n_w and n_l",
        closed_form=lambda tau, normalize: 1 / (4 * tau**2),
    ),
    Objective(
        name="simpo", function=pairs.simpo, view="pairs", needs=set(),
        unit="pair", beta_unit="per token", lr_range=(3e-7, 1e-6),
        paper="2405.14734", equation="eq. 6",
        summary=(
            "Compare mean log-probs with a target margin, without a reference: half the memory, and nothing that "
            "holds it back."
        ),
        formula="-log s(beta (S hat_w - S hat_l) - gamma)",
        gradient="dl/dS_w = -beta u / n_w ; dl/dS_l = +beta u / n_l",
    ),
    Objective(
        name="robust_dpo", function=pairs.robust_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2403.00409",
        summary="DPO made unbiased for labels of which a known share is flipped; it never stops pushing.",
        formula="[-(1-e) log s(z) + e log s(-z)] / (1 - 2e)",
        gradient="dl/da = -beta [(1-e) u + e (1-u)] / (1 - 2e) ; dl/db = the same, positive",
        closed_form=log2,
    ),
    Objective(
        name="hinge", function=pairs.hinge, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2309.06657",
        summary="Push the margin to a target, and no further: pairs that are right by enough teach nothing more.",
        formula="max(0, margin - z)",
        gradient="dl/da = -beta where z < margin, else 0 ; dl/db = +beta there",
        closed_form=lambda beta, margin: max(0.0, margin),
    ),
    Objective(
        name="r_dpo", function=pairs.r_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2403.19159",
        summary="DPO with a constant for each token by which the winner is longer, against raters who prefer length.",
        formula="-log s(z + alpha (n_w - n_l))",
        gradient="dl/da = -beta u' ; dl/db = +beta u', u' = s(-(z + alpha (n_w - n_l)))",
    ),
    Objective(
        name="ld_dpo", function=pairs.ld_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2409.06411",
        summary="DPO in which tokens beyond the shorter answer's length count less.",
        formula="-log s(beta (a' - b')), a' and b' with the tokens behind the shorter length weighted by alpha",
        gradient=(
            "dl/dp_t = -beta u for a chosen token, +beta u for a rejected one; times alpha behind the shorter "
            "length"
        ),
        closed_form=lambda beta, alpha, ref: math.log(2) if ref == "both" else None,
    ),
    Objective(
        name="dpop", function=pairs.dpop, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.13228",
        summary="DPO that charges for a chosen answer losing likelihood: for pairs that differ in a few tokens.",
        formula="-log s(beta (D - lam max(0, -a)))",
        gradient="dl/da = -beta u (1 + lam where a < 0) ; dl/db = +beta u",
        closed_form=log2,
    ),
    Objective(
        name="exo_pair", function=pairs.exo_pair, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.00856", equation="eq. 16",
        summary=(
            "Match the policy's preference to the data's under the reverse KL, which seeks the better answer "
            "instead of covering both."
        ),
        formula="s(z) (log s(z) - log(1-eps)) + s(-z) (log s(-z) - log eps)",
        gradient=(
            "dl/da = beta s(z) s(-z) [z - log((1-eps)/eps)] ; dl/db = the negative; it vanishes for large |z|, "
            "also where that is wrong"
        ),
        closed_form=lambda beta, eps: math.log(0.5) - (math.log(1 - eps) + math.log(eps)) / 2,
    ),
    Objective(
        name="discopop", function=pairs.discopop, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.08414", equation="eq. 5",
        summary="A loss found by search: logistic and exponential, mixed by the margin itself.",
        formula="(1 - s(z/tau)) log(1 + e^-z) + s(z/tau) e^-z",
        gradient="dl/dz has the wrong sign near z = 0 (+0.78 at beta = tau = 0.05): the published loss",
        closed_form=lambda beta, tau: (math.log(2) + 1) / 2,
    ),
    Objective(
        name="chi_po", function=pairs.chi_po, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2407.13399",
        summary="DPO with a stronger pull to the reference, chi-squared beside KL: against over-optimisation.",
        formula="-log s(beta (phi(a) - phi(b))), phi(v) = e^v + v, clipped where clip is set",
        gradient="dl/da = -beta u (1 + e^a) ; dl/db = +beta u (1 + e^b); 0 where clipped",
        closed_form=log2,
    ),
    Objective(
        name="f_dpo", function=pairs.f_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2309.16240",
        summary=(
            "DPO under forward KL, Jensen-Shannon or an alpha-divergence, which keep more of the reference's "
            "variety."
        ),
        formula="-log s(beta (f'(e^a) - f'(e^b)))",
        gradient=(
            "DPO's, times 1 (reverse KL), e^-v (forward KL), s(-v) (JS), e^(-alpha v) (alpha), v each side's log-"
            "ratio"
        ),
        closed_form=log2,
    ),
]  # fmt: skip

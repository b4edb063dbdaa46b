"""Rows of the objectives of a margin: two answers, one number between them."""

from __future__ import annotations

import math

from burnish.objectives import pairs
from burnish.objectives.row import AS_DPO, Objective, log2

ROWS = [
    Objective(
        name="dpo", function=pairs.dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=(5e-8, 1e-6),
        paper="2305.18290", equation="eq. 7",
        summary="Raise the chosen answer's log-ratio to the reference above the rejected one's.",
        closed_form=log2,
    ),
    Objective(
        name="dpo_norm", function=pairs.dpo_norm, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per token", lr_range=(8e-8, 1e-6),
        paper="2411.15124", equation="eq. 6",
        summary="DPO on log-ratios per token, so that long answers weigh no more than short ones.",
        closed_form=log2,
    ),
    Objective(
        name="ipo", function=pairs.ipo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=(1e-7, 1e-6),
        paper="2310.12036", equation="eq. 17",
        summary="Pull the margin to a finite target instead of pushing it for ever.",
        closed_form=lambda tau, normalize: 1 / (4 * tau**2),
    ),
    Objective(
        name="simpo", function=pairs.simpo, view="pairs", needs=set(),
        unit="pair", beta_unit="per token", lr_range=(3e-7, 1e-6),
        paper="2405.14734", equation="eq. 6",
        summary="No reference: compare mean log-probs, with a target margin gamma.",
    ),
    Objective(
        name="robust_dpo", function=pairs.robust_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2403.00409", equation="eq. 12",
        summary="DPO made unbiased for labels of which a known share is flipped.",
        closed_form=log2,
    ),
    Objective(
        name="hinge", function=pairs.hinge, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2309.06657", equation="table 1",
        summary="Push the margin to a target, and no further.",
        closed_form=lambda beta, margin: max(0.0, margin),
    ),
    Objective(
        name="r_dpo", function=pairs.r_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2403.19159", equation="eq. 9",
        summary="DPO with a constant for each token by which the winner is longer.",
    ),
    Objective(
        name="ld_dpo", function=pairs.ld_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2409.06411", equation="eq. 10",
        summary="DPO in which tokens beyond the shorter answer's length count less.",
        closed_form=lambda beta, alpha, ref: math.log(2) if ref == "both" else None,
    ),
    Objective(
        name="dpop", function=pairs.dpop, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.13228", equation="eq. 3",
        summary="DPO that charges for a chosen answer losing likelihood.",
        closed_form=log2,
    ),
    Objective(
        name="exo_pair", function=pairs.exo_pair, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.00856", equation="eq. 16",
        summary="Match the policy's preference to the data's under the reverse KL.",
        closed_form=lambda beta, eps: math.log(0.5) - (math.log(1 - eps) + math.log(eps)) / 2,
    ),
    Objective(
        name="discopop", function=pairs.discopop, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.08414", equation="eq. 5",
        summary="A loss found by search: logistic and exponential, mixed by the margin itself.",
        closed_form=lambda beta, tau: (math.log(2) + 1) / 2,
    ),
    Objective(
        name="chi_po", function=pairs.chi_po, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2407.13399", equation="eq. 8",
        summary="DPO with a stronger pull to the reference: chi-squared beside KL.",
        closed_form=log2,
    ),
    Objective(
        name="f_dpo", function=pairs.f_dpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2309.16240", equation="eq. 12",
        summary="DPO under forward KL, Jensen-Shannon or an alpha-divergence.",
        closed_form=log2,
    ),
]  # fmt: skip

"""Rows of the objectives of pairs that look at the whole step."""

from __future__ import annotations

import math

from burnish.objectives import batch, running
from burnish.objectives.table import AS_DPO, Objective, Running, log2

ROWS = [
    Objective(
        name="aot_paired", function=batch.aot_paired, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.05882",
        summary="Make the policy's margins dominate the reference's as distributions; wants large steps.",
        formula="-log s(beta (u_(i) - v_(i))), u and v the sorted margins of policy and reference",
        gradient="-beta s(-beta (u_(i) - v_(i))) to the pair that holds rank i",
        closed_form=log2,
    ),
    Objective(
        name="aot_unpaired", function=batch.aot_unpaired, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.05882",
        summary="Make chosen log-ratios dominate rejected ones as distributions: pairs need not be pairs.",
        formula="-log s(beta (a_(i) - b_(i))), the step's chosen and rejected log-ratios sorted",
        gradient="-beta s(..) to the chosen answer of rank i, the opposite to the rejected one of rank i",
        closed_form=log2,
    ),
    Objective(
        name="bco_pair_batch_shift", function=batch.bco_pair_batch_shift, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.04656",
        summary="A binary classifier on each answer, its shift the step's own mean reward.",
        formula="-log s(beta a - delta) - log s(-(beta b - delta)), delta = sg(mean reward of the step)",
        gradient="dl/da = -beta s(delta - beta a) ; dl/db = +beta s(beta b - delta)",
        closed_form=lambda beta: 2 * math.log(2),
    ),
    Objective(
        name="alpha_dpo", function=batch.alpha_dpo, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per token", lr_range=(3e-7, 1e-6),
        paper="2410.10148",
        summary="SimPO whose target margin follows the reference's view of each pair.",
        formula="-log s(beta (S hat_w - S hat_l - sg(gamma/beta + alpha (g - mu)/sigma))), g = a hat - b hat",
        gradient="dl/dS_w = -beta u / n_w ; dl/dS_l = +beta u / n_l",
        running=Running(running.ALPHA_DPO_START, running.alpha_dpo_step, given=("mu", "sigma")),
    ),
    Objective(
        name="beta_dpo", function=batch.beta_dpo, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2407.08639",
        summary="DPO whose beta follows the step's mean margin, and which leaves out unlikely pairs: for noisy data.",
        formula="-log s(beta_B D), beta_B = sg(max(beta_min, beta0 (1 + alpha (mean D - m0))))",
        gradient="dl/da = -beta_B u ; dl/db = +beta_B u",
        closed_form=log2, running=Running(running.BETA_DPO_START, running.beta_dpo_step, given=("m0", "keep")),
    ),
]  # fmt: skip

"""Rows of the objectives of pairs that look at the whole step."""

from __future__ import annotations

import math

from burnish.objectives import batch, running
from burnish.objectives.row import AS_DPO, Objective, Running, log2

ROWS = [
    Objective(
        name="aot_paired", function=batch.aot_paired, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.05882", equation="eq. 8",
        summary="Make the policy's margins dominate the reference's as distributions.",
        closed_form=log2,
    ),
    Objective(
        name="aot_unpaired", function=batch.aot_unpaired, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.05882", equation="eq. 9",
        summary="Make chosen log-ratios dominate rejected ones as distributions.",
        closed_form=log2,
    ),
    Objective(
        name="bco_pair_batch_shift", function=batch.bco_pair_batch_shift, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.04656", equation="eq. 9",
        summary="A binary classifier on each answer, its shift the step's own mean reward.",
        closed_form=lambda beta: 2 * math.log(2),
    ),
    Objective(
        name="alpha_dpo", function=batch.alpha_dpo, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per token", lr_range=(3e-7, 1e-6),
        paper="2410.10148", equation="eq. 10",
        summary="SimPO whose target margin follows the reference's view of each pair.",
        running=Running(running.ALPHA_DPO_START, running.alpha_dpo_step, given=("mu", "sigma")),
    ),
    Objective(
        name="beta_dpo", function=batch.beta_dpo, view="pairs", needs={"reference", "step"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2407.08639", equation="eq. 6",
        summary="DPO whose beta follows the step's mean margin.",
        closed_form=log2, running=Running(running.BETA_DPO_START, running.beta_dpo_step, given=("m0", "keep")),
    ),
]  # fmt: skip

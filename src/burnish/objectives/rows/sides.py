"""Rows of the objectives that judge each side of a pair by itself."""

from __future__ import annotations

import math

from burnish.objectives import sides
from burnish.objectives.row import AS_DPO, Objective, one

ROWS = [
    Objective(
        name="nca_pair", function=sides.nca_pair, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.05369", equation="eq. 11",
        summary="Tell each answer from noise: the chosen one's likelihood does not fall.",
        closed_form=lambda beta: 2 * math.log(2),
    ),
    Objective(
        name="apo_zero", function=sides.apo_zero, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2408.06266", equation="eq. 7",
        summary="Raise the chosen answer and lower the rejected, each by itself.",
        closed_form=one,
    ),
    Objective(
        name="apo_down", function=sides.apo_down, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2408.06266", equation="eq. 8",
        summary="Lower both answers, the rejected one more: for a model better than its data.",
        closed_form=one,
    ),
    Objective(
        name="sppo", function=sides.sppo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2405.00675", equation="eq. 4.7",
        summary="Pull each answer's log-ratio to a target that its chance of winning sets.",
    ),
    Objective(
        name="bco_pair", function=sides.bco_pair, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.04656", equation="eq. 9",
        summary="A binary classifier on each answer, with a shift of the reward.",
        closed_form=lambda beta, delta: math.log1p(math.exp(delta)) + math.log1p(math.exp(-delta)),
    ),
]  # fmt: skip

"""Rows of the objectives that judge each side of a pair by itself."""

from __future__ import annotations

import math

from burnish.objectives import sides
from burnish.objectives.table import AS_DPO, Objective, one

ROWS = [
    Objective(
        name="nca_pair", function=sides.nca_pair, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.05369",
        summary="Tell each answer from noise by itself, which keeps the chosen one's likelihood from falling.",
        formula="-log s(beta a) - 1/2 log s(-beta a) - 1/2 log s(-beta b)",
        gradient="dl/da = -beta (1 - 3/2 s(beta a)) ; dl/db = +beta/2 s(beta b)",
        closed_form=lambda beta: 2 * math.log(2),
    ),
    Objective(
        name="apo_zero", function=sides.apo_zero, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2408.06266", equation="eq. 7",
        summary="Raise the chosen answer and lower the rejected, each by itself: for data better than the model.",
        formula="s(-beta a) + s(beta b)",
        gradient="dl/da = -beta s(beta a) s(-beta a) ; dl/db = +beta s(beta b) s(-beta b)",
        closed_form=one,
    ),
    Objective(
        name="apo_down", function=sides.apo_down, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2408.06266", equation="eq. 8",
        summary="Lower both answers, the rejected one more: for a model that is already better than its data.",
        formula="s(beta a) + s(-z)",
        gradient="dl/da = beta [s(beta a) s(-beta a) - s(z) s(-z)] ; dl/db = +beta s(z) s(-z)",
        closed_form=one,
    ),
    Objective(
        name="sppo", function=sides.sppo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2405.00675", equation="eq. 4.7",
        summary=(
            "Pull each answer's log-ratio to a target that its chance of winning sets; the targets are huge, so "
            "use a small rate."
        ),
        formula="scale [(a - (P_w - 1/2)/beta)^2 + (b - (P_l - 1/2)/beta)^2]",
        gradient="dl/da = 2 scale (a - (P_w - 1/2)/beta) ; dl/db = 2 scale (b - (P_l - 1/2)/beta)",
    ),
    Objective(
        name="bco_pair", function=sides.bco_pair, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.04656",
        summary="A binary classifier on each answer of a pair, with a constant shift of the reward.",
        formula="-log s(beta a - delta) - log s(-(beta b - delta))",
        gradient="dl/da = -beta s(delta - beta a) ; dl/db = +beta s(beta b - delta)",
        closed_form=lambda beta, delta: math.log1p(math.exp(delta)) + math.log1p(math.exp(-delta)),
    ),
]  # fmt: skip

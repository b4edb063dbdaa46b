"""Rows of the objectives of single answers, each with a yes or a no."""

from __future__ import annotations

from burnish.objectives import unpaired
from burnish.objectives.table import AS_DPO, Objective

ROWS = [
    Objective(
        name="kto", function=unpaired.kto, view="labels", needs={"reference", "mismatched"},
        unit="completion", beta_unit="per sequence", lr_range=(5e-7, 5e-6),
        paper="2402.01306",
        summary="A yes or a no for each answer: gains and losses against the reference, as people weigh them.",
        formula=(
            "w s(-beta (h - z0)) for a yes, w s(-beta (z0 - h)) for a no; h the log-ratio, z0 = sg(max(0, mean "
            "mismatched h))"
        ),
        gradient="dl/dh = -w beta s(.) s(-.) for a yes, + for a no",
    ),
    Objective(
        name="bco", function=unpaired.bco, view="labels", needs={"reference", "step"},
        unit="completion", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.04656",
        summary="A binary classifier on single answers.",
        formula=(
            "-log s(beta h - delta) for a yes, -log s(-(beta h - delta)) for a no, delta = sg(mean of the two "
            "classes' mean rewards)"
        ),
        gradient="dl/dh = -beta s(delta - beta h) for a yes ; +beta s(beta h - delta) for a no",
    ),
    Objective(
        name="apo_zero_unpaired", function=unpaired.apo_zero_unpaired, view="labels", needs={"reference"},
        unit="completion", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2408.06266",
        summary="Raise every yes and lower every no, each by itself: KTO without its baseline.",
        formula="s(-beta h) for a yes, s(beta h) for a no",
        gradient="dl/dh = -beta s(beta h) s(-beta h) for a yes, + for a no",
    ),
]  # fmt: skip

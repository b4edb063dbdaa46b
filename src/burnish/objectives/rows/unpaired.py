"""Rows of the objectives of single answers, each with a yes or a no."""

from __future__ import annotations

from burnish.objectives import unpaired
from burnish.objectives.row import AS_DPO, Objective

ROWS = [
    Objective(
        name="kto", function=unpaired.kto, view="labels", needs={"reference", "step", "mismatched"},
        unit="completion", beta_unit="per sequence", lr_range=(5e-7, 5e-6),
        paper="2402.01306", equation="eq. 8",
        summary="A yes or a no for each answer; gains and losses against the reference, as people weigh them.",
    ),
    Objective(
        name="bco", function=unpaired.bco, view="labels", needs={"reference", "step"},
        unit="completion", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.04656", equation="eq. 9",
        summary="A binary classifier on single answers.",
    ),
    Objective(
        name="apo_zero_unpaired", function=unpaired.apo_zero_unpaired, view="labels", needs={"reference"},
        unit="completion", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2408.06266", equation="eq. 7",
        summary="Raise every yes and lower every no, each by itself.",
    ),
]  # fmt: skip

"""Rows of the objectives with a likelihood in them: imitation, alone or beside a contrast."""

from __future__ import annotations

from burnish.objectives import likelihood
from burnish.objectives.row import AS_DPO, Objective

ROWS = [
    Objective(
        name="sft", function=likelihood.sft, view="winners", needs=set(),
        unit="token", beta_unit="", lr_range=(5e-6, 5e-5),
        paper="maximum likelihood", equation="-log p",
        summary="Imitate the chosen answers; the baseline every preference run should be compared with.",
    ),
    Objective(
        name="cpo", function=likelihood.cpo, view="pairs", needs=set(),
        unit="pair", beta_unit="per sequence", lr_range=(5e-7, 1e-5),
        paper="2401.08417", equation="eq. 5",
        summary="Contrast summed log-probs without a reference, anchored on the chosen answer.",
    ),
    Objective(
        name="rpo", function=likelihood.rpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.19733", equation="eq. 1",
        summary="DPO beside the likelihood of the chosen answer.",
    ),
    Objective(
        name="orpo", function=likelihood.orpo, view="pairs", needs=set(),
        unit="pair", beta_unit="per token", lr_range=(5e-7, 1e-5),
        paper="2403.07691", equation="eq. 6",
        summary="Imitation and an odds ratio in one, without a reference or an SFT stage.",
    ),
    Objective(
        name="slic_hf", function=likelihood.slic_hf, view="pairs", needs=set(),
        unit="pair", beta_unit="", lr_range=(5e-7, 1e-5),
        paper="2305.10425", equation="eq. 2",
        summary="A hinge on summed log-probs, anchored on the chosen answer.",
    ),
]  # fmt: skip

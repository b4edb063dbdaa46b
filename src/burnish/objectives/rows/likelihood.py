"""Rows of the objectives with a likelihood in them: imitation, alone or beside a contrast."""

from __future__ import annotations

from burnish.objectives import likelihood
from burnish.objectives.table import AS_DPO, Objective

ROWS = [
    Objective(
        name="sft", function=likelihood.sft, view="winners", needs=set(),
        unit="token", beta_unit="", lr_range=(5e-6, 5e-5),
        paper="maximum likelihood", equation="-log p",
        summary="Imitate the chosen answers: the baseline that every preference run should be compared with.",
        formula="-log p(y), the mean over the step's tokens",
        gradient="dl/dp_t = -1 for each token of the answers imitated",
    ),
    Objective(
        name="cpo", function=likelihood.cpo, view="pairs", needs=set(),
        unit="pair", beta_unit="per sequence", lr_range=(5e-7, 1e-5),
        paper="2401.08417",
        summary=(
            "Contrast summed log-probs without a reference, anchored on the chosen answer; longer answers lose "
            "from the first step."
        ),
        formula="-log s(beta (S_w - S_l)) + nll_weight NLL_w",
        gradient="dl/dS_w = -beta u - nll_weight ; dl/dS_l = +beta u",
    ),
    Objective(
        name="rpo", function=likelihood.rpo, view="pairs", needs={"reference"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2404.19733",
        summary="DPO beside the likelihood of the chosen answer, which keeps that from falling.",
        formula="-log s(beta D) + alpha NLL_w",
        gradient="dl/da = -beta u, and -alpha / n_w for each chosen token ; dl/db = +beta u",
    ),
    Objective(
        name="orpo", function=likelihood.orpo, view="pairs", needs=set(),
        unit="pair", beta_unit="per token", lr_range=(5e-7, 1e-5),
        paper="2403.07691",
        summary="Imitation and an odds ratio in one, without a reference or an SFT stage before.",
        formula="nll_weight NLL_w - lam log s(o_w - o_l), o = S hat - log(1 - e^(S hat))",
        gradient="through the odds: d o / d S hat = 1 / (1 - e^(S hat)), which grows as an answer becomes certain",
    ),
    Objective(
        name="slic_hf", function=likelihood.slic_hf, view="pairs", needs=set(),
        unit="pair", beta_unit="", lr_range=(5e-7, 1e-5),
        paper="2305.10425",
        summary="A hinge on summed log-probs without a reference, anchored on the chosen answer.",
        formula="max(0, delta - S_w + S_l) + lam NLL_w",
        gradient="dl/dS_w = -1 inside the hinge, and -lam for each chosen token ; dl/dS_l = +1 inside the hinge",
    ),
]  # fmt: skip

"""Rows of the objectives of pairs that look at single positions."""

from __future__ import annotations

from burnish.objectives import positions
from burnish.objectives.table import AS_DPO, Objective, log2

ROWS = [
    Objective(
        name="sampo", function=positions.sampo, view="pairs", needs={"reference", "draws"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO, paper="2406.10957",
        summary="DPO on equally many tokens of both answers, drawn from the longer one, so that length cannot tell "
        "them apart.",
        formula="-log s(beta (a' - b')), a' and b' the log-ratios summed over min(n_w, n_l) tokens, drawn from the "
        "longer answer",
        gradient="dl/dp_t = -beta u for each drawn token of the chosen answer, +beta u of the rejected; else 0",
        closed_form=log2,
    ),
    Objective(
        name="wpo", function=positions.wpo, view="pairs", needs={"reference", "square"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO, paper="2406.11827",
        summary="DPO in which a pair weighs more the likelier the policy is to write its answers itself: off-policy "
        "data made to count as if on-policy.",
        formula="-w log s(beta D), w = sg(min(max_weight, exp(m_w + m_l))), m = mean_t (p_t - log sum_v pi(v)^2)",
        gradient="dl/da = -w beta u ; dl/db = +w beta u",
    ),
    Objective(
        name="tdpo1", function=positions.tdpo1, view="pairs", needs={"reference", "kl"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO, paper="2404.11999",
        summary="DPO with the forward KL of every token inside the margin, to hold the policy's diversity.",
        formula="-log s(beta (D - (K_l - K_w))), K = sum_t KL(pi_ref || pi) over the vocabulary",
        gradient="dl/da = -beta u ; dl/db = +beta u ; dl/dK_w = -beta u ; dl/dK_l = +beta u",
        closed_form=log2,
    ),
    Objective(
        name="tdpo2", function=positions.tdpo2, view="pairs", needs={"reference", "kl"},
        unit="pair", beta_unit="per sequence", lr_range=AS_DPO, paper="2404.11999",
        summary="TDPO whose chosen answer's KL is only a baseline: it charges for drifting on rejected answers.",
        formula="-log s(beta (D - alpha (K_l - sg(K_w))))",
        gradient="dl/da = -beta u ; dl/db = +beta u ; dl/dK_l = +alpha beta u",
        closed_form=log2,
    ),
]  # fmt: skip

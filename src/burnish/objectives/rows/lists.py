"""Rows of the objectives of whole ranked groups."""

from __future__ import annotations

from burnish.objectives import lists
from burnish.objectives.table import AS_DPO, Objective

ROWS = [
    Objective(
        name="pl_dpo", function=lists.pl_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2305.18290", equation="app. A.3",
        summary="DPO on a whole ranking: each answer against all that come behind it.",
        formula="sum_k [logsumexp(r_k .. r_K) - r_k], r = beta log-ratio, best first",
        gradient="dl/dr_j = sum_{k <= j} softmax(r_k .. r_K)_j - 1",
    ),
    Objective(
        name="multi_pair_dpo", function=lists.multi_pair_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2203.02155", equation="eq. 1",
        summary="DPO on all pairs of a ranked group, together one example.",
        formula="mean of -log s(r_i - r_j) over pairs where i is better than j",
        gradient="dl/dr_i = -u_ij, dl/dr_j = +u_ij for each pair, divided by their number",
    ),
    Objective(
        name="s_dpo", function=lists.s_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.09215",
        summary="The best answer against all the others in one softmax: for one good answer among many poor ones.",
        formula="logsumexp(r) - r_best",
        gradient="dl/dr_j = softmax(r)_j, minus 1 for the best",
    ),
    Objective(
        name="info_nca", function=lists.info_nca, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.05369",
        summary="Match the softmax of the implicit rewards to that of the scores: for answers with graded scores.",
        formula="-sum_i w_i log softmax(r)_i, w = softmax(score / temp)",
        gradient="dl/dr_i = softmax(r)_i - w_i",
    ),
    Objective(
        name="nca", function=lists.nca, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.05369",
        summary="The same by noise contrast, which holds likelihoods up.",
        formula="-sum_i [w_i log s(r_i) + 1/K log s(-r_i)], w = softmax(score / temp)",
        gradient="dl/dr_i = s(r_i)/K - w_i s(-r_i)",
    ),
    Objective(
        name="exo", function=lists.exo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.00856",
        summary="Match rewards to scores under the reverse KL: seek the best answers rather than cover all.",
        formula="KL(softmax(r) || softmax(score / temp))",
        gradient="dl/dr_i = q_i [log q_i - log w_i - KL], q = softmax(r)",
    ),
    Objective(
        name="online_dpo", function=lists.online_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.04792",
        summary="DPO on the best and the worst answer of each scored group; groups scored all alike are left out.",
        formula="-log s(r_best - r_worst)",
        gradient="dl/dr_best = -u ; dl/dr_worst = +u",
    ),
]  # fmt: skip

"""Rows of the objectives of whole ranked groups."""

from __future__ import annotations

from burnish.objectives import lists
from burnish.objectives.row import AS_DPO, Objective

ROWS = [
    Objective(
        name="pl_dpo", function=lists.pl_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2305.18290", equation="app. A.3",
        summary="DPO on a whole ranking: each answer against all that come behind it.",
    ),
    Objective(
        name="multi_pair_dpo", function=lists.multi_pair_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2203.02155", equation="eq. 1",
        summary="DPO on all pairs of a ranked group, together one example.",
    ),
    Objective(
        name="s_dpo", function=lists.s_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2406.09215", equation="eq. 10",
        summary="The best answer against all the others in one softmax.",
    ),
    Objective(
        name="info_nca", function=lists.info_nca, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.05369", equation="eq. 7",
        summary="Match the softmax of the rewards to that of the scores.",
    ),
    Objective(
        name="nca", function=lists.nca, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.05369", equation="eq. 11",
        summary="The same by noise contrast, which holds likelihoods up.",
    ),
    Objective(
        name="exo", function=lists.exo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.00856", equation="eq. 13",
        summary="Match them under the reverse KL: seek the best answers rather than cover all.",
    ),
    Objective(
        name="online_dpo", function=lists.online_dpo, view="lists", needs={"reference"},
        unit="group", beta_unit="per sequence", lr_range=AS_DPO,
        paper="2402.04792", equation="eq. 3",
        summary="DPO on the best and the worst answer of each group.",
    ),
]  # fmt: skip

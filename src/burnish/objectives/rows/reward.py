"""Rows of the objectives of a reward model."""

from __future__ import annotations

from burnish.objectives import reward
from burnish.objectives.table import Objective

AS_REWARD_MODEL = (1e-6, 2e-5)  # published learning rates of reward models

ROWS = [
    Objective(
        name="bradley_terry", function=reward.bradley_terry, view="pairs", needs={"scalar"},
        unit="pair", beta_unit="", lr_range=AS_REWARD_MODEL, paper="2203.02155", equation="eq. 1",
        summary="Train a reward model: one number for an answer, higher for the preferred one of every pair.",
        formula="-log s(r_w - r_l - m) + c (r_w + r_l)^2",
        gradient="dl/dr_w = -s(-(r_w - r_l - m)) + 2c (r_w + r_l) ; dl/dr_l = +s(-(r_w - r_l - m)) + 2c (r_w + r_l)",
    ),
    Objective(
        name="plackett_luce", function=reward.plackett_luce, view="lists", needs={"scalar"},
        unit="group", beta_unit="", lr_range=AS_REWARD_MODEL, paper="2305.18290", equation="app. A.3",
        summary="Train a reward model on whole rankings: each answer against all that come behind it.",
        formula="sum_k [logsumexp(r_k .. r_K) - r_k] + c (2 mean_k r_k)^2",
        gradient="dl/dr_j = sum_{k <= j} softmax(r_k .. r_K)_j - 1 + 8c (mean_k r_k) / K (last: no -1)",
    ),
    Objective(
        name="reward_regression", function=reward.reward_regression, view="lists", needs={"scalar"},
        unit="group", beta_unit="", lr_range=AS_REWARD_MODEL, paper="2311.09528",
        summary="Train a reward model to give the raters' own scores, on their scale.",
        formula="mean_k (r_k - score_k)^2 + c (mean_k r_k)^2",
        gradient="dl/dr_k = 2 (r_k - score_k) / K + 2c (mean_k r_k) / K",
    ),
]  # fmt: skip

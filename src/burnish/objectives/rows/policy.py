"""Rows of the policy-gradient objectives: answers that the policy samples itself."""

from __future__ import annotations

from burnish.objectives import policy
from burnish.objectives.row import Objective

AS_RL = (1e-7, 5e-6)  # published learning rates of on-policy training

ROWS = [
    Objective(
        name="pg", function=policy.pg, view="rollouts", needs={"reference"},
        unit="completion", beta_unit="", lr_range=AS_RL, paper="1707.06347", equation="eq. 7",
        summary="The clipped policy gradient: PPO, GRPO, Dr. GRPO, DAPO and GSPO are settings of it.",
        formula="-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + kl_coef k, put together as agg says",
        gradient="dl/dp_t = -A rho where the clip does not decide, else 0",
    ),
    Objective(
        name="reinforce", function=policy.reinforce, view="rollouts", needs=set(),
        unit="completion", beta_unit="", lr_range=AS_RL, paper="2402.14740",
        summary="The plain policy gradient: raise the log-prob of answers better than their baseline (RLOO).",
        formula="-A log p, summed over the answer",
        gradient="dl/dp_t = -A",
    ),
    Objective(
        name="kl_loss", function=policy.kl_loss, view="rollouts", needs={"reference"},
        unit="token", beta_unit="", lr_range=AS_RL, paper="2402.03300",
        summary="The KL to the reference, estimated on the policy's own answers, as a part of a mixture.",
        formula="k1 = d, k2 = d^2/2, k3 = e^-d - 1 + d, with d = log p - log q",
        gradient="dl/dp_t = 1 (k1: nothing on average) ; d (k2: reverse KL) ; 1 - e^-d (k3: forward KL)",
    ),
    Objective(
        name="value_loss", function=policy.value_loss, view="rollouts", needs=set(),
        unit="token", beta_unit="", lr_range=AS_RL, paper="1707.06347", equation="eq. 9",
        summary="The value head's regression on returns, for PPO.",
        formula="1/2 max((v - R)^2, (v_old + clip(v - v_old, +-c) - R)^2)",
        gradient="dl/dv_t = v - R where the first is larger, else that of the clipped one",
    ),
]  # fmt: skip

"""Rows of the policy-gradient objectives: answers that the policy samples itself."""

from __future__ import annotations

from burnish.objectives import advantages, named, policy
from burnish.objectives.table import Objective

AS_RL = (1e-7, 5e-6)  # published learning rates of on-policy training

RATIO = "rho = e^(p - o), o the log-prob when it was sampled; dl/dp_t = -A rho where the clip does not decide, else 0"

ROWS = [
    Objective(
        name="rloo", function=named.rloo, view="rollouts", needs={"reference"}, advantages=advantages.rloo,
        unit="completion", beta_unit="", lr_range=AS_RL, paper="2402.14740", equation="eq. 8",
        summary="REINFORCE whose baseline is the mean of the prompt's other answers; the KL stands in the reward.",
        formula="-A log p, summed over the answer; A = r_i - mean of the others' r, r less kl_in_reward x log-ratio",
        gradient="dl/dp_t = -A",
    ),
    Objective(
        name="reinforce", function=policy.reinforce, view="rollouts", needs={"reference"},
        advantages=advantages.reinforce, unit="completion", beta_unit="", lr_range=AS_RL, paper="2402.14740",
        summary="The plain policy gradient: raise the log-prob of answers better than the batch's mean.",
        formula="-A log p, summed over the answer; A = r - mean over all answers",
        gradient="dl/dp_t = -A",
    ),
    Objective(
        name="grpo", function=named.grpo, view="rollouts", needs={"reference"}, advantages=advantages.grpo,
        unit="completion", beta_unit="", lr_range=AS_RL, paper="2402.03300", equation="eq. 3",
        summary="Rewards standardised within the prompt, clipped ratios by token, the KL in the loss.",
        formula="-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + kl_coef k3, mean over the answer's tokens",
        gradient=RATIO,
    ),
    Objective(
        name="dr_grpo", function=named.dr_grpo, view="rollouts", needs={"reference"}, advantages=advantages.dr_grpo,
        unit="completion", beta_unit="", lr_range=AS_RL, paper="2503.20783",
        summary="GRPO without its two biases: no division by the spread, none by the answer's own length.",
        formula="-min(rho A, clip(rho) A), summed over the answer and divided by one constant; A = r - mean",
        gradient=RATIO,
    ),
    Objective(
        name="dapo", function=named.dapo, view="rollouts", needs=set(), advantages=advantages.dapo,
        unit="token", beta_unit="", lr_range=AS_RL, paper="2503.14476", equation="eq. 8",
        summary="GRPO that clips higher, averages over tokens, leaves out prompts without signal, and has no KL.",
        formula="-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A), mean over all tokens of the step",
        gradient=RATIO,
    ),
    Objective(
        name="gspo", function=named.gspo, view="rollouts", needs={"reference"}, advantages=advantages.grpo,
        unit="completion", beta_unit="", lr_range=AS_RL, paper="2507.18071", equation="eq. 5",
        summary="GRPO whose ratio is that of whole answers, per token: e^(mean log-ratio).",
        formula="-min(s A, clip(s, 1 - eps_low, 1 + eps_high) A), s = e^(mean of p - o over the answer)",
        gradient="dl/dp_t = -A s / n where the clip does not decide, else 0",
    ),
    Objective(
        name="ppo", function=named.ppo, view="rollouts", needs={"reference", "value"}, advantages=advantages.ppo,
        unit="token", beta_unit="", lr_range=AS_RL, paper="1707.06347", equation="eq. 9",
        summary="Clipped ratios with a value head: each token's credit by generalised advantage estimation.",
        formula="-min(rho A, clip(rho) A) + value_coef (v - R)^2 / 2, mean over all tokens",
        gradient=RATIO,
    ),
    Objective(
        name="pg", function=policy.pg, view="rollouts", needs={"reference"}, advantages=advantages.by_kind,
        unit="completion", beta_unit="", lr_range=AS_RL, paper="1707.06347", equation="eq. 7",
        summary="The clipped policy gradient with all its settings: GRPO, Dr. GRPO, DAPO and GSPO are some of them.",
        formula="-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) + kl_coef k, put together as agg says",
        gradient=RATIO,
    ),
    Objective(
        name="kl_loss", function=policy.kl_loss, view="rollouts", needs={"reference"},
        unit="token", beta_unit="", lr_range=AS_RL, paper="2402.03300",
        summary="The KL to the reference, estimated on the policy's own answers, as a part of a mixture.",
        formula="k1 = d, k2 = d^2/2, k3 = e^-d - 1 + d, with d = log p - log q",
        gradient="dl/dp_t = 1 (k1: nothing on average) ; d (k2: reverse KL) ; 1 - e^-d (k3: forward KL)",
    ),
    Objective(
        name="value_loss", function=policy.value_loss, view="rollouts", needs={"value"},
        unit="token", beta_unit="", lr_range=AS_RL, paper="1707.06347", equation="eq. 9",
        summary="The value head's regression on returns, for PPO.",
        formula="1/2 max((v - R)^2, (v_old + clip(v - v_old, +-c) - R)^2)",
        gradient="dl/dv_t = v - R where the first is larger, else that of the clipped one",
    ),
]  # fmt: skip

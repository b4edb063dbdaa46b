"""What each objective does about length: a table for the audit's advice and for the objectives' rows. No torch."""

from __future__ import annotations

from typing import NamedTuple


class LengthEffects(NamedTuple):
    """The three ways in which length leaks into a run, each "yes", "no", "drift" (it grows as the policy leaves the
    reference) or "reduced", with a condition behind it where it depends on a setting."""

    p1: str  # prefers the shorter answer of a pair, because sums of log-probs fall with length
    p2: str  # longer answers weigh more in the gradient
    p3: str  # learns the raters' taste in length


AS_DPO = LengthEffects("drift", "yes", "yes")

LENGTH_EFFECTS: dict[str, LengthEffects] = {
    "sft": LengthEffects("no", "yes, by token", "no: it sees no labels but the choice of answers"),
    "dpo": AS_DPO,
    "robust_dpo": AS_DPO,
    "hinge": AS_DPO,
    "exo_pair": AS_DPO,
    "discopop": AS_DPO,
    "dpop": LengthEffects("drift", "yes", "yes: the penalty falls on long winners first"),
    "dpo_norm": LengthEffects("no", "no", "yes"),
    "ipo": LengthEffects("drift with sums, no with averages", "yes with sums, no with averages", "yes"),
    "simpo": LengthEffects("no", "no", "yes"),
    "r_dpo": LengthEffects("drift", "yes", "reduced"),
    "ld_dpo": LengthEffects("reduced", "reduced", "yes"),
    "sampo": LengthEffects("no", "yes across pairs, no within one", "yes"),
    "wpo": LengthEffects("drift", "yes", "yes"),
    "tdpo1": AS_DPO,
    "tdpo2": AS_DPO,
    "orpo": LengthEffects("no", "no with nll by sequence", "yes"),
    "cpo": LengthEffects("yes, from the first step", "yes", "yes"),
    "slic_hf": LengthEffects("yes, from the first step", "yes", "yes"),
    "nca_pair": AS_DPO,
    "apo_zero": AS_DPO,
    "apo_down": AS_DPO,
    "bco_pair": AS_DPO,
    "bco_pair_batch_shift": AS_DPO,
    "sppo": LengthEffects("drift", "yes, and short answers must move further", "yes"),
    "rpo": LengthEffects("drift, held back by the likelihood", "yes", "yes"),
    "chi_po": LengthEffects("drift", "yes, exponentially in length", "yes"),
    "f_dpo": LengthEffects("drift", "yes; exponentially under forward KL and alpha", "yes"),
    "beta_dpo": AS_DPO,
    "alpha_dpo": LengthEffects("no", "no", "yes"),
    "aot_paired": AS_DPO,
    "aot_unpaired": AS_DPO,
    "kto": AS_DPO,
    "bco": AS_DPO,
    "apo_zero_unpaired": AS_DPO,
    "pl_dpo": AS_DPO,
    "multi_pair_dpo": AS_DPO,
    "s_dpo": AS_DPO,
    "info_nca": AS_DPO,
    "nca": AS_DPO,
    "exo": AS_DPO,
    "online_dpo": AS_DPO,
    "bradley_terry": LengthEffects("no", "no", "yes"),
    "plackett_luce": LengthEffects("no", "no", "yes"),
    "reward_regression": LengthEffects("no", "no", "yes"),
    "pg": LengthEffects("no", "no with const, token_mean; 1/n a token with seq_mean_token_mean", "yes, by the reward"),
    "rloo": LengthEffects("no", "yes, as the true gradient has it", "yes, by the reward"),
    "grpo": LengthEffects(
        "no", "1/n a token: wrong answers grow, right ones are pushed harder when short", "yes, by the reward"
    ),
    "dr_grpo": LengthEffects("no", "yes, as the true gradient has it", "yes, by the reward"),
    "dapo": LengthEffects("no", "all tokens of a step weigh the same", "yes, by the reward (and its overlong penalty)"),
    "gspo": LengthEffects("no", "no: 1/n a token", "yes, by the reward"),
    "ppo": LengthEffects(
        "yes: each token more costs its KL", "all tokens of a step weigh the same", "yes, by the reward"
    ),
    "reinforce": LengthEffects("no", "yes, as the true gradient has it", "yes, by the reward"),
    "kl_loss": LengthEffects("no", "no", "no"),
    "value_loss": LengthEffects("no", "no", "no"),
}

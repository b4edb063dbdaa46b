"""What each objective does about length: one table for the audit's advice and for the objectives' rows. No torch."""

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
    "dpo": AS_DPO,
    "dpo_norm": LengthEffects("no", "no", "yes"),
    "ipo": LengthEffects("drift with sums, no with averages", "yes with sums, no with averages", "yes"),
    "simpo": LengthEffects("no", "no", "yes"),
    "r_dpo": LengthEffects("drift", "yes", "reduced"),
    "ld_dpo": LengthEffects("reduced", "reduced", "yes"),
    "kto": AS_DPO,
    "bradley_terry": LengthEffects("no", "no", "yes"),
    "pg": LengthEffects(
        "no", "no with const or token_mean; each token counts 1/n with seq_mean_token_mean", "yes, through the reward"
    ),
    "reinforce": LengthEffects("no", "yes, as the true gradient has it", "yes, through the reward"),
    "kl_loss": LengthEffects("no", "no", "no"),
    "value_loss": LengthEffects("no", "no", "no"),
}

"""How near the data is to what the model would write: mean per-token log-prob of each side, on a sample of pairs.

Text far below the model's level was written by another model or by people. The log-probs of such off-policy data fall
in training, whatever side it is on; small learning rates or fresh answers help.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from burnish.config import Run
from burnish.data.views import pair_view
from burnish.engine import loading, model
from burnish.engine.scoring import logps
from burnish.group import EncodedGroup


def per_token_logps(run: Run, groups: Iterable[EncodedGroup], count: int) -> dict[str, Any] | None:
    """Mean per-token log-prob (nats) of preferred and other answers of up to `count` groups, and their intervals.

    None where no group has a pair. Raises ModelError where the model cannot be loaded.
    """
    sample = list(islice((g for g in groups if pair_view(g)), count))
    if not sample:
        return None
    policy = model.load_policy(run.model)
    engine, line = loading.make_engine(policy, run)
    model.cast_for_compute(policy)
    means = [
        [logp / max(1, len(ids)) for logp, ids in zip(row, group.completion_ids, strict=True)]
        for group, row in zip(sample, logps(engine, sample), strict=True)
    ]
    pairs = [pair_view(group)[0] for group in sample]
    sides = np.array([[row[winner], row[loser]] for row, (winner, loser, _) in zip(means, pairs, strict=True)])
    error = sides.std(0, ddof=1) / len(sides) ** 0.5 if len(sides) > 1 else np.zeros(2)
    return {
        "pairs": len(sides), "chosen": float(sides[:, 0].mean()), "chosen_error": float(error[0]),
        "rejected": float(sides[:, 1].mean()), "rejected_error": float(error[1]),
        "preferred_already": float((sides[:, 0] > sides[:, 1]).mean()), "layout": line,
    }  # fmt: skip

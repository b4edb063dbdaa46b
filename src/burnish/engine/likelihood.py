"""How near the data is to what the model itself would say: mean per-token log-prob of each side, on a sample of pairs.

Text far below the model's own level was written by something else; its log-probs fall in training whatever side it is
on (off-policy data), and small learning rates or fresh answers are what helps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch

from burnish.config import Run
from burnish.data.views import pair_view
from burnish.engine import loading, model
from burnish.group import EncodedGroup


def per_token_logps(run: Run, groups: Iterable[EncodedGroup], count: int) -> dict[str, Any] | None:
    """Mean per-token log-prob (nats) of preferred and other answers of up to `count` groups, and their intervals.

    None where no group has a pair. Raises ModelError where the model cannot be loaded.
    """
    chosen = list(islice((g for g in groups if pair_view(g)), count))
    if not chosen:
        return None
    policy = model.load_policy(run.model)
    scorer, line = loading.make_engine(policy, run)
    model.cast_for_compute(policy)
    policy.module.eval()
    means: dict[tuple[int, int], float] = {}
    for batch in scorer.plan(chosen):
        with torch.no_grad():
            logps = scorer.score(batch).logps.double()
        sums = torch.zeros(len(batch.lengths), dtype=torch.float64).index_add_(
            0, batch.completion_of.cpu(), logps.cpu()
        )
        at = 0
        for index in batch.group_index:
            for k in range(len(chosen[index].completion_ids)):
                means[index, k] = float(sums[at]) / max(1, int(batch.lengths[at]))
                at += 1
    pairs = [(i, *pair_view(group)[0][:2]) for i, group in enumerate(chosen)]
    sides = np.array([[means[i, w], means[i, l]] for i, w, l in pairs])
    error = sides.std(0, ddof=1) / len(sides) ** 0.5 if len(sides) > 1 else np.zeros(2)
    return {
        "pairs": len(sides), "chosen": float(sides[:, 0].mean()), "chosen_error": float(error[0]),
        "rejected": float(sides[:, 1].mean()), "rejected_error": float(error[1]),
        "preferred_already": float((sides[:, 0] > sides[:, 1]).mean()), "layout": line,
    }  # fmt: skip

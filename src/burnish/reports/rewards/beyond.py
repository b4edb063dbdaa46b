"""Accuracy on answers better than those a scorer learned from: where a policy will go, if training works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.reports.rewards.columns import Answers, PairMargins, figures

UNKNOWN = "{} no gold scores, so it is unknown how scorers do on answers better than those they learned from"


def beyond_training(answers: Answers, pairs: PairMargins, trained_on: Sequence[float] | None) -> dict[str, Any]:
    """Accuracy on pairs whose answers both have at least the median gold score of the training data's chosen answers,
    and on the other pairs with gold scores. `message` is the reason where there is nothing to compare.

    `trained_on`: gold scores of the chosen answers in the training data, on the same scale as the groups' gold.
    """
    known = np.isfinite(answers.gold[pairs.winners]) if len(pairs) else np.zeros(0, dtype=bool)
    if trained_on is None or not len(trained_on):
        return {"message": UNKNOWN.format("of training data (--trained-on) there are")}
    quartiles = [float(q) for q in np.quantile(np.asarray(trained_on, dtype=np.float64), (0.25, 0.5, 0.75))]
    mean = float(np.mean(trained_on))
    seen = {"answers": len(trained_on), "mean": mean, "quartiles": quartiles}
    if not known.any():
        return {"message": UNKNOWN.format("the judged pairs held out have"), "trained_on": seen}
    good = np.minimum(answers.gold[pairs.winners], answers.gold[pairs.losers]) >= quartiles[1]
    rows = []
    for name, mask in (("both at or above the median", known & good), ("the rest", known & ~good)):
        if mask.any():
            by = {scorer: figures(pairs.accuracy(margins, mask)) for scorer, margins in pairs.margins.items()}
            prompts = len(np.unique(pairs.prompts[mask]))
            longer = figures(pairs.accuracy(pairs.gaps, mask))
            rows.append({"name": name, "pairs": int(mask.sum()), "prompts": prompts, "longer": longer, "by": by})
    message = "" if len(rows) == 2 else f"all pairs with gold scores are of one kind: {rows[0]['name']}"
    return {"message": message, "trained_on": seen, "rows": rows}

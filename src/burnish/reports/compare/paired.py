"""Run against run on the same prompts: the paired differences that the runs' kept answers and evaluations allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from burnish.reports.compare.differences import same_gold
from burnish.reports.compare.quality import GOLD, gold_by_prompt
from burnish.reports.history import History
from burnish.stats import holm, paired

LEAST = 5  # prompts in common


def by_prompt(histories: Sequence[History], names: Sequence[str]) -> list[dict[str, Any]]:
    """For each two runs the second minus the first, by gold, over the prompts that both answered in their last window.

    `names`: what the runs are called. Holm's p-values are over all pairs.
    """
    if not same_gold(histories):
        return []
    scores = [{prompt: float(np.mean(v)) for prompt, v in gold_by_prompt(h).items()} for h in histories]
    rows: list[dict[str, Any]] = []
    p_values: list[float] = []
    for (i, first), (j, second) in combinations(enumerate(scores), 2):
        common = [prompt for prompt in first if prompt in second]
        if len(common) < LEAST:
            continue
        a, b = (np.array([side[prompt] for prompt in common]) for side in (first, second))
        result = paired(a, b, np.arange(len(common)))
        gap = result.difference
        p_values.append(result.p)
        rows.append(
            {"first": names[i], "second": names[j], "measure": GOLD, "prompts": len(common),
             "value": [gap.value, gap.low, gap.high],  "test": result.test}
        )  # fmt: skip
    for row, p in zip(rows, holm(p_values), strict=True):
        row["p_holm"] = None if math.isnan(p) else p
    return rows


def of_pair(rows: Sequence[Mapping[str, Any]], first: str, second: str) -> Mapping[str, Any] | None:
    """The row of two runs, second minus first, whichever way it is kept."""
    for row in rows:
        if (row["first"], row["second"]) == (first, second):
            return row
        if (row["first"], row["second"]) == (second, first):
            value, low, high = row["value"]
            return {**row, "first": first, "second": second, "value": [-value, -high, -low]}
    return None

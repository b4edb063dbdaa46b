"""What a run cost: seconds by part, tokens, labels, what judges were paid; and how long processes waited."""

from __future__ import annotations

import math
from typing import Any

from burnish.reports.compare.tracks import totals
from burnish.reports.history import History

PARTS = ("sampling", "judging", "measuring")


def cost(history: History) -> dict[str, Any]:
    """The sums over the run, and the worst of what should be 0."""
    steps, refreshes = history.steps, history.refreshes
    found: dict[str, Any] = {"totals": totals(history), "parts": {}}
    for part in PARTS:
        seconds = sum(refresh.metrics.get(f"seconds/{part}", 0.0) for refresh in refreshes)
        if seconds:
            found["parts"][part] = seconds
    training = sum(step.metrics.get("seconds/training", 0.0) for step in steps)
    if training:
        found["parts"]["training"] = training
    if history.references:
        found["parts"]["reference log-probs"] = sum(record.seconds for record in history.references)
    total = found["totals"]["seconds"]
    found["tokens_a_second"] = found["totals"]["tokens"] / total if total > 0 else None
    found["imbalance"] = _worst([step.metrics.get("imbalance", math.nan) for step in steps])
    found["staleness"] = _worst([step.metrics.get("staleness", math.nan) for step in steps])
    found["mismatch"] = _worst([refresh.metrics.get("mismatch/mean", math.nan) for refresh in refreshes])
    found["requests"] = max((refresh.metrics.get("judge/requests", 0.0) for refresh in refreshes), default=0.0)
    found["starts"] = len(history.starts)
    return found


def _worst(values: list[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return max(known) if known else None

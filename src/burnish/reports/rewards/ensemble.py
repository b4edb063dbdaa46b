"""How far the members of an ensemble disagree: where they do, none of them should be trusted alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.reports.rewards.columns import Answers, Floats, PairMargins, figures
from burnish.reports.rewards.records import Scorer

BINS = 4  # of the disagreement, by its quantiles


def disagreement(answers: Answers, pairs: PairMargins, scorers: Sequence[Scorer]) -> dict[str, Any]:
    """For each ensemble whose members were scored too, how far they disagree, and its accuracy where they do.

    Members are standardised over the answers at hand. `sd` is the mean over answers of the standard deviation between
    members; a pair's disagreement is the standard deviation between their margins; `split` is the share of pairs (by
    weight) whose margins do not all have the same sign. The bins are quantiles of the disagreement.
    """
    rows: dict[str, Any] = {}
    for scorer in scorers:
        if scorer.kind != "ensemble" or len(scorer.members) < 2:
            continue
        table = np.stack([answers.rewards[member] for member in scorer.members])
        sds = table.std(axis=1, keepdims=True)
        if not (sds > 0).all():
            flat = scorer.members[int(np.flatnonzero(~(sds[:, 0] > 0))[0])]
            rows[scorer.name] = {
                "members": list(scorer.members),
                "message": f"{flat} gives every answer the same reward, so its disagreement has no scale",
            }
            continue
        table = (table - table.mean(axis=1, keepdims=True)) / sds
        row: dict[str, Any] = {"members": list(scorer.members), "sd": float(table.std(axis=0).mean())}
        if len(pairs):
            row |= _over_pairs(table[:, pairs.winners] - table[:, pairs.losers], pairs, scorer.name)
        rows[scorer.name] = row
    return rows


def _over_pairs(margins: Floats, pairs: PairMargins, name: str) -> dict[str, Any]:
    """margins [members, pairs], standardised."""
    signs = np.sign(margins)
    split = (signs != signs[0]).any(axis=0)
    between = margins.std(axis=0)
    edges = np.quantile(between, np.linspace(0, 1, BINS + 1))
    places = np.clip(np.searchsorted(edges, between, side="left") - 1, 0, BINS - 1)
    rows = []
    for b in range(BINS):
        inside: NDArray[np.bool_] = np.asarray(places == b, dtype=bool)
        if inside.any():
            share = figures(pairs.accuracy(pairs.margins[name], inside))
            rows.append({"pairs": int(inside.sum()), "disagreement": float(between[inside].mean()), **share})
    return {"split": float((pairs.weights * split).sum() / pairs.weights.sum()), "bins": rows}

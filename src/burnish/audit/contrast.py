"""How far the two answers of a pair are apart, whether the same model wrote them, and how far raters agree.

Pairs that hardly differ, or differ in nothing that a rater saw, cost as much as the others (delta learning,
2507.06187; displacement by near-identical pairs, 2410.08847).
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.group import Group

NEAR = 0.1  # normalised edit distance below which two answers count as nearly identical
READ = 2000  # characters of each answer that are compared


@dataclass
class Contrast:
    """Edit distance and gap of the scores, twelve bytes a pair; the votes on each pair of answers, some 200 bytes."""

    edits: array[float] = field(default_factory=lambda: array("f"))
    gaps: array[float] = field(default_factory=lambda: array("d"))
    same_model: int = 0
    known_models: int = 0
    votes: dict[int, list[int]] = field(default_factory=dict)  # pair -> votes for the side that sorts first, and all

    def add(self, group: Group, winner: int, loser: int, texts: tuple[str, str], gap: float | None) -> None:
        from rapidfuzz.distance import Indel

        self.edits.append(Indel.normalized_distance(texts[0][:READ], texts[1][:READ]))
        if gap is not None and abs(gap) < 1e100:  # beyond that no histogram has bins
            self.gaps.append(gap)
        models = group.completions[winner].model, group.completions[loser].model
        if models[0] and models[1]:
            self.known_models += 1
            self.same_model += models[0] == models[1]

    def vote(self, prompt: int, texts: tuple[int, int]) -> None:
        """Count a rater's preference for the first of two answers, given as digests of their texts."""
        low, high = min(texts), max(texts)
        votes = self.votes.setdefault(hash((prompt, low, high)), [0, 0])
        votes[0] += texts[0] == low
        votes[1] += 1

    def figures(self) -> dict[str, Any] | None:
        if not self.edits:
            return None
        edits = np.array(self.edits)
        gaps = np.array(self.gaps)
        edges = np.linspace(0, 1, 21)
        known = len(gaps) > 0 and float(gaps.max()) > float(gaps.min())
        bins = np.histogram(gaps, 20) if known else None
        return {
            "edit_histogram": {"edges": edges.tolist(), "counts": np.histogram(edits, edges)[0].tolist()},
            "median_edit": float(np.median(edits)), "near_identical": int((edits < NEAR).sum()),
            "same_model": self.same_model / self.known_models if self.known_models else None,
            "score_gap": None if bins is None else {"edges": bins[1].tolist(), "counts": bins[0].tolist()},
        }  # fmt: skip

    def agreement(self) -> dict[str, Any] | None:
        """How often two raters of a pair agree, and the accuracy that no model can exceed on such labels.

        Two raters who are each right with probability q agree with a = q^2 + (1 - q)^2, so q = (1 + sqrt(2a - 1)) / 2.
        """
        agreeing = total = pairs = 0
        for first, count in self.votes.values():
            if count > 1:
                pairs += 1
                total += count * (count - 1) // 2
                agreeing += first * (first - 1) // 2 + (count - first) * (count - first - 1) // 2
        if not total:
            return None
        rate = agreeing / total
        ceiling = noise_ceiling(rate)
        message = f"two raters of the same pair agree in {rate:.0%} of {total:,} cases"
        message += f"; no model can be right about such labels above {ceiling:.0%}" if ceiling else "; that is chance"
        return {"rate": rate, "pairs": pairs, "ceiling": ceiling, "message": message}


def noise_ceiling(agreement: float) -> float | None:
    """q = (1 + sqrt(2a - 1)) / 2 for agreement a; None below one half, where raters do not agree at all."""
    return (1 + math.sqrt(2 * agreement - 1)) / 2 if agreement >= 0.5 else None

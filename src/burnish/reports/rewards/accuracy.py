"""How often a scorer prefers the answer that the data prefers: over all pairs, and over slices of them.

Accuracy is sum w (1[margin > 0] + 1/2 1[margin = 0]) / sum w over pairs of weight w (1 is a plain vote), with an
interval that counts prompts, not pairs, as independent. The baselines are two readers without understanding: the longer
answer, and a bag of words trained on other prompts' pairs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.audit.bias import SAMPLE, TEXT
from burnish.audit.contrast import NEAR, READ
from burnish.audit.probe import word_probe
from burnish.reports.rewards.columns import Floats, PairMargins, credit, figures
from burnish.reports.rewards.records import ScoredGroup
from burnish.stats import Z95, Share, clustered_mean

SIMILAR = 0.5  # normalised edit distance; answers to different questions are hardly ever nearer than that
EVEN, MUCH = 0.2, 0.6  # quantiles of the length gap's size: below the first about equal, beyond the second much
MOST_ROWS = 40  # slices kept of one kind, those with most pairs

Row = dict[str, Any]


def accuracy(groups: Sequence[ScoredGroup], pairs: PairMargins, *, probe: bool = True) -> dict[str, Any] | None:
    """All slices and baselines as JSON; None without pairs. `probe` trains the bag of words (seconds)."""
    if not len(pairs):
        return None
    everything = np.ones(len(pairs), dtype=bool)
    longer = pairs.accuracy(pairs.gaps)
    sources = _named(groups, pairs, [group.source if group.source != group.subset else "" for group in groups])
    subsets = _named(groups, pairs, [group.subset for group in groups])
    answers = [answer for group in groups for answer in group.answers]
    texts = [(answers[w], answers[l]) for w, l in zip(pairs.winners, pairs.losers, strict=True)]
    return {
        "all": _row("all pairs", pairs, everything),
        "sources": sources,
        "subsets": subsets,
        "mean_over_subsets": _mean_over(subsets) if len(subsets) > 1 else None,
        "length": _by_length(pairs),
        "contrast": _by_contrast(pairs, texts),
        "longer": figures(longer),
        "against_length": _against_length(pairs, longer.value),
        "bag_of_words": _words(pairs, texts) if probe else None,
    }


def _row(name: str, pairs: PairMargins, mask: NDArray[np.bool_], **more: Any) -> Row:
    """A slice: its size, how often the longer answer wins in it, and each scorer's accuracy."""
    return {
        "name": name,
        "pairs": int(mask.sum()),
        "prompts": len(np.unique(pairs.prompts[mask])),
        "longer": figures(pairs.accuracy(pairs.gaps, mask)),
        "by": {scorer: figures(pairs.accuracy(margins, mask)) for scorer, margins in pairs.margins.items()},
        **more,
    }


def _named(groups: Sequence[ScoredGroup], pairs: PairMargins, names: Sequence[str]) -> list[Row]:
    """A row for each name that a group has; [] where all have the same, or none has one. Most pairs first."""
    of_pair = np.array([names[g] for g in pairs.groups], dtype=object)
    known = sorted({name for name in names if name})
    if not known or (len(known) == 1 and all(names)):
        return []
    rows = [_row(name, pairs, np.asarray(of_pair == name, dtype=bool)) for name in known]
    return sorted((row for row in rows if row["pairs"]), key=lambda row: (-row["pairs"], row["name"]))[:MOST_ROWS]


def _mean_over(rows: Sequence[Row]) -> Row:
    """The plain mean of the subsets' accuracies. A subset's error is taken from its Wilson interval, so that a
    subset of a single prompt is not taken for certain; subsets count as independent."""

    def mean(shares: Sequence[dict[str, float]]) -> dict[str, Any]:
        value = sum(each["value"] for each in shares) / len(shares)
        squares = sum(((each["high"] - each["low"]) / (2 * Z95)) ** 2 for each in shares)
        half = Z95 * math.sqrt(squares) / len(shares)
        return figures(Share(value, max(0.0, value - half), min(1.0, value + half), half / Z95, len(shares)))

    return {
        "name": "mean over subsets",
        "subsets": len(rows),
        "pairs": sum(row["pairs"] for row in rows),
        "longer": mean([row["longer"] for row in rows]),
        "by": {scorer: mean([row["by"][scorer] for row in rows]) for scorer in rows[0]["by"]},
    }


def _by_length(pairs: PairMargins) -> list[Row]:
    """Five bins of the length gap g, chosen minus rejected: much shorter, shorter, about equal (|g| <= a), longer, much
    longer (|g| > b).

    a and b are the 20 % and the 60 % quantile of |g| (nearest gap that occurs), so that balanced data fill the bins
    evenly; bins without pairs are left out.
    """
    size = np.abs(pairs.gaps)
    a, b = (int(np.quantile(size, q, method="nearest")) for q in (EVEN, MUCH))
    bins = (
        ("much shorter", f"by more than {b}", pairs.gaps < -b),
        ("shorter", f"by {a + 1} to {b}", (-b <= pairs.gaps) & (pairs.gaps < -a)),
        ("about equal", f"within {a}", size <= a),
        ("longer", f"by {a + 1} to {b}", (a < pairs.gaps) & (pairs.gaps <= b)),
        ("much longer", f"by more than {b}", pairs.gaps > b),
    )
    return [_row(name, pairs, mask, bounds=f"{bounds} tokens") for name, bounds, mask in bins if mask.any()]


def _by_contrast(pairs: PairMargins, texts: Sequence[tuple[str, str]]) -> list[Row]:
    """Bins of the normalised edit distance (insertions and deletions over both lengths) of the answers' beginnings."""
    from rapidfuzz.distance import Indel

    edits = np.array([Indel.normalized_distance(a[:READ], b[:READ]) for a, b in texts])
    bins = (
        ("near-identical", f"edit distance below {NEAR}", edits < NEAR),
        ("similar", f"{NEAR} to {SIMILAR}", (edits >= NEAR) & (edits < SIMILAR)),
        ("different", f"{SIMILAR} and more", edits >= SIMILAR),
    )
    return [_row(name, pairs, mask, bounds=bounds) for name, bounds, mask in bins if mask.any()]


def _against_length(pairs: PairMargins, longer: float) -> dict[str, Any]:
    """Each scorer's accuracy minus that of length alone, on the same pairs, with the interval of the difference.

    Length alone takes the longer answer, or the shorter one, whichever is right more often on these pairs.
    """
    gaps = pairs.gaps if longer >= 0.5 else -pairs.gaps
    alone = credit(gaps)
    return {
        "prefers": "longer" if longer >= 0.5 else "shorter",
        "value": max(longer, 1 - longer),
        "by": {
            scorer: figures(clustered_mean(credit(margins) - alone, pairs.prompts, pairs.weights))
            for scorer, margins in pairs.margins.items()
        },
    }


def _words(pairs: PairMargins, texts: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
    """Held-out accuracy of the bag of words, each pair counting once, and the scorers' on the pairs that it saw."""
    chosen = list(range(len(pairs)))
    if len(pairs) > SAMPLE:
        chosen = sorted(random.Random(0).sample(chosen, SAMPLE))
    probe = word_probe([(int(pairs.prompts[i]), texts[i][0][:TEXT], texts[i][1][:TEXT]) for i in chosen])
    if probe is None:
        return None

    def on_these(margins: Floats) -> float:
        return float(credit(margins[chosen]).mean())

    return {
        "value": probe["accuracy"], "low": probe["low"], "high": probe["high"], "pairs": probe["pairs"],
        "words_chosen": probe["words_chosen"], "words_rejected": probe["words_rejected"],
        "by": {scorer: on_these(margins) for scorer, margins in pairs.margins.items()},
    }  # fmt: skip

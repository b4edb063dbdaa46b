"""Lengths and surface features of the chosen and the rejected answer of each pair, kept as small columns.

Where length or bullet points predict the preferred answer, the policy will learn those instead.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.findings import Finding
from burnish.stats import Share, clustered_share

FEATURES: dict[str, re.Pattern[str]] = {
    "lists": re.compile(r"^[ \t]*(?:[-*+\u2022]|\d{1,3}[.)])[ \t]", re.M),
    "headers": re.compile(r"^#{1,6}[ \t]", re.M),
    "bold": re.compile(r"\*\*[^*\n]+\*\*"),
    "code": re.compile(r"```|`[^`\n]+`"),
    "refusals": re.compile(
        r"\A\W*(?:I(?:'|\u2019)?m (?:very |really )?sorry|sorry,|I apologi[sz]e|I can(?:'|\u2019)?t|I cannot"
        r"|I(?:'|\u2019)?m (?:not able|unable)|I won(?:'|\u2019)?t|As an AI|Unfortunately,)", re.I),
    "exclamations": re.compile(r"!"),
    "questions": re.compile(r"\?"),
    "hedges": re.compile(
        r"\b(?:maybe|perhaps|possibly|probably|might|could be|it seems|I think|I believe|not sure|it depends)\b", re.I),
    "paragraphs": re.compile(r"\n[ \t]*\n"),
}  # fmt: skip
SAMPLE = 4000  # pairs whose texts are kept for the word probe, at most
TEXT = 4000  # characters kept of each of them
MOST_PAIRS = 64  # of one group; a ranked list of twelve has 66
LEAST = 20  # pairs, or answers of each label; below this no bias is claimed


@dataclass
class PairRows:
    """A row for each pair: prompt, source, lengths of winner and loser, and how often each feature occurs in either.

    A row takes about 70 bytes. The texts are a sample (by reservoir, seeded).
    """

    prompts: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("H"))
    winners: array[int] = field(default_factory=lambda: array("l"))
    losers: array[int] = field(default_factory=lambda: array("l"))
    counts: array[int] = field(default_factory=lambda: array("H"))  # pairs x 2 x features
    names: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    texts: list[tuple[int, str, str]] = field(default_factory=list)  # (prompt, winner's text, loser's text)
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, prompt: int, source: str, texts: tuple[str, str], lengths: tuple[int, int],
            features: tuple[Sequence[int], Sequence[int]]) -> None:  # fmt: skip
        number = self.numbers.setdefault(source, len(self.names))
        if number == len(self.names):
            self.names.append(source)
        self.prompts.append(prompt)
        self.sources.append(min(number, 65535))
        self.winners.append(lengths[0])
        self.losers.append(lengths[1])
        self.counts.extend([*features[0], *features[1]])
        row = (prompt, texts[0][:TEXT], texts[1][:TEXT])
        if len(self.texts) < SAMPLE:
            self.texts.append(row)
        elif (place := self.rng.randrange(len(self.prompts))) < SAMPLE:
            self.texts[place] = row

    def __len__(self) -> int:
        return len(self.prompts)

    def columns(self) -> PairColumns:
        shape = (len(self), 2, len(FEATURES))
        return PairColumns(
            np.array(self.prompts, dtype=np.int64),
            np.array(self.sources, dtype=np.int64),
            np.array(self.winners, dtype=np.int64),
            np.array(self.losers, dtype=np.int64),
            np.array(self.counts, dtype=np.int64).reshape(shape),
            self.names,
        )


def features_of(text: str) -> list[int]:
    """How often each feature occurs in a text (at most 65,535 times)."""
    return [min(65535, len(pattern.findall(text))) for pattern in FEATURES.values()]


@dataclass(frozen=True)
class PairColumns:
    """The pairs as arrays: [n] each, and the feature counts [n, 2, features], the winner's first."""

    prompts: NDArray[np.int64]
    sources: NDArray[np.int64]
    winners: NDArray[np.int64]
    losers: NDArray[np.int64]
    counts: NDArray[np.int64]
    names: list[str]

    def length_rows(self) -> list[dict[str, Any]]:
        """Length figures of all pairs, and of each source where there are several."""
        rows = [self._length("all", np.ones(len(self.prompts), dtype=bool))]
        if len(self.names) > 1:
            rows += [self._length(name, self.sources == i) for i, name in enumerate(self.names[:40])]
        return rows

    def longer_wins(self, mask: NDArray[np.bool_]) -> Share:
        """P(the longer answer is the preferred one), pairs of equal length left out; clustered by prompt."""
        gap = self.winners - self.losers
        mask = mask & (gap != 0)
        return clustered_share((gap[mask] > 0).astype(np.float64), self.prompts[mask])

    def length_accuracy(self) -> float:
        """The accuracy of always taking the longer answer, or the shorter, whichever is higher; ties count one half."""
        gap = self.winners - self.losers
        longer = float((gap > 0).mean() + (gap == 0).mean() / 2)
        return max(longer, 1 - longer)

    def _length(self, name: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
        share = self.longer_wins(mask)
        gap = (self.winners - self.losers)[mask]
        return {
            "source": name, "pairs": int(mask.sum()), "p_longer": share.value if share.trials else None,
            "low": share.low, "high": share.high, "error": share.error if share.trials else None,
            "mean_chosen": float(self.winners[mask].mean()), "mean_rejected": float(self.losers[mask].mean()),
            "mean_gap": float(gap.mean()),
            "median_gap": float(np.median(gap)), "p80_gap": float(np.quantile(np.abs(gap), 0.8)),
        }  # fmt: skip

    def feature_rows(self) -> list[dict[str, Any]]:
        """For each feature, among the pairs whose sides differ in it, the share in which the chosen side has more."""
        rows = []
        for number, name in enumerate(FEATURES):
            gap = self.counts[:, 0, number] - self.counts[:, 1, number]
            share = clustered_share((gap[gap != 0] > 0).astype(np.float64), self.prompts[gap != 0])
            if share.trials:
                message = f"in {share.trials:,} pairs one side has more; it is the preferred one in {share.value:.0%}"
                rows.append({"name": name, "p": share.value, "low": share.low, "high": share.high,
                             "differ": share.trials, "message": message})  # fmt: skip
        return rows

    def histograms(self) -> dict[str, Any]:
        """Bins of the length gap and of both lengths; the outer two per cent are counted in the last bins."""
        gap = self.winners - self.losers
        reach = max(1.0, float(np.quantile(np.abs(gap), 0.98)))
        edges = np.linspace(-reach, reach, 42)
        top = max(1.0, float(np.quantile(np.concatenate([self.winners, self.losers]), 0.98)))
        sizes = np.linspace(0, top, 31)
        counted = [np.histogram(np.clip(x, 0, top), sizes)[0].tolist() for x in (self.winners, self.losers)]
        return {
            "gap_histogram": {"edges": edges.tolist(),
                              "counts": np.histogram(np.clip(gap, -reach, reach), edges)[0].tolist()},
            "lengths_histogram": {"edges": sizes.tolist(), "chosen": counted[0], "rejected": counted[1]},
        }  # fmt: skip


@dataclass
class AnswerLengths:
    """Lengths of desirable and undesirable answers, eight bytes each."""

    desirable: array[int] = field(default_factory=lambda: array("l"))
    undesirable: array[int] = field(default_factory=lambda: array("l"))

    def add(self, desirable: bool, length: int) -> None:
        (self.desirable if desirable else self.undesirable).append(length)

    def findings(self, unit: str) -> list[Finding]:
        """The length bias of the labels: P(a desirable answer is longer than an undesirable one), ties one half (the
        area under the ROC curve, Mann & Whitney 1947), where it is 0.1 and two standard errors away from 1/2."""
        good, bad = np.array(self.desirable), np.array(self.undesirable)
        if len(good) < LEAST or len(bad) < LEAST:
            return []
        count = len(good) + len(bad)
        below = np.searchsorted(np.sort(bad), good, "left") + np.searchsorted(np.sort(bad), good, "right")
        area = float(below.mean()) / 2 / len(bad)
        error = (count / (12.0 * len(good) * len(bad))) ** 0.5
        if abs(area - 0.5) < max(0.1, 2 * error):
            return []
        kind = "longer" if area > 0.5 else "shorter"
        message = (
            f"length bias: a desirable answer is {kind} than an undesirable one with probability "
            f"{max(area, 1 - area):.0%} (mean {good.mean():,.0f} and {bad.mean():,.0f} {unit})"
        )
        return [Finding("length-bias" if area > 0.5 else "brevity-bias", "warn", message, count)]

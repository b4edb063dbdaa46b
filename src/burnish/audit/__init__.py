"""What is broken, how it renders, what it would teach, and what to do about it: data looked at before a step is spent.

One pass over the groups, as they are read; what is kept for each is about a kilobyte, whatever its texts' length.
No torch.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from burnish import __version__
from burnish.audit import advice, near
from burnish.audit.bias import MOST_PAIRS, Pairs, features_of
from burnish.audit.contrast import Contrast
from burnish.audit.probe import word_probe
from burnish.audit.rendered import Rendered
from burnish.audit.scan import MARKERS, Scan, digest, leaks
from burnish.data.identity import prompt_key, score_gap
from burnish.data.readers import Skipped, Stream
from burnish.data.readers.values import Fault
from burnish.data.render import Renderer
from burnish.data.views import pair_view
from burnish.errors import DataError
from burnish.findings import Finding, Severity, Tally, by_severity, counted
from burnish.group import EncodedGroup, Group, Labels, Scores, whole_text

BATCH = 128  # groups that are tokenised in one call
__all__ = ["Audit", "Auditor", "Finding", "audit"]


@dataclass
class Auditor:
    """Takes the groups of one side (train, or eval) and keeps what the figures need.

    `deep` adds near copies and edit distances, which a training run's quick look leaves out.
    """

    renderer: Renderer | None = None
    max_length: int | None = None
    overlong: str = "drop"
    deep: bool = True
    faults: Tally = field(default_factory=Tally)
    broken: list[str] = field(default_factory=list)  # sources that cannot be read, or not to their end
    skipped: Tally = field(default_factory=Tally)
    sources: list[dict[str, Any]] = field(default_factory=list)
    pairs: Pairs = field(default_factory=Pairs)
    contrast: Contrast = field(default_factory=Contrast)
    sketches: near.Sketches = field(default_factory=near.Sketches)
    labelled: tuple[array[int], array[int]] = field(default_factory=lambda: (array("l"), array("l")))
    shared: list[str] = field(default_factory=list)  # places of prompts that `against` has too
    against: Scan | None = None
    keep: int = 0  # encoded groups to keep for a model to score
    kept: list[EncodedGroup] = field(default_factory=list)

    def __post_init__(self) -> None:
        guard = self.renderer.guard if self.renderer else None
        known = (lambda text: guard.strings_in(text) + MARKERS.findall(text)) if guard else MARKERS.findall
        self.scan = Scan(known, control_acts=self.renderer is not None and guard is None)
        self.rendered = Rendered(self.renderer, self.max_length, self.overlong) if self.renderer else None

    @property
    def unit(self) -> str:
        return "tokens" if self.rendered else "characters"

    def read(self, path: str, *, format: str = "auto", split: str = "train", limit: int | None = None,
             advance: Callable[[int], None] = lambda _: None) -> None:  # fmt: skip
        """All groups of one source. A container that cannot be read on is a fault like that of a row."""
        stream = Stream(path, format=format, split=split, limit=limit)
        before = self._totals()
        items = self._groups(stream, path)
        while batch := list(islice(items, BATCH)):
            self.take(batch)
            advance(len(batch))
        totals = {name: now - before[name] for name, now in self._totals().items()}
        if not self.broken and not any(totals[name] for name in ("groups", "left_out", "faults")):
            self.broken.append(f"{path} is empty: it holds no rows")
        read_as = "not read" if stream.format == "auto" else f"read as {stream.format} {stream.note}"
        self.sources.append({"name": Path(path).name, "format": stream.format, "read_as": read_as, **totals})

    def _totals(self) -> dict[str, int]:
        counts = {"groups": self.scan.groups, "prompts": len(self.scan.prompts), "pairs": len(self.pairs)}
        return counts | {
            "left_out": sum(self.skipped.counts.values()), "faults": sum(self.faults.counts.values())
        }  # fmt: skip

    def _groups(self, stream: Stream, path: str) -> Iterator[Group]:
        try:
            for item in stream:
                if isinstance(item, Fault):
                    self.faults.add("unreadable", item.where, item.message)
                elif isinstance(item, Skipped):
                    self.skipped.add(item.reason, item.where)
                else:
                    yield item
        except DataError as error:
            self.broken.append(str(error))

    def take(self, groups: Sequence[Group], encoded: Sequence[EncodedGroup | None] | None = None) -> None:
        """Look at some groups; `encoded` are the same in token space, where somebody has them already."""
        if encoded is None:
            encoded = self.rendered.encode(groups) if self.rendered else [None] * len(groups)
        for group, ids in zip(groups, encoded, strict=True):
            row = self.scan.groups
            key, repeated = self.scan.add(group)
            if self.against is not None and key in self.against.prompts:
                self.shared.append(group.where)
            elif self.deep and self.scan.prompts[key] == 1:
                self.sketches.add(prompt_key(group), row)
            # a row said twice is one rater, unless the rows name two
            self._answers(group, key, ids, voted=not repeated or "annotator" in group.meta)
            if ids is not None and len(self.kept) < self.keep and pair_view(ids):
                self.kept.append(ids)

    def _answers(self, group: Group, key: int, ids: EncodedGroup | None, *, voted: bool) -> None:
        texts = [whole_text(c.messages) for c in group.completions]
        lengths = [len(c) for c in ids.completion_ids] if ids is not None else [len(text) for text in texts]
        if isinstance(group.feedback, Labels):
            for value, length in zip(group.feedback.values, lengths, strict=True):
                self.labelled[0 if value else 1].append(length)
        blank = EncodedGroup("", (), ((),) * len(texts), (), group.feedback)
        triples = pair_view(blank, "all")[:MOST_PAIRS]
        features = {k: features_of(texts[k]) for k in {k for w, l, _ in triples for k in (w, l)}}
        for winner, loser, _ in triples:
            sides = texts[winner], texts[loser]
            self.pairs.add(
                key, group.source, sides, (lengths[winner], lengths[loser]), (features[winner], features[loser])
            )
            if self.deep:
                self.contrast.add(group, winner, loser, sides, _score_gap(group, winner, loser))
            if self.deep and voted:
                self.contrast.vote(key, (digest(sides[0]), digest(sides[1])))

    def place(self, row: int) -> str:
        packed = self.scan.wheres[row]
        return f"{self.scan.files[packed >> 40]}:{packed & (1 << 40) - 1}"

    def findings(self) -> list[Finding]:
        """What this side has to say for itself."""
        found = [Finding("broken-file", "refuse", said) for said in self.broken]
        found += [
            Finding("unreadable", "refuse", f"{counted(self.faults.counts[code], 'row')} cannot be read", count,
                    tuple(self.faults.rows[code]), tuple(self.faults.examples[code]))
            for code, count in self.faults.counts.items()
        ]  # fmt: skip
        for reason, count in self.skipped.counts.items():
            said = f"{counted(count, 'row')} left out: {reason}"
            found.append(Finding("left-out", "warn", said, count, tuple(self.skipped.rows[reason])))
        found += self.scan.findings()
        found += self.rendered.findings() if self.rendered else []
        return found + self._labels() + self._copies()

    def _labels(self) -> list[Finding]:
        good, bad = (np.array(x) for x in self.labelled)
        if len(good) < advice.LEAST or len(bad) < advice.LEAST:
            return []
        order = np.concatenate([good, bad])
        below = np.searchsorted(np.sort(bad), good, "left") + np.searchsorted(np.sort(bad), good, "right")
        area = float(below.mean()) / 2 / len(bad)  # P(a desirable answer is longer than an undesirable one)
        spread = (len(order) / (12.0 * len(good) * len(bad))) ** 0.5
        if abs(area - 0.5) < max(0.1, 2 * spread):
            return []
        kind = "longer" if area > 0.5 else "shorter"
        said = (
            f"length bias: a desirable answer is {kind} than an undesirable one with probability "
            f"{max(area, 1 - area):.0%} (mean {good.mean():,.0f} and {bad.mean():,.0f} {self.unit})"
        )
        return [Finding("length-bias", "warn", said, len(order))]

    def _copies(self) -> list[Finding]:
        copied = np.flatnonzero(near.copies(self.sketches.matrix()))
        if not len(copied):
            return []
        rows = tuple(self.place(self.sketches.rows[i]) for i in copied[:8])
        said = f"{counted(len(copied), 'prompt')} nearly a copy of an earlier one"
        severity: Severity = "warn" if len(copied) > 0.05 * len(self.scan.prompts) else "note"
        return [Finding("near-duplicate", severity, said, len(copied), rows)]


def _score_gap(group: Group, winner: int, loser: int) -> float | None:
    if isinstance(group.feedback, Scores):
        return group.feedback.values[winner] - group.feedback.values[loser]
    return score_gap(group)


@dataclass(frozen=True)
class Audit:
    """The result: findings in order of severity, and the figures behind them as JSON-able values."""

    findings: list[Finding]
    figures: dict[str, Any]

    @property
    def verdict(self) -> str:
        kinds = {finding.severity for finding in self.findings}
        return "refused" if "refuse" in kinds else "warnings" if "warn" in kinds else "clean"

    def to_json(self) -> dict[str, Any]:
        found = {"verdict": self.verdict, "version": __version__, "findings": [f.to_json() for f in self.findings]}
        return found | self.figures


def audit(train: Auditor, evaluation: Auditor | None = None, *, probe: bool = True) -> Audit:
    """The findings and figures of data that was taken. Raises nothing: faults are findings."""
    found = train.findings()
    sources = list(train.sources)
    if evaluation is not None:
        found += [_of_eval(f) for f in evaluation.findings()]
        own = evaluation.sketches.matrix()
        copied = near.copies(own, train.sketches.matrix()) if len(own) else np.zeros(0, dtype=bool)
        nearly = [evaluation.place(evaluation.sketches.rows[i]) for i in np.flatnonzero(copied)]
        found += leaks(train.scan, evaluation.scan, evaluation.shared, nearly)
        sources += [{**source, "name": f"{source['name']} (held out)"} for source in evaluation.sources]
    figures: dict[str, Any] = {"sources": sources, "unit": train.unit}
    columns = train.pairs.columns() if len(train.pairs) else None
    if columns is not None:
        features = columns.feature_rows()
        words = word_probe(train.pairs.texts) if probe else None
        if words is not None:
            words["length_accuracy"] = columns.length_accuracy()  # of whole answers: the probe sees their beginnings
        effects, effect_words = advice.length_effects(columns, train.unit)
        found += advice.length_findings(columns, train.unit) + advice.feature_findings(features, words)
        figures |= {"length": columns.length_rows(), **columns.histograms(), "features": features, "probe": words,
                    "length_effects": effects, "length_words": effect_words}  # fmt: skip
        figures |= {"contrast": train.contrast.figures(), "agreement": train.contrast.agreement()}
    figures["rendering"] = train.rendered.figures() if train.rendered and train.rendered.prompts else None
    count = len(train.scan.prompts)
    figures["figures"] = {"groups": f"{train.scan.groups:,}", "distinct prompts": f"{count:,}"}
    if count and len(train.pairs):
        figures["figures"]["pairs per prompt"] = f"{len(train.pairs) / count:.2f}"
    found = by_severity(found)
    figures["actions"] = advice.actions(found, columns)
    return Audit(found, figures)


def _of_eval(finding: Finding) -> Finding:
    said = finding.said if finding.severity == "refuse" else f"held-out data: {finding.said}"
    return Finding(finding.code, finding.severity, said, finding.count, finding.rows, finding.examples, finding.action)

"""The pass over the data, which keeps what the figures need of each group, about a kilobyte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from burnish.audit import near
from burnish.audit.answers import AnswerScan
from burnish.audit.bias import MOST_PAIRS, AnswerLengths, PairRows, features_of
from burnish.audit.contrast import Contrast
from burnish.audit.rendered import Rendered
from burnish.audit.scan import MARKERS, Scan, digest
from burnish.data.identity import prompt_key, score_gap
from burnish.data.readers import Skipped, Stream
from burnish.data.readers.values import Fault
from burnish.data.render import Renderer
from burnish.data.views import pair_view
from burnish.errors import DataError
from burnish.findings import Finding, FindingCounts, Severity, counted
from burnish.group import EncodedGroup, Group, Labels, Scores, whole_text

BATCH = 128  # groups that are tokenised in one call


@dataclass
class Auditor:
    """Takes the groups of one side (train, or eval) and keeps what the figures need.

    `deep` adds near copies and edit distances, which a training run's quick look leaves out.
    """

    renderer: Renderer | None = None
    max_length: int | None = None
    overlong: str = "drop"
    deep: bool = True
    faults: FindingCounts = field(default_factory=FindingCounts)
    broken: list[str] = field(default_factory=list)  # sources that cannot be read, or not to their end
    skipped: FindingCounts = field(default_factory=FindingCounts)
    sources: list[dict[str, Any]] = field(default_factory=list)
    pairs: PairRows = field(default_factory=PairRows)
    contrast: Contrast = field(default_factory=Contrast)
    sketches: near.Sketches = field(default_factory=near.Sketches)
    answers: AnswerScan = field(default_factory=AnswerScan)
    labelled: AnswerLengths = field(default_factory=AnswerLengths)
    shared: list[str] = field(default_factory=list)  # places of prompts that `against` has too
    against: Scan | None = None
    keep: int = 0  # encoded groups to keep for a model to score
    kept: list[EncodedGroup] = field(default_factory=list)

    def __post_init__(self) -> None:
        guard = self.renderer.guard if self.renderer else None
        markers = (lambda text: guard.strings_in(text) + MARKERS.findall(text)) if guard else MARKERS.findall
        self.scan = Scan(markers, control_acts=self.renderer is not None and guard is None)
        self.rendered = Rendered(self.renderer, self.max_length, self.overlong) if self.renderer else None

    @property
    def unit(self) -> str:
        return "tokens" if self.rendered else "characters"

    def read(self, path: str, *, format: str = "auto", split: str = "train", limit: int | None = None,
             advance: Callable[[int], None] = lambda _: None) -> None:  # fmt: skip
        """Take all groups of a source. A file that cannot be read to its end is a fault, as a row that cannot be."""
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
        """Take groups; `encoded` are the same in token space, where they have been encoded already."""
        if encoded is None:
            encoded = self.rendered.encode(groups) if self.rendered else [None] * len(groups)
        for group, ids in zip(groups, encoded, strict=True):
            row = self.scan.groups
            key, repeated = self.scan.add(group)
            self.answers.add(group, new_prompt=self.scan.prompts[key] == 1)
            if self.against is not None and key in self.against.prompts:
                self.shared.append(group.where)
            elif self.deep and self.scan.prompts[key] == 1:
                self.sketches.add(prompt_key(group), row)
            # a repeated row is the same rater, unless the rows name two
            self._answers(group, key, ids, voted=not repeated or "annotator" in group.meta)
            if ids is not None and len(self.kept) < self.keep and pair_view(ids):
                self.kept.append(ids)

    def _answers(self, group: Group, key: int, ids: EncodedGroup | None, *, voted: bool) -> None:
        texts = [whole_text(c.messages) for c in group.completions]
        lengths = [len(c) for c in ids.completion_ids] if ids is not None else [len(text) for text in texts]
        if isinstance(group.feedback, Labels):
            for value, length in zip(group.feedback.values, lengths, strict=True):
                self.labelled.add(value, length)
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
        """Where a group was read, as `file:line`."""
        packed = self.scan.wheres[row]
        return f"{self.scan.files[packed >> 40]}:{packed & (1 << 40) - 1}"

    def findings(self) -> list[Finding]:
        """The faults and traps of this side."""
        findings = [Finding("broken-file", "refuse", message) for message in self.broken]
        findings += [
            Finding("unreadable", "refuse", f"{counted(self.faults.counts[code], 'row')} cannot be read", count,
                    tuple(self.faults.rows[code]), tuple(self.faults.examples[code]))
            for code, count in self.faults.counts.items()
        ]  # fmt: skip
        for reason, count in self.skipped.counts.items():
            message = f"{counted(count, 'row')} left out: {reason}"
            findings.append(Finding("left-out", "warn", message, count, tuple(self.skipped.rows[reason])))
        findings += [*self.scan.findings(), *self.answers.findings()]
        findings += self.rendered.findings() if self.rendered else []
        return findings + self.labelled.findings(self.unit) + self._copies()

    def _copies(self) -> list[Finding]:
        copied = np.flatnonzero(near.copies(self.sketches.matrix()))
        if not len(copied):
            return []
        rows = tuple(self.place(self.sketches.rows[i]) for i in copied[:8])
        message = f"{counted(len(copied), 'prompt')} nearly a copy of an earlier one"
        severity: Severity = "warn" if len(copied) > 0.05 * len(self.scan.prompts) else "note"
        return [Finding("near-duplicate", severity, message, len(copied), rows)]


def _score_gap(group: Group, winner: int, loser: int) -> float | None:
    if isinstance(group.feedback, Scores):
        return group.feedback.values[winner] - group.feedback.values[loser]
    return score_gap(group)

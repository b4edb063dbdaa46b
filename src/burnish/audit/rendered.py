"""The data in tokens, through the tokenizer and its chat template: boundaries, ends, lengths."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.data.render import Renderer
from burnish.data.truncate import EncodeReport
from burnish.errors import DataError
from burnish.findings import KEPT_ROWS, Finding, FindingCounts, counted
from burnish.group import EncodedGroup, Group

BOUNDARIES = 256  # groups whose boundary is tried; each costs a second tokenisation
USUAL = (512, 1024, 2048, 4096)


@dataclass
class Rendered:
    """Encodes groups as training would, and keeps their lengths: twelve bytes a group and an answer."""

    renderer: Renderer
    max_length: int | None = None
    overlong: str = "drop"
    report: EncodeReport = field(default_factory=EncodeReport)
    counts: FindingCounts = field(default_factory=FindingCounts)
    prompts: array[int] = field(default_factory=lambda: array("l"))
    longest: array[int] = field(default_factory=lambda: array("l"))
    shortest: array[int] = field(default_factory=lambda: array("l"))
    tried: int = 0
    starts: set[int] = field(default_factory=set)

    def encode(self, groups: Sequence[Group]) -> list[EncodedGroup | None]:
        """The groups in token space; None for a group that cannot be rendered, which is counted."""
        try:
            encoded: list[EncodedGroup | None] = list(self.renderer.encode_many(groups, self.report))
        except DataError:
            encoded = [self._encode(group) for group in groups]
        for group, ids in zip(groups, encoded, strict=True):
            if ids is not None:
                self._measure(group, ids)
        return encoded

    def _encode(self, group: Group) -> EncodedGroup | None:
        try:
            return self.renderer.encode_many([group], self.report)[0]
        except DataError as error:
            self.counts.add("not-rendered", group.where, str(error).split(": ", 1)[-1])
            return None

    def _measure(self, group: Group, encoded: EncodedGroup) -> None:
        sizes = [len(ids) for ids in encoded.completion_ids] or [0]
        self.prompts.append(len(encoded.prompt_ids))
        self.longest.append(max(sizes))
        self.shortest.append(min(sizes))
        if encoded.prompt_ids:
            self.starts.add(encoded.prompt_ids[0])
        if self.max_length is not None and len(encoded.prompt_ids) + max(sizes) > self.max_length:
            self.counts.add("over-long", group.where, f"{len(encoded.prompt_ids) + max(sizes):,} tokens")
        if self.tried < BOUNDARIES and encoded.completion_ids:
            self.tried += 1
            try:
                moved = self.renderer.moves_boundary(group)
            except DataError:
                moved = False
            if moved:
                self.counts.add("boundary", group.where)

    def policies(self) -> list[dict[str, int]]:
        """How many groups each policy for overlong groups would drop or cut at usual limits, as `render.fit` does.

        Of a group's answers only the longest and the shortest are counted.
        """
        prompts, longest, shortest = (np.array(x, dtype=np.int64) for x in (self.prompts, self.longest, self.shortest))
        begins = len(self.renderer.prefix)
        rows = []
        for limit in sorted({*USUAL, *([self.max_length] if self.max_length else [])}):
            over = prompts + longest > limit
            room = limit - prompts
            cut = (longest > room).astype(int) + ((shortest > room) & (shortest < longest))
            rows.append({
                "max_length": limit, "drop": int(over.sum()),
                "cut_prompt_left": int((over & (begins + longest < limit)).sum()),
                "cut_completion": int(cut[over & (room > 0)].sum()),
            })  # fmt: skip
        return rows

    def figures(self) -> dict[str, Any]:
        tokenizer = self.renderer.tokenizer
        totals = np.array(self.prompts) + np.array(self.longest) if self.prompts else np.zeros(1)
        return {
            "line": self.renderer.describe(), "boundary_moves": self.counts.counts.get("boundary", 0),
            "checked": self.tried, "overlong": self.policies(), "bos": tokenizer.bos_token or "none",
            "eos": tokenizer.convert_ids_to_tokens(self.renderer.end_id), "p95": float(np.quantile(totals, 0.95)),
        }  # fmt: skip

    def findings(self) -> list[Finding]:
        findings = self.counts.finding("not-rendered", "refuse", "{rows} that the template cannot render")
        limit = f"data.max_length = {self.max_length}"
        message = f"{{rows}} longer than {limit} tokens; data.overlong = '{self.overlong}' says what happens"
        findings += self.counts.finding("over-long", "warn", message, f'data.overlong = "{self.overlong}"')
        share = f"of {counted(self.tried, 'group')} tried"
        message = (
            f"{{rows}} {share} whose boundary would move if prompt and answer were tokenised together: they are not"
        )
        findings += self.counts.finding("boundary", "note", message)
        for kind, rows in self.report.unwritten_places().items():
            message = f"{counted(len(rows), 'row')} with {kind} that the template does not write: they are not trained"
            findings.append(Finding("unwritten", "warn", message, len(rows), tuple(rows[:KEPT_ROWS])))
        if rows := self.report.doubled:
            message = (
                f"{counted(len(rows), 'row')} rendered by a template already: it would be written around them once more"
            )
            action = 'data.control_tokens = "keep"'
            findings.append(
                Finding("rendered-already", "warn", message, len(rows), tuple(rows[:KEPT_ROWS]), (), action)
            )
        if self.report.unopened:
            message = f"{counted(self.report.unopened, 'answer')} without the thinking block that the header opens"
            findings.append(Finding("unopened", "warn", message, self.report.unopened))
        if self.report.cut_at_end:
            message = (
                f"{counted(self.report.cut_at_end, 'answer')} with an end-of-turn inside, where generation would stop"
            )
            findings.append(Finding("cut-at-end", "warn", message, self.report.cut_at_end))
        if not self.max_length and self.prompts:
            totals = np.array(self.prompts) + np.array(self.longest)
            middle, top = float(np.median(totals)), int(totals.max())
            if top > 20 * max(middle, 50):
                message = f"the longest group has {top:,} tokens, the median {middle:,.0f}: a limit would save memory"
                ceiling = int(2 ** np.ceil(np.log2(max(512.0, float(np.quantile(totals, 0.98))))))
                findings.append(Finding("outlier", "warn", message, int((totals > 20 * middle).sum()), (), (),
                                     f"data.max_length = {ceiling}"))  # fmt: skip
        return findings

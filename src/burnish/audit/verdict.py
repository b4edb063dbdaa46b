"""The verdict on data that an `Auditor` has taken: findings, the figures behind them, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from burnish import __version__
from burnish.audit import advice, near
from burnish.audit.answers import SMALL_SET
from burnish.audit.auditor import Auditor
from burnish.audit.probe import word_probe
from burnish.audit.scan import leaks
from burnish.findings import Finding, by_severity


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
        findings = [finding.to_json() for finding in self.findings]
        return {"verdict": self.verdict, "version": __version__, "findings": findings} | self.figures


def audit(train: Auditor, evaluation: Auditor | None = None, *, probe: bool = True) -> Audit:
    """The findings and figures of data that was taken. Raises nothing: faults are findings."""
    findings = train.findings()
    sources = list(train.sources)
    if evaluation is not None:
        held_out = advice.for_small_set(evaluation.findings(), evaluation.answers.prompts)
        findings += [_of_held_out(f) for f in held_out]
        sketches = evaluation.sketches.matrix()
        copied = near.copies(sketches, train.sketches.matrix()) if len(sketches) else np.zeros(0, dtype=bool)
        nearly = [evaluation.place(evaluation.sketches.rows[i]) for i in np.flatnonzero(copied)]
        findings += leaks(train.scan, evaluation.scan, evaluation.shared, nearly)
        sources += [{**source, "name": f"{source['name']} (held out)"} for source in evaluation.sources]
    figures: dict[str, Any] = {"sources": sources, "unit": train.unit}
    columns = train.pairs.columns() if len(train.pairs) else None
    if columns is not None:
        features = columns.feature_rows()
        words = word_probe(train.pairs.texts) if probe else None
        if words is not None:
            words["length_accuracy"] = columns.length_accuracy()  # of whole answers: the probe sees their beginnings
        effects, effect_words = advice.length_effects(columns, train.unit)
        findings += advice.length_findings(columns, train.unit) + advice.feature_findings(features, words)
        figures |= {"length": columns.length_rows(), **columns.histograms(), "features": features, "probe": words,
                    "length_effects": effects, "length_words": effect_words}  # fmt: skip
        figures |= {"contrast": train.contrast.figures(), "agreement": train.contrast.agreement()}
    figures["rendering"] = train.rendered.figures() if train.rendered and train.rendered.prompts else None
    count = len(train.scan.prompts)
    figures["figures"] = {"groups": f"{train.scan.groups:,}", "distinct prompts": f"{count:,}"}
    if count and len(train.pairs):
        figures["figures"]["pairs per prompt"] = f"{len(train.pairs) / count:.2f}"
    if prompts := train.answers.prompts:
        findings = advice.for_small_set(findings, prompts)
        findings += [advice.small_set(prompts)] * (prompts < SMALL_SET)
    findings = by_severity(findings)
    figures["actions"] = advice.actions(findings, columns)
    return Audit(findings, figures)


def _of_held_out(finding: Finding) -> Finding:
    message = finding.message if finding.severity == "refuse" else f"held-out data: {finding.message}"
    return replace(finding, message=message)

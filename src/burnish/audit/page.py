"""The audit as an HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.findings import ORDER, counted, places
from burnish.pages.histogram import histogram
from burnish.pages.intervals import ShareRow, shares
from burnish.pages.svg import Picture
from burnish.pages.template import render

VERDICTS = {
    "refused": "A training run would refuse this data.",
    "warnings": "This data can be trained on; read the warnings first.",
    "clean": "Nothing was found that would harm a run.",
}
WORDS = {"refuse": ("Refused", "refusal"), "warn": ("Warning", "warning"), "note": ("Note", "note")}
EFFECTS = {
    "P1": "a sum of log-probs prefers the shorter answer of a pair, at once or as the policy drifts",
    "P2": "long pairs weigh more in the gradient",
    "P3": "the labels prefer a length, and no objective can tell that from quality",
}


def page(audit: Mapping[str, Any]) -> str:
    """The page of an audit's JSON (`Audit.to_json` with a title and a date); any part may be missing."""
    findings = sorted(audit.get("findings") or [], key=lambda finding: ORDER.index(finding["severity"]))
    verdict = str(audit.get("verdict") or _worst(findings))
    return render(
        "audit/page.html.jinja", heading=f"Audit of {audit.get('title') or 'data'}", version=audit.get("version"),
        made=audit.get("made"), a=audit, verdict=verdict, meaning=VERDICTS.get(verdict, ""), counts=_counts(findings),
        effects=EFFECTS, toml=_toml(audit.get("actions") or []), pictures=_pictures(audit),
        findings=[{**f, "word": WORDS[f["severity"]][0], "where": _where(f)} for f in findings],
    )  # fmt: skip


def _worst(findings: Sequence[Mapping[str, Any]]) -> str:
    severity = findings[0]["severity"] if findings else "note"
    return {"refuse": "refused", "warn": "warnings", "note": "clean"}[severity]


def _counts(findings: Sequence[Mapping[str, Any]]) -> str:
    """`2 refusals, 1 warning`."""
    counts = {noun: sum(f["severity"] == severity for f in findings) for severity, (_, noun) in WORDS.items()}
    return ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items() if count)


def _where(finding: Mapping[str, Any]) -> str:
    """The first places of a finding, and how many more there are; nothing where it is about no row."""
    rows = finding.get("rows") or []
    more = (finding.get("count") or 0) - len(rows)
    return (places(rows, len(rows)) + (f" and {more:,} more" if more > 0 else "")) if rows else ""


def _toml(actions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(comment, setting) of each action; a reason of several lines stays a comment."""
    lines = [(str(action.get("why") or "").splitlines(), str(action.get("setting") or "")) for action in actions]
    return [("\n".join(f"# {line}" for line in why), setting) for why, setting in lines]


def _pictures(audit: Mapping[str, Any]) -> dict[str, Picture | None]:
    """The pictures of what the audit holds, by name."""
    unit = audit.get("unit") or "characters"
    contrast = audit.get("contrast") or {}
    longer = [
        ShareRow(row["source"], row.get("p_longer"), row.get("low"), row.get("high"), counted(row["pairs"], "pair"))
        for row in audit.get("length") or []
    ]
    features = [
        ShareRow(row["name"], row["p"], row["low"], row["high"], row["message"]) for row in audit.get("features") or []
    ]
    return {
        "gap": _histogram(audit.get("gap_histogram"), "Length of the chosen answer minus that of the rejected one",
                          f"{unit}, chosen minus rejected", ("rejected is longer", "chosen is longer")),
        "lengths": _histogram(audit.get("lengths_histogram"), "Lengths of chosen and rejected answers", unit),
        "sources": shares(longer, "Is the longer answer the preferred one?",
                          "share of pairs, 95% interval", ("shorter wins", "longer wins")),
        "features": shares(features, "Is the answer with more of it the preferred one?",
                           "share of the pairs that differ, 95% interval", ("less wins", "more wins")),
        "edits": _histogram(contrast.get("edit_histogram"), "How far the two answers of a pair are apart",
                            "edit distance, as a share of the length"),
        "scores": _histogram(contrast.get("score_gap"), "How far the two scores of a pair are apart",
                             "score of the better answer minus the other\u2019s"),
    }  # fmt: skip


def _histogram(
    bins: Mapping[str, Any] | None, title: str, x_name: str, sides: tuple[str, str] | None = None
) -> Picture | None:
    """The picture of `{"edges", "counts"}`, or of two series `{"edges", "chosen", "rejected"}` of answers."""
    known = {name: values for name, values in (bins or {}).items() if values}
    edges = known.pop("edges", [])
    series: dict[str, Any] = {name: known[name] for name in ("counts", "chosen", "rejected") if name in known}
    counted = "pairs" if "counts" in series else "answers"
    return histogram(edges, series, title, x_name, counted=counted, sides=sides)

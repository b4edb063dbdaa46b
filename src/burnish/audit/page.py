"""The audit as one HTML file: no network, no script; readable on a telephone and in the dark."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from burnish.audit import charts
from burnish.audit.findings import ORDER, places

WORDS = {"refuse": "Refused", "warn": "Warning", "note": "Note"}
VERDICTS = {
    "refused": "A training run would refuse this data.",
    "warnings": "This data can be trained on; read the warnings first.",
    "clean": "Nothing was found that would harm a run.",
}


def page(audit: Mapping[str, Any]) -> str:
    """The page of an audit's JSON (`Audit.to_json` and a title). Every text in it is escaped; parts may be missing."""
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = charts.number
    environment.filters["share"] = lambda value: "\u2013" if value is None else f"{value:.0%}"
    template = environment.from_string((files("burnish.audit") / "page.html.jinja").read_text(encoding="utf-8"))
    findings = sorted(audit.get("findings") or [], key=lambda f: ORDER.index(f["severity"]))
    shown = [{**f, "word": WORDS[f["severity"]], "where": _where(f)} for f in findings]
    pictures = {name: Markup(svg) for name, svg in _pictures(audit).items() if svg}
    verdict = str(audit.get("verdict") or "clean")
    return template.render(a=audit, findings=shown, pictures=pictures, said=VERDICTS.get(verdict, ""), verdict=verdict)


def _where(finding: Mapping[str, Any]) -> str:
    rows = finding.get("rows") or []
    return places(rows, finding.get("count") or len(rows))


def _pictures(audit: Mapping[str, Any]) -> dict[str, str]:
    """The pictures of what the audit holds, by name; empty where there is nothing to draw."""
    unit = str(audit.get("unit") or "characters")
    found: dict[str, str] = {}
    if gap := audit.get("gap_histogram"):
        found["gap"] = charts.histogram(
            gap["edges"], [("pairs", "bar", gap["counts"])], "Length of the chosen answer minus that of the rejected",
            f"chosen minus rejected, {unit}", zero=("rejected is longer", "chosen is longer"),
        )  # fmt: skip
    if both := audit.get("lengths_histogram"):
        series = [("chosen", "chosen", both["chosen"]), ("rejected", "rejected", both["rejected"])]
        found["lengths"] = charts.histogram(both["edges"], series, "Lengths of chosen and rejected answers", unit)
    rows = [
        (row["source"], row["p_longer"], row["low"], row["high"], f"{row['pairs']:,} pairs")
        for row in audit.get("length") or []
    ]
    found["sources"] = charts.intervals(
        rows, "Is the longer answer the preferred one?", "share of pairs, 95 % interval"
    )
    rows = [(r["name"], r["p"], r["low"], r["high"], r["said"]) for r in audit.get("features") or []]
    found["features"] = charts.intervals(
        rows, "Does the preferred answer have more of it?", "share of pairs that differ"
    )
    contrast = audit.get("contrast") or {}
    if edits := contrast.get("edit_histogram"):
        found["contrast"] = charts.histogram(
            edits["edges"], [("pairs", "bar", edits["counts"])], "Edit distance between the two answers",
            "edit distance, as a share of the length",
        )  # fmt: skip
    if scores := contrast.get("score_gap"):
        found["scores"] = charts.histogram(
            scores["edges"], [("pairs", "bar", scores["counts"])], "Gap of the scores",
            "score of the better answer minus the other's",
        )  # fmt: skip
    return found

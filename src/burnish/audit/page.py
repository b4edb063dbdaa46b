"""The audit as one HTML file: no network, no script; readable on a telephone, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from burnish.findings import ORDER, places, printable
from burnish.pages import svg as charts

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
    """The page of an audit's JSON (`Audit.to_json` with a title and a date).

    Every text of it is escaped, and what would reorder or hide text is shown as its escape; any part may be missing.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    environment.filters.update(number=charts.number, share=charts.share)
    template = environment.from_string((files("burnish.audit") / "page.html.jinja").read_text(encoding="utf-8"))
    findings = sorted(audit.get("findings") or [], key=lambda finding: ORDER.index(finding["severity"]))
    verdict = str(audit.get("verdict") or _worst(findings))
    return template.render(
        a=audit, verdict=verdict, said=VERDICTS.get(verdict, ""), tally=_tally(findings), effects=EFFECTS,
        findings=[{**f, "word": WORDS[f["severity"]][0], "where": _where(f)} for f in findings],
        toml=_toml(audit.get("actions") or []), pictures={name: Markup(svg) for name, svg in _pictures(audit).items()},
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """What stands for a value in the page: a text that sets no cursor and turns no line around; nothing for None."""
    if type(value) is str:  # markup, a subclass, is ours
        return printable(value)
    return "" if value is None else value


def _worst(findings: Sequence[Mapping[str, Any]]) -> str:
    severity = findings[0]["severity"] if findings else "note"
    return {"refuse": "refused", "warn": "warnings", "note": "clean"}[severity]


def _tally(findings: Sequence[Mapping[str, Any]]) -> str:
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


def _pictures(audit: Mapping[str, Any]) -> dict[str, str]:
    """The pictures of what the audit holds, by name; empty where there is nothing to draw."""
    unit = printable(str(audit.get("unit") or "characters"))
    contrast = audit.get("contrast") or {}
    longer = [
        (row["source"], row.get("p_longer"), row.get("low"), row.get("high"), f"{row['pairs']:,} pairs")
        for row in audit.get("length") or []
    ]
    features = [(row["name"], row["p"], row["low"], row["high"], row["said"]) for row in audit.get("features") or []]
    return {
        "gap": _histogram(audit.get("gap_histogram"), "Length of the chosen answer minus that of the rejected one",
                          f"{unit}, chosen minus rejected", ("rejected is longer", "chosen is longer")),
        "lengths": _histogram(audit.get("lengths_histogram"), "Lengths of chosen and rejected answers", unit),
        "sources": _intervals(longer, "Is the longer answer the preferred one?",
                              "share of pairs, 95% interval", ("shorter wins", "longer wins")),
        "features": _intervals(features, "Is the answer with more of it the preferred one?",
                               "share of the pairs that differ, 95% interval", ("less wins", "more wins")),
        "edits": _histogram(contrast.get("edit_histogram"), "How far the two answers of a pair are apart",
                            "edit distance, as a share of the length"),
        "scores": _histogram(contrast.get("score_gap"), "How far the two scores of a pair are apart",
                             "score of the better answer minus the other\u2019s"),
    }  # fmt: skip


def _histogram(found: Mapping[str, Any] | None, title: str, axis: str, sides: tuple[str, str] | None = None) -> str:
    """The picture of `{"edges", "counts"}`, or of two series `{"edges", "chosen", "rejected"}` of answers."""
    known = {name: values for name, values in (found or {}).items() if values}
    edges = known.pop("edges", [])
    series: dict[str, Any] = {name: known[name] for name in ("counts", "chosen", "rejected") if name in known}
    counted = "pairs" if "counts" in series else "answers"
    return charts.histogram(edges, series, title, axis, counted=counted, sides=sides)


def _intervals(rows: Sequence[tuple[Any, ...]], title: str, axis: str, sides: tuple[str, str]) -> str:
    shown = [(printable(str(name)), value, low, high, printable(str(said))) for name, value, low, high, said in rows]
    return charts.intervals(shown, title, axis, sides)

"""The report of a run on a terminal or a pipe: a screen of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from burnish.findings import counted, printable


def print_report(found: Mapping[str, Any], console: Console) -> None:
    """The verdict first, then what is behind it."""
    about, said = found["about"], found["verdict"]
    console.print(f"\n{printable(about['name'])}: {printable(said['headline'])}", markup=False, style="bold")
    for title, key in (("better", "better"), ("worse", "worse"), ("moved", "other"), ("would change this", "change")):
        for line in said[key]:
            console.print(f"  {title}: {printable(line)}", markup=False)
    console.print()
    behind = (*found["moved"], *found["length_words"], *beyond_words(found["beyond"]), *cost_words(found["cost"]))
    for line in (_what(about), *behind):
        console.print(printable(line), markup=False)
    for entry in found["evals"]:
        for suite in entry["suites"]:
            console.print(f"evaluation, {suite['name']}: {printable('; '.join(suite['words']))}", markup=False)
    for remark in about["remarks"]:
        console.print(f"note: {printable(remark)}", markup=False)


def _what(about: Mapping[str, Any]) -> str:
    start = f" from {about['model']}" if about["model"] else ""
    by = "" if about["trainer"] == "burnish" else f" (written by {about['trainer']})"
    done = f"{about['steps']} of {about['planned'] or '?'} steps"
    return f"{about['objective'] or 'objective unknown'}{start}, {done}{by}"


def beyond_words(found: Mapping[str, Any] | None) -> list[str]:
    """Where gold peaks, or why that is not known."""
    if found is None or found["curve"] is None:
        return []
    curve = found["curve"]
    if curve["peak"] is None:
        return [f"gold's peak against sqrt(KL): {curve['reason']}"]
    value, low, high = curve["peak"]["d"]
    step = "" if curve["peak"]["step"] is None else f", about step {curve['peak']['step']}"
    return [
        f"gold peaks at sqrt(KL) {value:.3g} ({low:.3g} to {high:.3g}), KL {curve['peak']['kl']:.3g} nats{step}: "
        f"{curve['peak']['gold']:.3g}; the form that fits best is {curve['formula']}"
    ]


def cost_words(found: Mapping[str, Any]) -> list[str]:
    """What the run cost, in sentences."""
    totals = found["totals"]
    parts = ", ".join(f"{name} {seconds:,.3g} s" for name, seconds in found["parts"].items())
    dollars = f", ${totals['dollars']:.4g} to judges" if "dollars" in totals else ""
    line = f"cost: {totals['seconds']:,.4g} s, {counted(int(totals['tokens']), 'token')}, "
    line += f"{counted(int(totals['labels']), 'label')}{dollars}"
    lines = [f"{line} ({parts})" if parts else line]
    if found["imbalance"]:
        lines.append(f"processes waited: the busiest had {found['imbalance']:.0%} more tokens than the mean")
    if found["mismatch"]:
        lines.append(f"sampler and trainer differed by {found['mismatch']:.3g} nats a token at worst")
    if found["starts"] > 1:
        lines.append(f"the run was started {found['starts']} times")
    return lines

"""An audit on a terminal: findings in order of severity, the figures that matter, and what to write down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from burnish.audit.verdict import Audit
from burnish.findings import counted, printable

HEADS = {"refuse": ("REFUSED", "bold red"), "warn": ("warning", "yellow"), "note": ("note", "dim")}


def print_audit(audit: Audit, console: Console) -> None:
    """Print the audit; on a pipe the same words without colour."""
    figures = audit.figures
    for source in figures["sources"]:
        line = f"{source['name']}: {counted(source['groups'], 'group')} {source['read_as']}"
        line += f", {counted(source['prompts'], 'prompt')}, {counted(source['pairs'], 'pair')}"
        console.print(Text(printable(line)), soft_wrap=True)
    if figures.get("rendering"):
        console.print(Text(printable(figures["rendering"]["line"])), soft_wrap=True)
    console.print()
    for finding in audit.findings:
        head, style = HEADS[finding.severity]
        console.print(Text(f"{head:8}", style=style) + Text(finding.line()), soft_wrap=True)
    if not audit.findings:
        console.print("nothing found: no fault, no trap, no bias beyond chance")
    for line in [*_lengths(figures), *_words(figures)]:
        console.print(Text(printable(line)), soft_wrap=True)
    if figures["actions"]:
        console.print("\nwhat to do (keys of the configuration):")
        width = max(len(action["setting"]) for action in figures["actions"])
        for action in figures["actions"]:
            console.print(Text(f"  {action['setting']:{width}}  # {action['why']}"), soft_wrap=True)


def _lengths(figures: Mapping[str, Any]) -> list[str]:
    rows = figures.get("length") or []
    if not rows:
        return []
    unit = figures["unit"]
    lines = ["", f"length in {unit}: is the longer answer the preferred one? (95 % interval; clustered by prompt)"]
    width = max(len(row["source"][:40]) for row in rows)
    for row in rows[:12]:
        share = "all pairs of equal length"
        if row["p_longer"] is not None:
            share = f"{row['p_longer']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        lines.append(
            f"  {row['source'][:40]:{width}}  {share}  chosen {row['mean_chosen']:,.0f}, rejected "
            f"{row['mean_rejected']:,.0f}, gap {row['mean_gap']:+,.0f} (80th percentile {row['p80_gap']:,.0f})"
        )
    lines += [f"  {name}: {text}" for name, text in (figures.get("length_words") or {}).items()]
    return lines


def _words(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    probe, contrast, agreement = (figures.get(name) for name in ("probe", "contrast", "agreement"))
    if probe:
        lines.append(
            f"bag of words, held out by prompt: {probe['accuracy']:.1%} ({probe['low']:.1%} to {probe['high']:.1%}) of "
            f"{counted(probe['pairs'], 'pair')}; length alone {probe['length_accuracy']:.1%}"
        )
    if contrast:
        same = "" if contrast["same_model"] is None else f"; one model wrote both in {contrast['same_model']:.0%}"
        lines.append(
            f"contrast: median edit distance {contrast['median_edit']:.2f} of the length; "
            f"{counted(contrast['near_identical'], 'pair')} nearly identical{same}"
        )
    if logps := figures.get("onpolicy"):
        chosen, rejected = (f"{logps[side]:.3f} ± {logps[f'{side}_error']:.3f}" for side in ("chosen", "rejected"))
        pairs = counted(logps["pairs"], "pair")
        lines.append(
            f"the model's own log-prob per token: chosen {chosen}, rejected {rejected} nats ({pairs}); it prefers the "
            f"chosen side already in {logps['preferred_already']:.0%}"
        )
    if agreement:
        lines.append(f"raters: {agreement['message']}")
    counts = figures["figures"]
    lines.append("; ".join(f"{name} {value}" for name, value in counts.items()))
    return ["", *lines]

"""The figures of an evaluation on a terminal or a pipe: a paragraph for each suite and model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from burnish.findings import counted, printable


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Every suite with what its intervals allow to be said of each model."""
    for suite in results["suites"]:
        console.print(f"\n{printable(suite['name'])} ({_about(suite)})", markup=False, style="bold")
        for name, figures in suite["models"].items():
            first, *more = figures["words"]
            console.print(f"  {printable(name)}: {printable(first)}", markup=False)
            for line in more:
                console.print(f"    {printable(line)}", markup=False)
        for line in remarks(suite):
            console.print(f"  {printable(line)}", markup=False)
    if results["tests"] > 1:
        tests = counted(results["tests"], "paired test")
        console.print(f"\nintervals are 95 %; p-values are adjusted for {tests} by Holm's method", markup=False)


def _about(suite: Mapping[str, Any]) -> str:
    kind = str(suite["kind"]).replace("_", " ")
    ties = ", ties one half" if kind == "win rate" else ""
    parts = [
        f"{kind} against {suite['baseline']}{ties}" if kind != suite["name"] else f"against {suite['baseline']}{ties}"
    ]
    if "prompts" in suite:
        parts.append(f"{counted(suite['prompts'], 'prompt')}, {suite['decoded']}")
    return "; ".join(parts)


def remarks(suite: Mapping[str, Any]) -> list[str]:
    """What a reader has to know of how a suite went: what was not judged, and what was left out."""
    lines = []
    for reason, count in sorted(suite.get("unjudged_because", {}).items(), key=lambda pair: -pair[1])[:3]:
        lines.append(f"unjudged, {counted(count, 'time')}: {reason[:200]}")
    if "texts_left_out" in suite:
        lines.append(f"KL and surprise were not measured: {suite['texts_left_out']}")
    if "foreign_tokenizers" in suite:
        names = ", ".join(suite["foreign_tokenizers"])
        lines.append(f"KL and surprise were not measured of {names}: their tokens are others than the baseline's")
    return lines

"""A ballot's figures as a page that fetches nothing, and on a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from burnish.findings import counted, printable
from burnish.pages.intervals import ShareRow, shares
from burnish.pages.numbers import share
from burnish.pages.svg import Picture
from burnish.pages.template import render
from burnish.vote.words import interval, words


def page(figures: Mapping[str, Any], name: str) -> str:
    """The organiser's page."""
    from burnish import __version__

    return render(
        "vote/report.html.jinja", heading=f"Ballot {name}", version=__version__, f=figures, words=words(figures),
        state=state(figures), pictures=[(row, _picture(row)) for row in figures["comparisons"] if row["votes"]],
        interval=interval,
    )  # fmt: skip


def print_figures(figures: Mapping[str, Any], console: Console) -> None:
    """The same on a screen."""
    console.print(printable(state(figures)), markup=False)
    for line in words(figures):
        console.print(f"  {printable(line)}", markup=False)
    for row in figures["raters"]:
        steady = (
            f", the same again on {share(row['steady']['same'][0])} of {row['steady']['pairs']}"
            if row["steady"]
            else ""
        )
        left = f", left {share(row['left'][0])}" if row["left"] else ""
        console.print(
            f"  {printable(row['rater'])}: {counted(row['votes'], 'vote')}, {row['seconds']:.0f} s each{left}{steady}",
            markup=False,
        )  # fmt: skip


def state(figures: Mapping[str, Any]) -> str:
    """How far the ballot is."""
    ended = "closed" if figures["closed"] is not None else "open"
    round = figures["round"]
    whose = f"the answers of {round['run']} after step {round['step']:,}, " if round else ""
    return (
        f"{whose}{ended}: {counted(figures['votes'], 'vote')} by {counted(len(figures['raters']), 'rater')} on "
        f"{counted(figures['prompts'], 'prompt')}, {figures['overlap']} wanted on each"
    )


def _picture(row: Mapping[str, Any]) -> Picture | None:
    """Win rates: whenever one looks, at one look, and by part."""
    estimates = []
    if "anytime" in row and row["anytime"]["prompts"]:
        estimates.append(("whenever you look", row["anytime"]["value"]))
    estimates += [("at one look", row["wins"]["raw"]), ("at equal length", row["wins"]["length_controlled"])]
    if "judge" in row and row["judge"]["voted"] >= 2:
        estimates.append(("people and judge", row["judge"]["both"]))
    for part in ("kinds", "raters"):
        estimates += [(name or "other", figures["value"]) for name, figures in row[part].items() if figures["value"]]
    rows = [ShareRow(name, v[0], v[1], v[2], interval(v)) for name, v in estimates]
    return shares(rows, f"How often {row['model']} is preferred", "share of votes, ties as halves",
                  (f"{row['against']} better", f"{row['model']} better"))  # fmt: skip

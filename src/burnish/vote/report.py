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


def page(found: Mapping[str, Any], name: str) -> str:
    """The organiser's page."""
    from burnish import __version__

    return render(
        "vote/report.html.jinja", heading=f"Ballot {name}", version=__version__, f=found, words=words(found),
        state=state(found), pictures=[(row, _picture(row)) for row in found["comparisons"] if row["votes"]],
        interval=interval,
    )  # fmt: skip


def print_figures(found: Mapping[str, Any], console: Console) -> None:
    """The same on a screen."""
    console.print(printable(state(found)), markup=False)
    for line in words(found):
        console.print(f"  {printable(line)}", markup=False)
    for row in found["raters"]:
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


def state(found: Mapping[str, Any]) -> str:
    """How far the ballot is."""
    ended = "closed" if found["closed"] is not None else "open"
    own = found["round"]
    whose = f"the answers of {own['run']} after step {own['step']:,}, " if own else ""
    return (
        f"{whose}{ended}: {counted(found['votes'], 'vote')} by {counted(len(found['raters']), 'rater')} on "
        f"{counted(found['prompts'], 'prompt')}, {found['overlap']} wanted on each"
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

"""A ballot's figures in sentences, for the organiser's screen and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.findings import counted
from burnish.pages.numbers import share
from burnish.stats.anytime import MOST


def words(figures: Mapping[str, Any]) -> list[str]:
    """What the votes allow to be said, the decision first."""
    lines = [line for row in figures["comparisons"] for line in comparison(row)]
    if figures["ranking"]:
        lines.append(ranking(figures))
    if figures["asked_wins"]:
        row = figures["comparisons"][0]
        lines.append(f"on {counted(figures['asked'], 'prompt')} that raters asked themselves {row['model']} wins "
                     f"{interval(figures['asked_wins']['raw'])}; these do not count above")  # fmt: skip
    return [*lines, *about_raters(figures)]


def comparison(row: Mapping[str, Any]) -> list[str]:
    """Two models: the decision, at equal length, and with the judge."""
    name, other = row["model"], row["against"]
    if not row["votes"]:
        return [f"{name} against {other}: no vote yet"]
    lines = []
    if "anytime" in row:
        lines.append(_anytime(row, name, other))
    wins = row["wins"]
    lines.append(
        f"all {counted(row['votes'], 'vote')}, looked at once: {name} wins {interval(wins['raw'])}; at equal length "
        f"{interval(wins['length_controlled'])}"
    )
    if wins["prefers_longer"]:
        _, low, high = wins["prefers_longer"]
        habit = "prefer" if low > 0.5 else "avoid" if high < 0.5 else "are not seen to prefer"
        taken = interval(wins["prefers_longer"])
        lines.append(f"raters {habit} the longer answer: they took it in {taken} of the votes that took a side")
    if "judge" in row:
        lines += _judge(row["judge"], name)
    return lines


def _anytime(row: Mapping[str, Any], name: str, other: str) -> str:
    anytime = row["anytime"]
    if not anytime["prompts"]:
        return f"{name} against {other}: no prompt has all its votes yet"
    _, low, high = anytime["value"]
    sentence = f"{name} wins {interval(anytime['value'])} of {counted(anytime['prompts'], 'prompt')} against {other}"
    if anytime["enough"]:
        verdict = (
            f"{name} is better"
            if low > 0.5
            else f"{other} is better"
            if high < 0.5
            else "they are alike within the width"
        )
        return f"enough: {verdict}. {sentence}"
    more = anytime["more"]
    reach = "" if more is None else f"({_more(more[1])} to {_more(more[2])})"
    ahead = "" if more is None else f"; about {_more(more[0])} prompts more decide it {reach}"
    return f"not decided: {sentence}{ahead}. You may look again after any vote"


def _more(count: int) -> str:
    return f"{MOST:,} or more" if count >= MOST else f"{count:,}"


def _judge(judge: Mapping[str, Any], name: str) -> list[str]:
    lines = []
    if judge["decided"]:
        lines.append(f"the judge and people agree on {interval(judge['same'])} of the pairs on which both took a side")
    if judge["voted"] >= 2 and judge["both"][0] == judge["both"][0]:
        lines.append(
            f"people and judge together: {name} wins {interval(judge['both'])} over all {judge['verdicts']:,} judged "
            f"prompts; {judge['voted']:,} votes tell as much as {judge['worth']:.0f} without the judge (looked at once)"
        )
    return lines


def ranking(figures: Mapping[str, Any]) -> str:
    """Several models, best first."""
    rows = [
        f"{row['model']} {row['ability'][0]:+.2f} ({row['ability'][1]:+.2f} to {row['ability'][2]:+.2f})"
        for row in figures["ranking"]
    ]
    return f"Bradley-Terry, log-odds over {figures['models'][0]}: " + ", ".join(rows)


def about_raters(figures: Mapping[str, Any]) -> list[str]:
    """How far the raters can be relied on, and what may be wrong with the ballot."""
    lines = []
    if figures["agreement"]:
        value, low, high = figures["agreement"]["alpha"]
        lines.append(f"raters agree with one another: Krippendorff's alpha {value:.2f} ({low:.2f} to {high:.2f}) on "
                     f"{counted(figures['agreement']['pairs'], 'pair')}; 0 is chance, 1 is always")  # fmt: skip
    if figures["steady"]:
        lines.append(f"raters agree with themselves on {interval(figures['steady']['same'])} of "
                     f"{counted(figures['steady']['pairs'], 'pair')} shown again with sides swapped")  # fmt: skip
    if figures["sides"] and (figures["sides"][1] > 0.5 or figures["sides"][2] < 0.5):
        lines.append(f"the left was taken in {interval(figures['sides'])} of the votes that took a side: a bias, which "
                     "balanced sides cancel")  # fmt: skip
    if figures["alike"]:
        lines.append(f"{counted(figures['alike'], 'pair')} of {figures['pairs']:,} are alike: ties without asking")
    if figures["named"]:
        lines.append(
            f"in {counted(figures['named'], 'vote')} an answer said who made it; --without-named leaves them out"
        )
    if figures["flagged"]:
        lines.append(f"{counted(figures['flagged'], 'vote')} flagged; the export has them with their notes")
    return lines


def interval(estimate: Any) -> str:
    """56% (51% to 61%)."""
    value, low, high = estimate
    return f"{share(value)} ({share(low)} to {share(high)})"

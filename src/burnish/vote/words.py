"""A ballot's figures in sentences, for the organiser's screen and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.findings import counted
from burnish.pages.numbers import share
from burnish.stats.anytime import MOST

FEW = 20  # votes below which sides and lengths are told with care


def words(found: Mapping[str, Any]) -> list[str]:
    """What the votes allow to be said, the decision first."""
    lines = [line for row in found["comparisons"] for line in comparison(row)]
    if found["ranking"]:
        lines.append(ranking(found))
    if found["asked_wins"]:
        row = found["comparisons"][0]
        lines.append(f"on {counted(found['asked'], 'prompt')} that raters asked themselves {row['model']} wins "
                     f"{interval(found['asked_wins']['raw'])}; these do not count above")  # fmt: skip
    return [*lines, *about_raters(found)]


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
        told = "prefer" if low > 0.5 else "avoid" if high < 0.5 else "are not seen to prefer"
        taken = interval(wins["prefers_longer"])
        lines.append(f"raters {told} the longer answer: they took it in {taken} of the votes that took a side")
    if "judge" in row:
        lines += _judge(row["judge"], name)
    return lines


def _anytime(row: Mapping[str, Any], name: str, other: str) -> str:
    seen = row["anytime"]
    if not seen["prompts"]:
        return f"{name} against {other}: no prompt has all its votes yet"
    _, low, high = seen["value"]
    told = f"{name} wins {interval(seen['value'])} of {counted(seen['prompts'], 'prompt')} against {other}"
    if seen["enough"]:
        verdict = (
            f"{name} is better"
            if low > 0.5
            else f"{other} is better"
            if high < 0.5
            else "they are alike within the width"
        )
        return f"enough: {verdict}. {told}"
    more = seen["more"]
    reach = "" if more is None else f"({_more(more[1])} to {_more(more[2])})"
    ahead = "" if more is None else f"; about {_more(more[0])} prompts more decide it {reach}"
    return f"not decided: {told}{ahead}. You may look again after any vote"


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


def ranking(found: Mapping[str, Any]) -> str:
    """Several models, best first."""
    rows = [
        f"{row['model']} {row['ability'][0]:+.2f} ({row['ability'][1]:+.2f} to {row['ability'][2]:+.2f})"
        for row in found["ranking"]
    ]
    return f"Bradley-Terry, log-odds over {found['models'][0]}: " + ", ".join(rows)


def about_raters(found: Mapping[str, Any]) -> list[str]:
    """How far the raters can be relied on, and what may be wrong with the ballot."""
    lines = []
    if found["agreement"]:
        value, low, high = found["agreement"]["alpha"]
        lines.append(f"raters agree with one another: Krippendorff's alpha {value:.2f} ({low:.2f} to {high:.2f}) on "
                     f"{counted(found['agreement']['pairs'], 'pair')}; 0 is chance, 1 is always")  # fmt: skip
    if found["steady"]:
        lines.append(f"raters agree with themselves on {interval(found['steady']['same'])} of "
                     f"{counted(found['steady']['pairs'], 'pair')} shown again with sides swapped")  # fmt: skip
    if found["sides"] and (found["sides"][1] > 0.5 or found["sides"][2] < 0.5):
        lines.append(f"the left was taken in {interval(found['sides'])} of the votes that took a side: a bias, which "
                     "balanced sides cancel")  # fmt: skip
    if found["alike"]:
        lines.append(f"{counted(found['alike'], 'pair')} of {found['pairs']:,} are alike: ties without asking")
    if found["named"]:
        lines.append(
            f"in {counted(found['named'], 'vote')} an answer said who made it; --without-named leaves them out"
        )
    if found["flagged"]:
        lines.append(f"{counted(found['flagged'], 'vote')} flagged; the export has them with their notes")
    return lines


def interval(estimate: Any) -> str:
    """56% (51% to 61%)."""
    value, low, high = estimate
    return f"{share(value)} ({share(low)} to {share(high)})"

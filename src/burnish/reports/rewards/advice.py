"""Advice from the figures, in plain sentences: what to distrust, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from burnish.findings import counted
from burnish.pages.numbers import number
from burnish.reports.rewards.records import Scorer

FEW = 100  # prompts; below this intervals are wide
MISCALIBRATED = 0.05  # ECE beyond chance
STRONG_LENGTH = 0.3  # correlation of reward and length within a prompt
FLIPS = 0.05  # of the pairs ranked right
FLAT = 0.1  # of the groups
SHIFT = 0.2  # standard deviations within a prompt
IMPLICIT = (
    "the accuracy of an implicit reward does not predict win rate (within one size of model the two were unrelated, "
    "2406.02900): choose checkpoints by the win rate of their answers"
)

Line = dict[str, str]


def advice(figures: Mapping[str, Any], scorers: Sequence[Scorer]) -> list[Line]:
    """`{"scorer", "severity": "warn" | "note", "code", "message"}`: what holds for all (scorer ""), then each scorer.

    A sentence about a scorer goes on from its name: "rm-1" "is too sure of itself ...".
    """
    lines = [
        {"scorer": "", "severity": severity, "code": code, "message": message}
        for severity, code, message in _of_all(figures)
    ]
    if any(scorer.kind == "implicit" for scorer in scorers):
        lines.append({"scorer": "", "severity": "warn", "code": "implicit", "message": IMPLICIT})
    for scorer in scorers:
        for severity, code, message in _of_scorer(figures, scorer):
            lines.append({"scorer": scorer.name, "severity": severity, "code": code, "message": message})
    return lines


def _of_all(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if figures["prompts"] < FEW:
        message = (
            f"the data has only {counted(figures['prompts'], 'prompt')}: intervals are wide, and differences inside "
            "them say nothing"
        )
        yield "warn", "few-prompts", message
    if not figures["pairs"]:
        message = "no pair of the data is judged, so there is no accuracy and no calibration"
        yield "warn", "unjudged", message


def _of_scorer(figures: Mapping[str, Any], scorer: Scorer) -> Iterator[tuple[str, str, str]]:
    if figures["accuracy"] is not None:
        yield from _accuracy(figures["accuracy"], scorer.name)
        if figures["accuracy"]["all"]["by"][scorer.name]["low"] > 0.5:  # below chance no temperature helps
            yield from _calibration(figures["calibration"][scorer.name], scorer)
    yield from _length(figures["length_correlation"], scorer.name)
    flat = figures["spread"][scorer.name]["flat"]
    if flat is not None and flat > FLAT:
        yield "warn", "flat", f"gives all answers the same reward in {flat:.0%} of the groups: they can teach nothing"
    if figures["best_of_n"] is not None:
        yield from _best_of_n(figures["best_of_n"], scorer.name)
    for probe, rows in figures["probes"].items():
        if scorer.name in rows:
            yield from _probe(probe, rows[scorer.name])
    yield from _beyond(figures["beyond_training"], scorer.name)


def _accuracy(accuracy: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, str]]:
    share, alone = accuracy["all"]["by"][name], accuracy["against_length"]
    ahead = alone["by"][name]
    message = (
        f"is right in {share['value']:.0%} of the pairs, and taking the {alone['prefers']} answer in "
        f"{alone['value']:.0%}"
    )
    if ahead["low"] is not None and ahead["low"] <= 0:
        worse = "it does worse than" if ahead["high"] < 0 else "it is not shown to know more than"
        yield "warn", "no-better-than-length", f"{message}: {worse} length"
    words = accuracy["bag_of_words"]
    if words is not None and words["by"][name] <= words["value"]:
        yield (
            "warn", "no-better-than-words",
            f"is right in {words['by'][name]:.0%} of the pairs on which a bag of words, trained on other prompts' "
            f"pairs, reaches {words['value']:.0%}",
        )  # fmt: skip
    for kind in ("subsets", "sources"):
        below = [row for row in accuracy[kind] if row["by"][name]["high"] < 0.5]
        if below:
            listed = ", ".join(f"{row['name']} ({row['by'][name]['value']:.0%})" for row in below[:5])
            yield "warn", "below-chance", f"is right less often than chance on {listed}: it learned the opposite there"
            break  # the same rows may be named both ways


def _calibration(calibration: Mapping[str, Any], scorer: Scorer) -> Iterator[tuple[str, str, str]]:
    heat, after = calibration["temperature"], calibration["after"]
    if heat["low"] is None or after is None or heat["low"] <= 1 <= heat["high"]:
        return
    if calibration["ece"] - calibration["ece_by_chance"] < MISCALIBRATED:
        return
    sure = "too sure of itself" if heat["value"] > 1 else "less sure than it could be"
    how = f"its rewards divided by {number(heat['value'])}"
    if scorer.beta is not None:
        how += f" (beta {scorer.beta / heat['value']:.2g} for {scorer.beta:g})"
    if scorer.kind == "ensemble":
        how += " (its scale is that of standardised members, so this is no fault)"
    yield (
        "note" if scorer.kind == "ensemble" else "warn", "miscalibrated",
        f"is {sure}: calibration error {calibration['ece']:.3f}; with {how} it is {after['ece']:.3f} (on prompts that "
        "did not choose the number), and the ranking stays",
    )  # fmt: skip


def _length(correlation: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, str]]:
    length, gold = correlation["by"][name], correlation["gold"]
    if length["value"] is None or length["low"] is None or max(length["low"], -length["high"]) < STRONG_LENGTH:
        return
    taste = "longer" if length["value"] > 0 else "shorter"
    raters = "" if gold is None or gold["value"] is None else f"; the data's scores: {gold['value']:+.2f}"
    yield (
        "warn", "length",
        f"rewards {taste} answers: correlation {length['value']:+.2f} with length within a prompt{raters}. A policy "
        "trained on it will drift that way; watch length, or train it on length-matched pairs",
    )  # fmt: skip


def _best_of_n(best: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, str]]:
    row = best["by"][name]
    fall = row.get("fall")
    if fall is not None and fall["high"] is not None and fall["high"] < 0:
        yield (
            "warn", "over-optimised",
            f"is over-optimised by best-of-n: gold scores peak at n = {row['peak']} and are {-fall['value']:.2g} lower "
            f"at n = {best['n'][-1]}, while its reward goes on rising",
        )  # fmt: skip


def _probe(probe: str, row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    flips, shift = row["flips"], row["shift"]
    if flips is not None and flips["low"] > FLIPS:
        yield (
            "warn", "flips",
            f"can be fooled by form: '{probe}', done to the worse answer alone, turns {flips['value']:.0%} of the "
            "pairs that it ranks right",
        )  # fmt: skip
    elif shift is not None and shift["low"] is not None and shift["low"] > SHIFT:
        message = f"pays for form: '{probe}' adds {shift['value']:.2f} standard deviations to an answer's reward"
        yield "note", "shift", message


def _beyond(beyond: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, str]]:
    rows = beyond.get("rows") or []
    if rows and rows[0]["name"].startswith("both") and rows[0]["by"][name]["low"] <= 0.5:
        share = rows[0]["by"][name]
        yield (
            "warn" if rows[0]["prompts"] >= FEW else "note", "beyond-training",
            f"is not shown to tell good answers apart: {share['value']:.0%} ({share['low']:.0%} to "
            f"{share['high']:.0%}) on pairs whose answers are both as good as the chosen ones it was trained on",
        )  # fmt: skip

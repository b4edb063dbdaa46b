"""The figures of every suite of an evaluation, from its outcomes, with the sentences that they allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.reports.evals import moved, passes, wins
from burnish.reports.evals.records import SuiteOutcome
from burnish.stats import holm

TASK = "lm_eval"


@dataclass(frozen=True)
class SuiteAbout:
    """What is said of a suite beside its outcomes: its baseline, how its answers were drawn, what it cost."""

    name: str
    kind: str
    baseline: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tested:
    """A paired test among the family that Holm's adjustment is over."""

    found: dict[str, Any]
    change: dict[str, Any]


def results(
    models: Mapping[str, str], suites: Sequence[SuiteAbout], outcomes: Sequence[SuiteOutcome]
) -> dict[str, Any]:
    """Everything that reports show. `models`: what each name stands for, as given."""
    from burnish import __version__

    tested: list[_Tested] = []
    rows = []
    for about in suites:
        of_suite = [outcome for outcome in outcomes if outcome.suite == about.name]
        found = {
            name: _figures(about, [o for o in of_suite if o.model == name], of_suite, name, tested) for name in models
        }
        kept = {name: figures for name, figures in found.items() if figures is not None}
        rows.append({"name": about.name, "kind": about.kind, "baseline": about.baseline, **about.facts, "models": kept})
    for test, p in zip(tested, holm([test.change["p"] for test in tested]), strict=True):
        test.change["p_holm"] = None if math.isnan(p) else p
    for row in rows:
        for figures in row["models"].values():
            figures["words"] = _words(row["kind"], figures)
    return {"version": __version__, "models": dict(models), "suites": rows, "tests": len(tested)}


def _figures(
    about: SuiteAbout, own: Sequence[SuiteOutcome], of_suite: Sequence[SuiteOutcome], name: str, tested: list[_Tested]
) -> dict[str, Any] | None:
    """The figures of a model in a suite; None where the suite says nothing of it."""
    if not own:
        return None
    base = [outcome for outcome in of_suite if outcome.model == about.baseline]
    if about.kind == "win_rate":
        return wins.figures(own)
    if about.kind == "panel":
        if name == about.baseline:
            return None
        again = [outcome for outcome in of_suite if outcome.model == about.baseline + moved.AGAIN]
        return {"metrics": moved.figures(own, base, again)}
    if about.kind == TASK:
        return {"tasks": _tasks(own, base, name != about.baseline, tested)}
    mark = float(about.facts.get("pass_mark", 1.0))
    found = passes.figures(own, mark)
    if name != about.baseline and (change := passes.difference(own, base, passes.SCORE, mark)):
        found["change"] = change
        tested.append(_Tested(found, change))
    return found


def _tasks(
    own: Sequence[SuiteOutcome], base: Sequence[SuiteOutcome], compare: bool, tested: list[_Tested]
) -> dict[str, dict[str, Any]]:
    """By task and metric: the mean over documents, and the paired difference from the baseline."""
    found: dict[str, dict[str, Any]] = {}
    for metric in dict.fromkeys(outcome.metric for outcome in own):
        row = passes.mean(own, metric)
        if compare and (change := passes.difference(own, base, metric)):
            row["change"] = change
            tested.append(_Tested(row, change))
        found[metric] = row
    return found


def _words(kind: str, figures: Mapping[str, Any]) -> list[str]:
    if kind == "win_rate":
        return list(figures.get("words", ["no pair got a verdict"]))
    if kind == "panel":
        return moved.words(figures["metrics"])
    if kind == TASK:
        return [line for metric, row in figures["tasks"].items() for line in passes.task_words(metric, row)]
    change = figures.get("change")
    return passes.words(figures, change, change and change["p_holm"])

"""How good a run is in the end, by what is at hand: gold, a win rate or a pass rate of an evaluation, or held-out
accuracy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.identity import digest, question_key
from burnish.group import Scores, from_json
from burnish.reports.compare import levels
from burnish.reports.compare.differences import same_gold, same_held_out
from burnish.reports.compare.tracks import track_of
from burnish.reports.evals.records import read_results
from burnish.reports.history import History
from burnish.stats import clustered_mean, wilson

GOLD, WINS, PASSES, ACCURACY = "gold", "win rate", "pass rate", "held-out accuracy"
ORDER = (GOLD, WINS, PASSES, ACCURACY)
FIGURE = {WINS: ("win_rate", "length_controlled"), PASSES: ("verifier", "pass_rate")}  # kind of suite, its figure


@dataclass(frozen=True)
class Quality:
    """A run's quality by one measure, with its 95 % interval; `kl` in nats an answer, NaN where unknown."""

    measure: str
    value: float
    low: float
    high: float
    kl: float = math.nan


def qualities(histories: Sequence[History], evals: Sequence[Mapping[str, Any]]) -> dict[str, list[Quality | None]]:
    """By measure, what is known of each run; measures that the runs do not share are left out."""
    found: dict[str, list[Quality | None]] = {}
    if same_gold(histories):
        found[GOLD] = [by_gold(history) for history in histories]
    for measure in FIGURE:
        found[measure] = [by_eval(history, evals, measure) for history in histories]
    if same_held_out(histories):
        found[ACCURACY] = [by_accuracy(history) for history in histories]
    return {measure: values for measure, values in found.items() if any(value is not None for value in values)}


def by_gold(history: History) -> Quality | None:
    """Gold's mean over the run's last window; where that is one refresh, over the prompts of its kept answers."""
    track = track_of(history)
    end = levels.at_end(track, "gold")
    if end is None:
        return None
    if math.isfinite(end.low):
        return Quality(GOLD, end.value, end.low, end.high, end.kl)
    scores = gold_by_prompt(history)
    means = np.array([np.mean(values) for values in scores.values()])
    mean = clustered_mean(means, np.arange(len(means)))
    low, high = (mean.low, mean.high) if len(means) > 1 else (-math.inf, math.inf)
    return Quality(GOLD, end.value, end.value - (mean.value - low), end.value + (high - mean.value), end.kl)


def by_accuracy(history: History) -> Quality | None:
    """Pairs ranked right among the held-out groups, at the last evaluation, with Wilson's interval."""
    known = [record for record in history.evals if "rewards/accuracies" in record.metrics]
    if not known:
        return None
    share = known[-1].metrics["rewards/accuracies"]
    if not math.isfinite(share):
        return None
    return Quality(ACCURACY, share, *wilson(share, float(known[-1].groups)))


def by_eval(history: History, evals: Sequence[Mapping[str, Any]], measure: str) -> Quality | None:
    """The run's length-controlled win rate, or its pass rate, in the last evaluation that has one: of its first suite
    of that kind."""
    kind, figure = FIGURE[measure]
    for results in reversed(evals):
        for name in names_of(history, results):
            for suite in results["suites"]:
                figures = suite["models"].get(name, {})
                if suite["kind"] == kind and figures.get(figure):
                    value, low, high = figures[figure]
                    return Quality(measure, value, low, high, _panel_kl(results, name))
    return None


def names_of(history: History, results: Mapping[str, Any]) -> list[str]:
    """The names under which an evaluation has a run: those whose path is the run's folder, or lies in it."""
    folder = history.folder.resolve()
    given = results.get("folders") or results["models"]
    places = {name: Path(place).expanduser().resolve() for name, place in given.items()}
    return [name for name, place in places.items() if place.is_relative_to(folder)]


def _panel_kl(results: Mapping[str, Any], name: str) -> float:
    """KL to the baseline on the panel's texts, nats a token; another unit than a run's own KL, and NaN without it."""
    for suite in results["suites"]:
        row = suite["models"].get(name, {}).get("metrics", {}).get("kl") if suite["kind"] == "panel" else None
        if row:
            return float(row["model"])
    return math.nan


def gold_by_prompt(history: History) -> dict[str, list[float]]:
    """Gold's scores of the answers of the last window of refreshes, by prompt; empty where none are kept."""
    return _by_prompt(history, gold=True)


def reward_by_prompt(history: History) -> dict[str, list[float]]:
    """The same of the judge's scores."""
    return _by_prompt(history, gold=False)


def _by_prompt(history: History, *, gold: bool) -> dict[str, list[float]]:
    track = track_of(history)
    if not len(track):
        return {}
    first = int(track.step[-track.window]) - 1  # the answers' steps count from 0
    monitored = history.run is not None and history.run.monitored
    scores: dict[str, list[float]] = {}
    for row in _kept(history.folder / "answers.jsonl"):
        if row["meta"].get("step", -1) < first:
            continue
        group = from_json(row, "answers.jsonl")
        values = row["meta"].get("gold") if gold and not monitored else None
        if values is None and (monitored or not gold) and isinstance(group.feedback, Scores):
            values = list(group.feedback.values)
        if values:
            scores.setdefault(digest(question_key(group)).hex()[:16], []).extend(map(float, values))
    return scores


def _kept(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    rows = []
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # cut short by a crash
            if isinstance(row, dict) and isinstance(row.get("meta"), dict):
                rows.append(row)
    return rows


def read_evals(folders: Sequence[Path]) -> list[Mapping[str, Any]]:
    """The results of some evaluations. Raises DataError for a folder without."""
    return [read_results(folder) for folder in folders]

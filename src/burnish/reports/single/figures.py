"""Everything that the report of a run shows, as JSON can hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.reports import run as summary
from burnish.reports.compare.quality import names_of
from burnish.reports.compare.tracks import track_of
from burnish.reports.history import History
from burnish.reports.single import answers, beyond, cost, lengths, verdict
from burnish.runlog.records import EvalRecord, RefreshRecord, StepRecord

POINTS = 200  # of a curve, at most
OF_STEPS = (  # metric, label
    ("loss", "loss"), ("grad_norm", "gradient norm"), ("rewards/margins", "margin"),
    ("rewards/accuracies", "pairs ranked right"), ("logratio/chosen", "chosen"), ("logratio/rejected", "rejected"),
    ("logps/chosen", "log-prob of chosen"), ("logps/rejected", "log-prob of rejected"), ("entropy", "entropy"),
)  # fmt: skip
OF_REFRESHES = (
    ("reward", "judge's reward"), ("gold", "gold"), ("judge_accuracy", "judge agrees with gold"),
    ("kl/answer", "KL, nats an answer"), ("length", "length, tokens"), ("entropy/token", "entropy, nats a token"),
    ("distinct", "distinct answers"), ("finished", "answers that end"), ("no_signal", "prompts without signal"),
)  # fmt: skip


def figures(history: History, evals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a run's report. `evals`: results of evaluations; those that do not have the run say nothing."""
    from burnish import __version__

    track = track_of(history)
    found_lengths = lengths.lengths(history, track)
    found: dict[str, Any] = _as_json({
        "version": __version__, "about": _about(history),
        "verdict": verdict.verdict(history, track, evals).figures(),
        "moved": _moved(history), "steps": _series(history.steps, OF_STEPS),
        "refreshes": _series(history.refreshes, OF_REFRESHES), "held_out": _series(history.evals, OF_STEPS),
        "beyond": beyond.beyond(track), "lengths": found_lengths, "length_words": lengths.words(found_lengths),
        "alarms": [{"name": a.name, "step": a.step, "text": a.text} for a in history.alarms],
        "notes": [{"step": note.step, "text": note.text} for note in history.notes],
        "answers": answers.answers(history.folder), "cost": cost.cost(history),
        "evals": [_eval(history, results) for results in evals if names_of(history, results)],
    })  # fmt: skip
    return found


def _about(history: History) -> dict[str, Any]:
    steps = history.steps[-1].step if history.steps else 0
    stopped = history.stopped
    ended = None if stopped is None else {"step": stopped.step, "alarm": stopped.alarm, "best": stopped.best}
    settings = {name: value for name, value in history.settings.items() if value not in (None, "", [], {})}
    return {
        "name": history.name, "folder": str(history.folder), "trainer": history.trainer, "objective": history.objective,
        "state": history.state, "steps": steps, "planned": history.planned, "starts": len(history.starts),
        "stopped": ended, "model": history.settings.get("model.path", ""), "remarks": list(history.remarks),
        "notes": list(history.starts[-1].notes) if history.starts else [],
        "settings": {name: str(value) for name, value in settings.items()}, "completions": len(history.completions),
    }  # fmt: skip


def _moved(history: History) -> list[str]:
    """The sentences of the run's own summary: displacement named where it happens."""
    return [line for line in summary.words(history.steps, history.evals).splitlines() if line.strip()]


def _series(
    records: Sequence[StepRecord] | Sequence[RefreshRecord] | Sequence[EvalRecord], wanted: Sequence[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """By metric its label and points [step, mean, least, most]; more than `POINTS` are gathered into means."""
    found = {}
    for metric, label in wanted:
        pairs = [(record.step, _value(record, metric)) for record in records]
        known = [(step, value) for step, value in pairs if value is not None and math.isfinite(value)]
        if not known:
            continue
        unknown = sum(value is not None for _, value in pairs) - len(known)
        found[metric] = {"label": label, "points": _gathered(known), "not_finite": unknown}
    return found


def _value(record: StepRecord | RefreshRecord | EvalRecord, metric: str) -> float | None:
    if metric in ("loss", "grad_norm"):
        value = getattr(record, metric, None)
        return None if value is None else float(value)
    return record.metrics.get(metric)


def _gathered(known: Sequence[tuple[int, float]]) -> list[list[float]]:
    parts = np.array_split(np.array(known, dtype=np.float64), min(POINTS, len(known)))
    return [[part[:, 0].mean(), part[:, 1].mean(), part[:, 1].min(), part[:, 1].max()] for part in parts]


def _eval(history: History, results: Mapping[str, Any]) -> dict[str, Any]:
    names = names_of(history, results)
    suites = [
        {**{key: suite[key] for key in ("name", "kind", "baseline")}, "words": suite["models"][n]["words"]}
        for suite in results["suites"]
        for n in names
        if n in suite["models"]
    ]
    return {"names": names, "suites": suites}


def _as_json(value: Any) -> Any:
    """Numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value

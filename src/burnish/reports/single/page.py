"""The report of a run as a page that fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.pages.curves import Point, curves
from burnish.pages.numbers import digits, tick
from burnish.pages.svg import Picture, swatch
from burnish.pages.template import render
from burnish.pages.timeline import Event, timeline
from burnish.reports.single.terminal import beyond_words, cost_words

PANELS = (  # title, unit, the metrics of the steps that it holds
    ("The loss", "loss", ("loss",)),
    ("Chosen and rejected apart", "log-ratio to the reference, nats", ("logratio/chosen", "logratio/rejected")),
    ("The margin", "reward inside the loss", ("rewards/margins",)),
    ("Pairs ranked right", "share", ("rewards/accuracies",)),
    ("Log-probs of both sides", "nats an answer", ("logps/chosen", "logps/rejected")),
    ("The gradient's norm, before clipping", "norm", ("grad_norm",)),
)  # fmt: skip
OF_ANSWERS = (
    ("Reward and gold", "mean over the answers", ("reward", "gold")),
    ("KL to the start", "nats an answer", ("kl/answer",)),
    ("Length", "tokens", ("length",)),
    ("Entropy", "nats a token", ("entropy/token",)),
    ("Shares", "share", ("distinct", "finished", "judge_accuracy", "no_signal")),
)  # fmt: skip
BEYOND = (("gold", "gold"), ("reward", "the judge's reward"), ("judge_accuracy", "judge agrees with gold"))
TONES = {"yes": "clean", "no": "refused", "earlier": "warnings", "unknown": "warnings"}


def page(found: Mapping[str, Any]) -> str:
    """The page of a report's figures."""
    from markupsafe import Markup

    about = found["about"]
    return render(
        "reports/single/page.html.jinja", heading=f"Report of {about['name']}", version=found["version"],
        made=found.get("made"), r=found, tone=TONES[found["verdict"]["keep"]],
        step_pictures=[p for p in (_panel(found["steps"], *panel) for panel in PANELS) if p],
        answer_pictures=[p for p in (_panel(found["refreshes"], *panel) for panel in OF_ANSWERS) if p],
        beyond_pictures=_beyond(found["beyond"]), beyond_words=beyond_words(found["beyond"]),
        alarms=_alarms(found), cost=cost_words(found["cost"]), swatch=lambda i: Markup(swatch(i)),
    )  # fmt: skip


def _panel(
    series: Mapping[str, Mapping[str, Any]], title: str, unit: str, metrics: Sequence[str]
) -> dict[str, Any] | None:
    """A picture over the steps with its key; None where the run has none of the metrics."""
    names = [metric for metric in metrics if metric in series]
    labels = [series[metric]["label"] for metric in names]
    points: dict[str, list[Point]] = {
        series[m]["label"]: [(x, y, low, high) for x, y, low, high in series[m]["points"]] for m in names
    }
    if not points:
        return None
    last = max(point[0] for own in points.values() for point in own)
    bounds = (0, max(last, 1))
    picture = curves(points, labels, title, ("step", unit), x_bounds=bounds, forms=(tick, digits), whole=True)
    lost = sum(series[metric]["not_finite"] for metric in names)
    return None if picture is None else {"title": title, "picture": picture, "labels": labels, "lost": lost}


def _beyond(found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Gold with its fitted curve, then reward and the judge's accuracy, against sqrt(KL)."""
    if found is None:
        return []
    pictures = []
    for name, label in BEYOND:
        line = found["lines"].get(name)
        if not line:
            continue
        series: dict[str, list[Point]] = {label: [(x, y, None, None) for x, y, _ in line]}
        curve = found["curve"] if name == "gold" else None
        if curve:
            series["fitted"] = [(x, y, None, None) for x, y in curve["drawn"] if y is not None]
        highest = max(x for x, _, _ in line)
        drawn = curves(series, [label], label, ("sqrt(KL), KL in nats an answer", label),
                       x_bounds=(0, 1.05 * highest or 1), y_bounds=_bounds(line), forms=(digits, digits))  # fmt: skip
        if drawn:
            pictures.append({"picture": drawn, "label": label, "fitted": bool(curve)})
    return pictures


def _bounds(line: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of the measured values alone: a fitted curve may leave the picture."""
    low, high = min(y for _, y, _ in line), max(y for _, y, _ in line)
    air = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return low - air, high + air


def _alarms(found: Mapping[str, Any]) -> Picture | None:
    """Alarms, notes, the end by an alarm, and gold's peak, along the steps."""
    events = [Event(alarm["step"], alarm["name"], alarm["text"]) for alarm in found["alarms"]]
    events += [Event(note["step"], "note", note["text"]) for note in found["notes"] if note["step"] is not None]
    if found["about"]["stopped"]:
        events.append(Event(found["about"]["stopped"]["step"], "stopped", "an alarm ended the run"))
    curve = (found["beyond"] or {}).get("curve")
    if curve and curve["peak"] and curve["peak"]["step"] is not None:
        events.append(Event(curve["peak"]["step"], "gold's peak", "where the fitted curve is highest"))
    last = max([found["about"]["steps"], *(event.step for event in events)], default=0)
    return timeline(events, last if math.isfinite(last) else 0, "What happened when")

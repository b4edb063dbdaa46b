"""The comparison of several runs as figures, with the sentences that their intervals allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from burnish.findings import counted
from burnish.reports.compare import levels, paired
from burnish.reports.compare.differences import caveats, differing
from burnish.reports.compare.levels import Level
from burnish.reports.compare.picks import pick
from burnish.reports.compare.quality import FIGURE, Quality, qualities
from burnish.reports.compare.tracks import COSTS, Track, totals, track_of
from burnish.reports.history import History

METHOD = (
    "A run's level is the mean over a tenth of its refreshes (at most ten); its interval comes from how successive "
    "refreshes scatter. At a KL it is the first window whose mean KL reaches it; at a cost, the last that is paid for."
)
POINTS = 120  # of a run's line in the picture, at most


def compare(histories: Sequence[History], evals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that a comparison shows; runs with the same folder name are told apart by a number."""
    from burnish import __version__

    names = distinct([history.name for history in histories])
    tracks = [track_of(history) for history in histories]
    figure = next((f for f in ("gold", "reward") if any(np.isfinite(t.figures[f]).any() for t in tracks)), "")
    if figure == "reward" and len({history.objective for history in histories}) > 1:
        figure = ""  # another judge's reward, or another scale
    known = qualities(histories, evals)
    pairs = paired.by_prompt(histories, names)
    chosen = pick(names, known, [_limit(history) for history in histories], pairs)
    return {
        "version": __version__, "runs": [_about(n, h, t) for n, h, t in zip(names, histories, tracks, strict=True)],
        "differing": differing(histories), "caveats": caveats(histories), "figure": figure, "method": METHOD,
        "quality": {m: dict(zip(names, map(_quality, values), strict=True)) for m, values in known.items()},
        "panel_kl": _panel_kls(names, known),
        "equal_kl": _at_kls(names, tracks, figure), "best": _each(names, tracks, levels.at_best, figure),
        "end": _each(names, tracks, levels.at_end, figure), "equal_cost": _at_costs(names, tracks, figure),
        "paired": pairs, "frontier": _frontier(names, tracks, figure),
        "pick": {"run": chosen.run, "runner_up": chosen.runner_up, "measure": chosen.measure,
                 "reasons": list(chosen.reasons)},
    }  # fmt: skip


def distinct(names: Sequence[str]) -> list[str]:
    """Names told apart: a, b, a#2."""
    again = [list(names[: place + 1]).count(name) for place, name in enumerate(names)]
    return [name if count == 1 else f"{name}#{count}" for name, count in zip(names, again, strict=True)]


def _limit(history: History) -> float | None:
    return None if history.run is None else history.run.stop.kl


def _about(name: str, history: History, track: Track) -> dict[str, Any]:
    steps = history.steps[-1].step if history.steps else 0
    return {
        "name": name, "folder": str(history.folder), "objective": history.objective, "state": history.state,
        "steps": steps, "planned": history.planned, "refreshes": len(track), "costs": totals(history),
        "alarms": [f"{alarm.name} at step {alarm.step}" for alarm in history.alarms], "remarks": list(history.remarks),
    }  # fmt: skip


def _quality(value: Quality | None) -> list[float | None] | None:
    return None if value is None else [_finite(value.value), _finite(value.low), _finite(value.high), _finite(value.kl)]


def _panel_kls(names: Sequence[str], known: Mapping[str, Sequence[Quality | None]]) -> dict[str, float | None]:
    """KL to the baseline on an evaluation's panel, nats a token, by run; empty where no evaluation has one."""
    for measure in FIGURE:
        values = known.get(measure, [])
        if any(value is not None and math.isfinite(value.kl) for value in values):
            return {n: None if v is None else _finite(v.kl) for n, v in zip(names, values, strict=True)}
    return {}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _row(level: Level | None) -> dict[str, Any] | None:
    if level is None:
        return None
    return {"value": [_finite(level.value), _finite(level.low), _finite(level.high)], "step": level.step,
            "kl": _finite(level.kl)}  # fmt: skip


def _each(names: Sequence[str], tracks: Sequence[Track], at: Any, figure: str) -> dict[str, Any]:
    return {n: _row(at(t, figure)) for n, t in zip(names, tracks, strict=True)} if figure else {}


def _at_kls(names: Sequence[str], tracks: Sequence[Track], figure: str) -> list[dict[str, Any]]:
    if not figure:
        return []
    rows = []
    for kl in levels.common_kls([track for track in tracks if np.isfinite(track.figures[figure]).any()]):
        found = {n: levels.at_kl(t, kl, figure) for n, t in zip(names, tracks, strict=True)}
        rows.append({"kl": kl, "runs": {n: _row(level) for n, level in found.items()}, "order": _order(found)})
    return rows


def _at_costs(names: Sequence[str], tracks: Sequence[Track], figure: str) -> list[dict[str, Any]]:
    rows = []
    measured = [track for track in tracks if figure and np.isfinite(track.figures[figure]).any()]
    for cost in COSTS if len(measured) > 1 else ():
        least = min(float(track.costs[cost][-1]) for track in measured)
        for share in levels.COST_SHARES if least > 0 else ():
            found = {n: levels.at_cost(t, cost, share * least, figure) for n, t in zip(names, tracks, strict=True)}
            runs = {n: _row(level) for n, level in found.items()}
            rows.append({"cost": cost, "most": share * least, "runs": runs, "order": _order(found)})
    return rows


def _order(found: Mapping[str, Level | None]) -> str:
    """The runs from best to worst: `a > b ~ c` where b and c are not told apart by their intervals."""
    ranked = sorted(((n, level) for n, level in found.items() if level is not None), key=lambda pair: -pair[1].value)
    parts = [ranked[0][0]] if ranked else []
    for (_, better), (name, level) in pairwise(ranked):
        half = math.hypot((better.high - better.low) / 2, (level.high - level.low) / 2)
        parts += [">" if better.value - level.value > half else "~", name]
    return " ".join(parts)


def _frontier(names: Sequence[str], tracks: Sequence[Track], figure: str) -> dict[str, list[list[float]]]:
    """Each run's way through (sqrt KL, figure), smoothed over its windows: a list of [sqrt KL, value, step]."""
    ways = {}
    for name, track in zip(names, tracks, strict=True):
        if not figure or not len(track):
            continue
        kl = np.sqrt(np.maximum(levels.smoothed(track.figures["kl/answer"], track.window), 0))
        value = levels.smoothed(track.figures[figure], track.window)
        known = np.flatnonzero(np.isfinite(kl) & np.isfinite(value))
        kept = known[:: max(1, len(known) // POINTS)]
        ways[name] = [[float(kl[i]), float(value[i]), float(track.step[i])] for i in kept]
    return {name: points for name, points in ways.items() if points}


def words(found: Mapping[str, Any]) -> list[str]:
    """What the comparison says, the pick first."""
    chosen = found["pick"]
    lines = [
        f"keep {chosen['run']}" if chosen["run"] else "no run can be picked",
        *(f"  {r}" for r in chosen["reasons"]),
    ]
    ranked = [row for row in found["equal_kl"] if row["order"].count(" ")]
    if ranked:
        row = ranked[-1]
        lines.append(f"at equal KL ({row['kl']:.3g} nats an answer) by {found['figure']}: {row['order']}")
    elif found["figure"]:
        lines.append("the runs share no KL that all reached, so they are not compared at equal KL")
    for row in found["equal_cost"]:
        if row["most"] and row is [r for r in found["equal_cost"] if r["cost"] == row["cost"]][-1] and row["order"]:
            lines.append(f"at equal {row['cost']} ({row['most']:,.4g}): {row['order']}")
    if found["paired"]:
        told = [row for row in found["paired"] if row["p_holm"] is not None and row["p_holm"] < 0.05]
        tests = counted(len(found["paired"]), "pair")
        lines.append(f"paired by prompt, {tests} of runs, {len(told)} told apart after Holm's adjustment")
    return lines

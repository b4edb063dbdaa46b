"""Which settings of some runs differ, and what keeps a figure of theirs from being compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.config.keys import JUDGE_TABLES, JUDGES
from burnish.reports.history import History

OWN = ("run.", "log.", "save.", "reference.store")  # settings that say where things lie
HELD_OUT = ("data.eval", "data.eval_fraction", "data.eval_split")
UNSET = "unset"


def differing(histories: Sequence[History]) -> list[dict[str, Any]]:
    """Every key that differs, with each run's value; a key that a run does not have is unset."""
    rows = []
    for name in dict.fromkeys(name for history in histories for name in history.settings):
        if name.startswith(OWN):
            continue
        values = [_written(_set(name, history.settings.get(name))) for history in histories]
        if len(set(values)) > 1:
            rows.append({"key": name, "values": values})
    return rows


def _set(name: str, value: Any) -> Any:
    """The value of a key; None for what a judge's table says by default, since another run may have no such judge."""
    table, _, key = name.rpartition(".")
    if not table.startswith(JUDGE_TABLES) or key == "kind":
        return value
    defaults = [kind.model_fields[key].default for kind in JUDGES.values() if key in kind.model_fields]
    return None if value in defaults else value


def _written(value: Any) -> str:
    if value is None or value in ("", (), []):
        return UNSET
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def caveats(histories: Sequence[History]) -> list[str]:
    """What the runs do not share, and which figures are therefore not compared."""
    lines = []
    objectives = dict.fromkeys(history.objective for history in histories)
    if len(objectives) > 1:
        named = ", ".join(name or "unknown" for name in objectives)
        lines.append(f"the objectives differ ({named}), so losses, margins and rewards inside them are not compared")
    starts = {history.settings.get("model.path", "") for history in histories}
    if len(starts) > 1:
        lines.append(
            f"the runs begin with different models ({', '.join(map(str, sorted(starts)))}): each KL is to its own start"
        )
    if len({_gold(history) for history in histories}) > 1:
        lines.append("[gold] differs between the runs, so their gold is not compared")
    if len({tuple(str(history.settings.get(key)) for key in HELD_OUT) for history in histories}) > 1:
        lines.append("the held-out groups differ (data.eval), so accuracies on them are not compared")
    unknown = [history.name for history in histories if history.run is None]
    if unknown:
        lines.append(f"the settings of {', '.join(unknown)} are not known")
    return lines


def _gold(history: History) -> str:
    return repr(sorted((key, str(value)) for key, value in history.settings.items() if key.startswith("gold.")))


def same_gold(histories: Sequence[History]) -> bool:
    """Whether one gold judged the answers of all runs."""
    return not any("[gold] differs" in line for line in caveats(histories))


def same_held_out(histories: Sequence[History]) -> bool:
    return not any("held-out groups differ" in line for line in caveats(histories))

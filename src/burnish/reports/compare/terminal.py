"""A comparison on a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.findings import printable
from burnish.reports.compare.comparison import words


def print_comparison(found: Mapping[str, Any], console: Console) -> None:
    """What differs, what the runs reached and cost, and which to keep."""
    names = [run["name"] for run in found["runs"]]
    if found["differing"]:
        console.print("\nsettings that differ", style="bold")
        rows = [(row["key"], row["values"]) for row in found["differing"]]
        _table(console, names, rows)
    for line in [*found["caveats"], *(f"{r['name']}: {m}" for r in found["runs"] for m in r["remarks"])]:
        console.print(f"note: {printable(line)}", markup=False)
    console.print("\nthe runs", style="bold")
    rows = [("state", [_state(run) for run in found["runs"]])]
    for measure, values in found["quality"].items():
        rows.append((measure, [_estimate(values[name]) for name in names]))
    if found["panel_kl"]:
        kls = [found["panel_kl"][name] for name in names]
        rows.append(("KL on the panel", ["-" if kl is None else f"{kl:.3g} nats a token" for kl in kls]))
    for title, key in (("at its best", "best"), ("at its end", "end")):
        if found[key]:
            rows.append((f"{found['figure']} {title}", [_level(found[key][name]) for name in names]))
    for row in found["equal_kl"]:
        rows.append((f"{found['figure']} at KL {row['kl']:.3g}", [_level(row["runs"][name]) for name in names]))
    for cost in ("seconds", "tokens", "labels", "dollars"):
        if any(cost in run["costs"] for run in found["runs"]):
            rows.append((cost, [f"{run['costs'].get(cost, 0):,.4g}" for run in found["runs"]]))
    if any(run["alarms"] for run in found["runs"]):
        rows.append(("alarms", ["; ".join(run["alarms"]) or "none" for run in found["runs"]]))
    _table(console, names, rows)
    console.print()
    for line in words(found):
        console.print(printable(line), markup=False)
    console.print(f"\n{found['method']} Intervals are 95 %.", markup=False)


def _table(console: Console, names: list[str], rows: list[tuple[str, list[str]]]) -> None:
    """A column for each run; on a pipe, or with many runs, a line for each run."""
    if console.is_terminal and len(names) <= 6:
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for name in names:
            table.add_column(printable(name))
        for title, values in rows:
            table.add_row(printable(title), *map(printable, values))
        console.print(table)
        return
    for place, name in enumerate(names):
        cells = "; ".join(f"{title} {values[place]}" for title, values in rows)
        console.print(f"  {printable(name)}: {printable(cells)}", markup=False, soft_wrap=True)


def _state(run: Mapping[str, Any]) -> str:
    """`finished, 200 steps`, or how far a run is."""
    if run["state"] == "finished":
        return f"finished, {run['steps']} steps"
    return f"{run['state']}, {run['steps']} of {run['planned'] or '?'} steps"


def _estimate(value: Any) -> str:
    if value is None or value[0] is None:
        return "-"
    bounds = "" if value[1] is None or value[2] is None else f" ({value[1]:.3f} to {value[2]:.3f})"
    return f"{value[0]:.3f}{bounds}"


def _level(row: Any) -> str:
    return "not reached" if row is None else f"{_estimate(row['value'])}, step {row['step']}"

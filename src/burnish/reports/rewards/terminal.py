"""A reward report on a terminal: every scorer side by side, then the advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from burnish.findings import counted, printable
from burnish.pages.numbers import number, shorten

HEADS = {"warn": ("warning", "yellow"), "note": ("note", "dim")}
WIDE = 30  # letters of a row's name
MOST_ROWS = 24  # subsets or sources that are printed; the page has all

Row = tuple[str, list[str]]


def print_report(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures; on a pipe the same words without colour."""
    names = [scorer["name"] for scorer in figures["scorers"]]
    head = f"{counted(figures['pairs'], 'judged pair')}, {counted(figures['answers'], 'answer')}, "
    head += f"{counted(figures['prompts'], 'prompt')}; \u00b1 is half of the 95 % interval, clustered by prompt"
    console.print(head, soft_wrap=True)
    for scorer in figures["scorers"]:
        beta = "" if scorer["beta"] is None else f", beta {scorer['beta']:g}"
        detail = f": {scorer['detail']}" if scorer["detail"] else ""
        console.print(Text(printable(f"  {scorer['name']} ({scorer['kind']}{beta}){detail}")), soft_wrap=True)
    for line in _tables(figures, names):
        console.print(Text(printable(line)), soft_wrap=True, no_wrap=True)
    console.print()
    for line in figures["advice"]:
        label, style = HEADS[line["severity"]]
        message = f"{line['scorer']} {line['message']}" if line["scorer"] else line["message"]
        console.print(Text(f"{label:8}", style=style) + Text(printable(message)), soft_wrap=True)


def _tables(figures: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    lines: list[str] = []
    accuracy = figures["accuracy"]
    if accuracy:
        lines += ["", *_table("accuracy", names, _accuracy(accuracy, names))]
        words, alone = accuracy["bag_of_words"], accuracy["against_length"]
        message = f"taking the {alone['prefers']} answer is right in {alone['value']:.1%}"
        if words:
            message += (
                f"; a bag of words, held out by prompt, in {words['value']:.1%} of {counted(words['pairs'], 'pair')}"
            )
        lines += [message, "", *_table("calibration", names, _calibration(figures["calibration"], names))]
    lines += ["", *_table("rewards", names, _rewards(figures, names))]
    if figures["best_of_n"]:
        lines += ["", *_table("best of n", names, _best_of_n(figures["best_of_n"], names))]
    if figures["probes"]:
        lines += ["", *_table("edits of form", names, _probes(figures["probes"], names))]
    lines += ["", *_beyond(figures["beyond_training"], names)]
    for name, row in figures["ensembles"].items():
        lines += ["", *_disagreement(name, row)]
    return lines


def _table(title: str, names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Lines of equal columns: a name on the left, a cell for each scorer."""
    cut = [shorten(name) for name in names]
    wide = max(len(title), *(len(name) for name, _ in rows))
    columns = [max(len(head), *(len(cells[i]) for _, cells in rows)) for i, head in enumerate(cut)]
    lines: list[str] = []
    for name, cells in [(title, cut), *rows]:
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, columns, strict=True)]
        lines.append("  ".join([f"  {name:{wide}}" if lines else f"{name:{wide + 2}}", *padded]))
    return lines


def _accuracy(accuracy: Mapping[str, Any], names: Sequence[str]) -> list[Row]:
    mean = [accuracy["mean_over_subsets"]] if accuracy["mean_over_subsets"] else []
    rows = [accuracy["all"], *mean]
    for kind in ("subsets", "sources"):
        rows += accuracy[kind][:MOST_ROWS]
    cells = [(f"{_cut(row['name'])} ({row['pairs']:,})", _cells(row["by"], names, _percent)) for row in rows]
    cells += [
        (f"chosen {row['name']} ({row['pairs']:,})", _cells(row["by"], names, _percent)) for row in accuracy["length"]
    ]
    cells += [(f"{row['name']} ({row['pairs']:,})", _cells(row["by"], names, _percent)) for row in accuracy["contrast"]]
    cells.append(("points over length", _cells(accuracy["against_length"]["by"], names, _points)))
    return cells


def _cut(name: str) -> str:
    """Sources are paths, which differ at their ends."""
    return name if len(name) <= WIDE else f"\u2026{name[1 - WIDE :]}"


def _calibration(calibration: Mapping[str, Any], names: Sequence[str]) -> list[Row]:
    rows = [calibration[name] for name in names]
    after = [row["after"] for row in rows]
    return [
        ("ECE", [f"{row['ece']:.3f}" for row in rows]),
        ("ECE by chance", [f"{row['ece_by_chance']:.3f}" for row in rows]),
        ("NLL", [f"{row['nll']:.3f}" for row in rows]),
        ("Brier score", [f"{row['brier']:.3f}" for row in rows]),
        ("temperature", [_bounds(row["temperature"]) for row in rows]),
        ("ECE after it", ["-" if row is None else f"{row['ece']:.3f}" for row in after]),
    ]


def _rewards(figures: Mapping[str, Any], names: Sequence[str]) -> list[Row]:
    spread = [figures["spread"][name] for name in names]
    return [
        ("correlation with length", _cells(figures["length_correlation"]["by"], names, _signed)),
        ("sd within a prompt", [_plain(row["sd"]) for row in spread]),
        ("share of all variance", [_percent(row["share"]) for row in spread]),
        ("groups without spread", [_percent(row["flat"]) for row in spread]),
    ]


def _best_of_n(best: Mapping[str, Any], names: Sequence[str]) -> list[Row]:
    sizes = sorted({n for n in (1, 2, 4, 8, 16, 32) if n <= best["n"][-1]} | {best["n"][-1]})
    what = "gold" if best["gold"] else "gain"

    def at(row: Mapping[str, Any] | None, n: int) -> str:
        return "-" if row is None else _estimate({key: row[key][n - 1] for key in ("value", "low", "high")}, _signed)

    by = best["by"]
    unit = "gold at" if best["gold"] else "gain in sd at"
    rows = [(f"{unit} n = {n}", [at(by[name].get(what), n) for name in names]) for n in sizes]
    return rows + ([("gold peaks at n =", [str(by[name]["peak"]) for name in names])] if best["gold"] else [])


def _probes(probes: Mapping[str, Any], names: Sequence[str]) -> list[Row]:
    rows = []
    for probe, by in probes.items():
        rows.append((f"{probe}: shift in sd", _cells({n: row["shift"] for n, row in by.items()}, names, _signed)))
        rows.append((f"{probe}: flips", _cells({n: row["flips"] for n, row in by.items()}, names, _percent)))
    return rows


def _beyond(beyond: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    lines = [beyond["message"]] if beyond["message"] else []
    if beyond.get("rows"):
        title = f"gold scores against training's median chosen, {beyond['trained_on']['quartiles'][1]:.3g}"
        rows = [(f"{row['name']} ({row['pairs']:,})", _cells(row["by"], names, _percent)) for row in beyond["rows"]]
        lines = [*_table(title, names, rows), *lines]
    return lines


def _disagreement(name: str, row: Mapping[str, Any]) -> list[str]:
    if "message" in row:
        return [f"{name}: {row['message']}"]
    lines = [f"{name} of {', '.join(row['members'])}: sd between members {row['sd']:.2f}"]
    if "split" in row:
        lines[0] += f"; they are split over {row['split']:.0%} of the pairs"
        bins = "; ".join(f"{_estimate(b, _percent)} at {b['disagreement']:.2f}" for b in row["bins"])
        lines.append(f"  accuracy where their margins' sd is: {bins}")
    return lines


def _cells(by: Mapping[str, Any], names: Sequence[str], form: Callable[[float | None], str]) -> list[str]:
    return [_estimate(by.get(name), form) for name in names]


def _estimate(estimate: Mapping[str, Any] | None, form: Callable[[float | None], str]) -> str:
    """`67% \u00b16`, with half of the interval's width; the value alone where its interval is unknown."""
    if estimate is None or estimate["value"] is None:
        return "-"
    if estimate["low"] is None:
        return form(estimate["value"])
    half = form((estimate["high"] - estimate["low"]) / 2).lstrip("+").rstrip("%")
    return f"{form(estimate['value'])} \u00b1{half}"


def _bounds(estimate: Mapping[str, Any]) -> str:
    """`9 (6.8 to 12)`, for what is not symmetric."""
    if estimate["value"] is None:
        return "-"
    known = estimate["low"] is not None
    return number(estimate["value"]) + (f" ({number(estimate['low'])} to {number(estimate['high'])})" if known else "")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.0f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"

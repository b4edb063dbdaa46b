"""The verb that compares runs: compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from burnish.cli.frame import explained
from burnish.errors import ConfigError


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="folders of runs", show_default=False)],
    evals: Annotated[list[Path] | None, typer.Option("--eval", help="an evaluation's folder that has the runs")] = None,
    out: Annotated[Path | None, typer.Option(help="the page; default: comparison.html beside the first run")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the figures as JSON, in place of the screen")] = False,
) -> None:
    """Compare runs at equal KL, each at its own best point, and at equal cost; and say which to keep.

    From the runs' records alone, whatever state they are in.
    """
    if len(runs) < 2:
        raise ConfigError("name two runs at least, by their folders; `burnish report RUN` is about one")
    with explained():
        from burnish.reports.compare.terminal import print_comparison

        found = figures(runs, evals or [])
        if as_json:
            typer.echo(json.dumps(found, indent=1, allow_nan=False))
            return
        print_comparison(found, Console(highlight=False, soft_wrap=True))
        file = out or runs[0].resolve().parent / "comparison.html"
        for written in write(found, file):
            typer.echo(f"written: {written}")


def figures(runs: Sequence[Path], evals: Sequence[Path]) -> dict[str, Any]:
    """The figures of a comparison. Raises DataError for a folder without a run or an evaluation."""
    from burnish.reports.compare.comparison import compare as compared
    from burnish.reports.compare.quality import read_evals
    from burnish.reports.reading import read_any

    return compared([read_any(run) for run in runs], read_evals(evals))


def write(found: Mapping[str, Any], file: Path) -> list[Path]:
    """Write the page, and beside it the figures and the pictures. Raises StoreError."""
    from burnish.reports.compare import page
    from burnish.reports.evals.records import write_whole

    texts = {file: page.page(found), file.with_suffix(".json"): json.dumps(found, indent=1, allow_nan=False) + "\n"}
    if picture := page.picture(found):
        texts[file.with_suffix(".svg")] = picture
    for path, text in texts.items():
        write_whole(path, text)
    png = file.with_suffix(".png")
    return [*texts, *([png] if page.draw_png(found, png) else [])]


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(compare)

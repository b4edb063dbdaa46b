"""The verb that reports on one run: report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from burnish.cli.frame import explained


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, of burnish or of TRL")],
    evals: Annotated[list[Path] | None, typer.Option("--eval", help="an evaluation's folder that has the run")] = None,
    out: Annotated[Path | None, typer.Option(help="the page; default: report.html in the run's folder")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the figures as JSON, in place of the screen")] = False,
) -> None:
    """Say what a run did: the verdict first, then what is behind it; on this screen and as a page.

    From the run's records alone, whatever state it is in.
    """
    with explained():
        from burnish.reports.compare.quality import read_evals
        from burnish.reports.evals.records import write_whole
        from burnish.reports.reading import read_any
        from burnish.reports.single.figures import figures
        from burnish.reports.single.page import page
        from burnish.reports.single.terminal import print_report

        found = figures(read_any(run), read_evals(evals or []))
        found["made"] = time.strftime("%Y-%m-%d")
        if as_json:
            typer.echo(json.dumps(found, indent=1, allow_nan=False))
            return
        print_report(found, Console(highlight=False, soft_wrap=True))
        file = out or run / "report.html"
        write_whole(file, page(found))
        typer.echo(f"\npage: {file}")


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(report)

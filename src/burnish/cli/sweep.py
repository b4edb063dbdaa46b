"""The verb that makes several runs of one file: sweep."""

from __future__ import annotations

import typer
from rich.console import Console

from burnish.cli import compare
from burnish.cli.frame import Settings, explained, file_and_words, quiet
from burnish.config.sweep import load_sweep
from burnish.findings import counted, printable


def sweep(settings: Settings = None) -> None:
    """Train one file with several values of some keys, compare the runs, and pick one.

    RUN.toml objective.beta=0.03,0.1,0.3 optim.lr=5e-7,2e-6: every combination is a run in sweep.dir. sweep.first=0.2
    trains all on a fifth of the groups and only the best third (sweep.keep) in full; sweep.jobs=2 makes two runs at a
    time. The same command again skips what is finished and goes on with what was stopped.
    """
    plan = load_sweep(*file_and_words(settings))
    with explained(plan.folder):
        quiet()
        from burnish.pipeline.sweep import sweep as run
        from burnish.reports.compare.terminal import print_comparison

        typer.echo(f"{counted(len(plan.members), 'run')} in {plan.folder}: {', '.join(m.name for m in plan.members)}")
        result = run(plan, lambda line: typer.echo(printable(line)))
        if result.comparison is not None:
            print_comparison(result.comparison, Console(highlight=False, soft_wrap=True))
            for written in compare.write(result.comparison, plan.folder / "comparison.html"):
                typer.echo(f"written: {written}")
        if result.dropped:
            typer.echo(f"trained on a share of the groups only: {', '.join(result.dropped)}")
        for name, words in result.failed.items():
            typer.echo(f"FAILED {name}: {printable(words)} (output: {plan.folder / 'outputs' / f'{name}.txt'})")
    if result.failed:
        raise typer.Exit(3)


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(sweep)

"""The verbs that load a model to train it, to prove it, or to merge its adapter: train, check, merge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from burnish import config as configuration
from burnish.cli.frame import Settings, explained, file_and_words, quiet, reported_once


def _keys_table() -> str:
    rows = list(configuration.describe_keys())
    lines = [f"  {row.name} = {row.default}{f' [{row.unit}]' if row.unit else ''}\n      {row.meaning}" for row in rows]
    return "\b\nKeys, as TOML tables or key=value:\n" + "\n".join(lines)


def train(
    settings: Settings = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show every key and leave.")] = False,
) -> None:
    """Train a model on preferences, as a TOML file and key=value settings say."""
    if print_config:
        _print_keys()
        return
    with reported_once():
        run = configuration.load(*file_and_words(settings))
    with explained(Path(run.run.dir)):
        quiet()
        from burnish.loop import members

        members.run(run)


def _print_keys() -> None:
    """Every key of the configuration, and every objective's settings, as one table."""
    from burnish.objectives import TABLE

    table = Table("key", "default", "unit", "meaning", box=None)
    for row in configuration.describe_keys():
        table.add_row(row.name, row.default, row.unit, row.meaning)
    for objective in TABLE.values():
        meaning = f"for objective.name = {objective.name} ({objective.source})"
        for name, setting in objective.settings.items():
            unit = objective.beta_unit if name in ("beta", "tau") else ""
            values = " | ".join(setting.choices) or ", ".join(filter(None, (unit, setting.rule)))
            table.add_row(f"objective.{name}", repr(setting.default), values, meaning)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def check(settings: Settings = None) -> None:
    """Prove on your own model and data what training rests on: one line per identity, with the measured difference."""
    run = configuration.load(*file_and_words(settings))
    with explained():
        quiet()
        from burnish.loop import check as checking

        results = checking.run(run)
    for result in results:
        typer.echo(f"{'ok    ' if result.passed else 'FAILED'}  {result.name}: {result.measured}")
    if not all(result.passed for result in results):
        raise typer.Exit(3)


def merge(
    adapter: Annotated[str, typer.Argument(help="folder of an adapter, or of the run that trained it")],
    out: Annotated[str, typer.Argument(help="new folder for the merged model")],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the base model.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read weights that are pickles (*.bin), which may run any program.")
    ] = False,
) -> None:
    """Fold a LoRA into its base model."""
    with explained():
        quiet()
        from burnish.engine import merge as merging

        merging.merge(adapter, out, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    typer.echo(f"merged model written to {out}")


def register(app: typer.Typer) -> None:
    """Hang the verbs on the command line."""
    app.command(epilog=_keys_table())(train)
    app.command()(check)
    app.command()(merge)

"""The verbs that load a model to train it, to prove it, or to merge its adapter: train, check, merge."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Annotated

import typer

from burnish import config as configuration
from burnish.cli.frame import Settings, explained, file_and_words, quiet, reported_once

WIDTH = 107  # columns of what is printed of the keys


def _keys_table() -> str:
    lines = []
    for row in configuration.describe_keys():
        head = f"  {row.name} = {row.default}{f' [{row.unit}]' if row.unit else ''}"
        lines += wrap(head, WIDTH, subsequent_indent=" " * 6)
        lines += wrap(row.meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\b\nKeys, as TOML tables or key=value; [gold] has the keys of [judge]:\n" + "\n".join(lines)


def train(
    settings: Settings = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show every key as TOML and leave.")] = False,
) -> None:
    """Train a model on preferences, as a TOML file and key=value settings say."""
    if print_config:
        from burnish.objectives.explain import setting_lines

        run = configuration.load_partly(*file_and_words(settings))
        typer.echo(configuration.to_commented_toml(run, setting_lines(), WIDTH), nl=False)
        return
    with reported_once():
        run = configuration.load(*file_and_words(settings))
    with explained(Path(run.run.dir)):
        quiet()
        from burnish.loop import members

        members.run(run)


def check(
    settings: Settings = None,
    whole: Annotated[
        int, typer.Option(min=0, help="Look at so many groups uncut; 0: at the starts of two, in seconds.")
    ] = 0,
) -> None:
    """Prove on your own model and data what training rests on: one line per identity, with the measured difference."""
    run = configuration.load(*file_and_words(settings))
    with explained():
        quiet()
        from burnish.loop import check as checking

        results = checking.run(run, whole)
    for result in results:
        typer.echo(f"{'ok    ' if result.passed else 'FAILED'}  {result.name}: {result.measured}")
    if not all(result.passed for result in results):
        raise typer.Exit(3)


def merge(
    adapter: Annotated[str, typer.Argument(help="folder of an adapter, or of the run that trained it")],
    out: Annotated[str, typer.Argument(help="new folder for the merged model")],
    strength: Annotated[
        float, typer.Option(help="times the adapter's change: 0 is the base, 1 as trained, above 1 is extrapolated")
    ] = 1.0,
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

        line = merging.merge(adapter, out, strength, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    typer.echo(f"{line}\nmerged model written to {out}")


def register(app: typer.Typer) -> None:
    """Hang the verbs on the command line."""
    app.command(epilog=_keys_table())(train)
    app.command()(check)
    app.command()(merge)

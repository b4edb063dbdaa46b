"""The command line: one verb per function, heavy imports inside the verb, every failure a sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from burnish import __version__
from burnish import config as configuration
from burnish.cli import data, objectives, plan, report, serve
from burnish.cli.frame import explained, quiet, report_unforeseen, said_once
from burnish.errors import BurnishError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Preference post-training of language models: one dial from offline DPO to on-policy methods.",
)  # fmt: skip
lab_app = typer.Typer(no_args_is_help=True, help="The built-in world of flash cards: no download, minutes on a laptop.")
app.add_typer(lab_app, name="lab")
data.register(app)
report.register(app)
objectives.register(app)
plan.register(app)
serve.register(app)

Settings = Annotated[list[str] | None, typer.Argument(metavar="[RUN.toml] [key=value]...", show_default=False)]


def _keys_table() -> str:
    rows = list(configuration.describe_keys())
    lines = [f"  {row.name} = {row.default}{f' [{row.unit}]' if row.unit else ''}\n      {row.meaning}" for row in rows]
    return "\b\nKeys, as TOML tables or key=value:\n" + "\n".join(lines)


def _load(settings: list[str] | None) -> configuration.Run:
    """An optional first word without '=' is the TOML file; the rest are overrides."""
    words = list(settings or [])
    is_file = bool(words) and ("=" not in words[0] or Path(words[0]).is_file())  # runs/lr=1e-6/config.toml is a file
    file = words.pop(0) if is_file else None
    return configuration.load(file, words)


@app.command(epilog=_keys_table())
def train(
    settings: Settings = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show every key and leave.")] = False,
) -> None:
    """Train a model on preferences, as a TOML file and key=value settings say."""
    if print_config:
        table = Table("key", "default", "unit", "meaning", box=None)
        for row in configuration.describe_keys():
            table.add_row(row.name, row.default, row.unit, row.meaning)
        from burnish.objectives import TABLE

        for objective in TABLE.values():
            for name, setting in objective.settings.items():
                meaning = f"for objective.name = {objective.name} ({objective.source})"
                values = " | ".join(setting.choices) or (objective.beta_unit if name in ("beta", "tau") else "")
                table.add_row(f"objective.{name}", repr(setting.default), values, meaning)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
        return
    with said_once():
        run = _load(settings)
    with explained(Path(run.run.dir)):
        quiet()
        from burnish.loop import members

        members.run(run)


@app.command()
def check(settings: Settings = None) -> None:
    """Prove on your own model and data what training rests on: one line per identity, with the measured difference."""
    run = _load(settings)
    with explained():
        quiet()
        from burnish.loop import check as checking

        findings = checking.run(run)
    for finding in findings:
        typer.echo(f"{'ok    ' if finding.passed else 'FAILED'}  {finding.name}: {finding.measured}")
    if not all(finding.passed for finding in findings):
        raise typer.Exit(3)


@app.command()
def merge(
    adapter: Annotated[str, typer.Argument(help="folder of an adapter, or of the run that trained it")],
    out: Annotated[str, typer.Argument(help="new folder for the merged model")],
) -> None:
    """Fold a LoRA into its base model."""
    with explained():
        quiet()
        from burnish.engine import merge as merging

        merging.merge(adapter, out)
    typer.echo(f"merged model written to {out}")


@lab_app.command()
def quickstart(out: Annotated[str, typer.Argument(help="folder for everything it makes")] = "runs/quickstart") -> None:
    """SFT, pairs, DPO and evaluation on flash cards, in about a minute."""
    with explained():
        quiet()
        from burnish.lab import quickstart as world

        world.main(out)


@lab_app.command(name="reward")
def lab_reward(
    out: Annotated[str, typer.Argument(help="folder for everything it makes")] = "runs/reward",
    seed: Annotated[int, typer.Option(min=0, help="of the models, the pairs and the answers")] = 0,
) -> None:
    """Reward models and DPO from the same pairs of flash cards, and the report on both, in about two minutes."""
    with explained():
        quiet()
        from burnish.lab import quickstart as world
        from burnish.lab import reward

        reward.run(Path(out), reward.Settings(seed=seed, base=world.Settings(seed=seed)))


@lab_app.command(name="dial")
def lab_dial(
    out: Annotated[str, typer.Argument(help="folder for everything it makes")] = "runs/dial",
    seeds: Annotated[int, typer.Option(min=1, help="worlds, each with its own policy, pairs and reward model")] = 3,
    steps: Annotated[int, typer.Option(min=20, help="optimiser steps of every arm")] = 200,
) -> None:
    """Offline DPO, online DPO and RLOO from one start, and a frozen judge: four panels, about four minutes a seed."""
    with explained():
        quiet()
        from burnish.lab import dial

        dial.run(Path(out), dial.Settings(seeds=seeds, steps=steps))


@app.command()
def judges() -> None:
    """The checks that a verifier can be told to make, and the other kinds of judges."""
    from burnish.answers.judges import verifier

    table = Table("judge.name", "what it checks", box=None)
    for row in verifier.described():
        table.add_row(row[0], row[-1])
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(
        "\nWith kind = 'verifier', name is one of these or your own module:function, called as\n"
        "score(prompt, answer, meta). Other kinds: reward_model (path), llm (url, model), human (votes).\n"
        "Several: [[judge]] tables, each with a weight and a gate. [gold] is a better judge that only watches.",
        markup=False,
    )


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False) -> None:
    if version:
        typer.echo(f"burnish {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """The console script. Exit codes: 0 done, 2 refused, 3 the run went wrong, 130 interrupted, 1 a defect of ours."""
    try:
        app(arguments, standalone_mode=True)
    except BurnishError as error:
        print(f"burnish: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get("BURNISH_DEBUG"):
            raise
        sys.exit(report_unforeseen(error))

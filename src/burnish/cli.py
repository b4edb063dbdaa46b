"""The command line: one verb per function, heavy imports inside the verb, every failure a sentence."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import typer
from rich.console import Console
from rich.table import Table

from burnish import __version__, cli_data
from burnish import config as configuration
from burnish.errors import BurnishError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Preference post-training of language models: one dial from offline DPO to on-policy methods.",
)  # fmt: skip
lab_app = typer.Typer(no_args_is_help=True, help="The built-in world of flash cards: no download, minutes on a laptop.")
app.add_typer(lab_app, name="lab")
cli_data.register(app)

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
            for name, (kind, default) in objective.parameters().items():
                meaning = f"for objective.name = {objective.name} ({objective.source})"
                choices = get_args(kind) if get_origin(kind) is Literal else ()
                values = " | ".join(map(str, choices)) or (objective.beta_unit if name in ("beta", "tau") else "")
                table.add_row(f"objective.{name}", repr(default), values, meaning)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
        return
    run = _load(settings)
    with _explained(Path(run.run.dir)):
        _quiet()
        from burnish import ensemble

        ensemble.run(run)


@app.command()
def check(settings: Settings = None) -> None:
    """Prove on your own model and data what training rests on: one line per identity, with the measured difference."""
    run = _load(settings)
    with _explained():
        _quiet()
        from burnish import check as checking

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
    with _explained():
        _quiet()
        from burnish import model

        model.merge(adapter, out)
    typer.echo(f"merged model written to {out}")


@lab_app.command()
def quickstart(out: Annotated[str, typer.Argument(help="folder for everything it makes")] = "runs/quickstart") -> None:
    """SFT, pairs, DPO and evaluation on flash cards, in about a minute."""
    with _explained():
        _quiet()
        from burnish.lab import quickstart as world

        world.main(out)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False) -> None:
    if version:
        typer.echo(f"burnish {__version__}")
        raise typer.Exit


def _quiet() -> None:
    """transformers' own warnings and bars would bury what burnish has to say."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def _explained(run_dir: Path | None = None) -> Iterator[None]:
    """Around a verb's work: an interruption is a sentence and 130, what nobody foresaw is saved and 1."""
    try:
        yield
    except (BurnishError, BrokenPipeError):
        raise
    except KeyboardInterrupt as stopped:
        saved = "; what was saved before is in the run's folder" if run_dir else ""
        typer.echo(f"burnish: {str(stopped) or f'stopped at once{saved}'}", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if os.environ.get("BURNISH_DEBUG"):
            raise
        raise typer.Exit(_report_unforeseen(error, run_dir)) from None


def _report_unforeseen(error: Exception, run_dir: Path | None = None) -> int:
    """Say what happened in one line, keep the traceback in the run's folder or here; returns the exit code."""
    kinds = isinstance(error, MemoryError), type(error).__name__ == "OutOfMemoryError", "allocate memory" in str(error)
    if any(kinds):  # Python's, torch's on a GPU, torch's on the CPU
        advice = (
            "lower engine.token_budget or set engine.gradient_checkpointing=true, which change no result; "
            "or drop the longest groups with data.max_length"
        )
        print(f"burnish: out of memory: {advice}", file=sys.stderr)
        return 3
    own = run_dir is not None and (run_dir / "config.toml").exists()
    file = run_dir / "defect.txt" if run_dir is not None and own else Path("burnish-defect.txt")
    try:
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        told = f"; the details are in {file}"
    except OSError:
        told = "; set BURNISH_DEBUG=1 to see the details"
    message = f"burnish: a defect of burnish, not of your input: {type(error).__name__}: {error}{told}"
    print(message, file=sys.stderr)
    return 1


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
        sys.exit(_report_unforeseen(error))

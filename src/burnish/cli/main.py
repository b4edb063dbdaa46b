"""The command line's root: every verb is hung on it here, and every failure becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from burnish import __version__
from burnish.cli import ask, compare, data, evals, judges, lab, objectives, plan, report, runs, sweep, train, vote
from burnish.cli.frame import report_unforeseen
from burnish.errors import BurnishError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Preference post-training of language models: one dial from offline DPO to on-policy methods.",
)  # fmt: skip
for verbs in (train, sweep, ask, evals, vote, runs, compare, lab, data, report, objectives, plan, judges):
    verbs.register(app)


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

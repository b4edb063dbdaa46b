"""The verb that lists judges: judges."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.table import Table


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


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(judges)

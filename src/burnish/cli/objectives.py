"""The verb that explains objectives."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def objectives(
    name: Annotated[str, typer.Argument(help="one objective, to be explained", show_default=False)] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The documentation's page instead.")] = False,
) -> None:
    """What a model can be trained on: all objectives, or one with its formula, gradient and settings."""
    from burnish.objectives import explain, find

    if markdown:
        sys.stdout.write(explain.page())
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if name:
        row = find(name)
        console.print(Text(row.name, style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for heading, text in explain.explained(row):
            table.add_row(heading, Text(text))
        console.print(table)
        console.print(Padding(Text("\n" + explain.snippet(row)), (0, 2)))
        return
    for words, rows in explain.overview():
        console.print(Text(f"\n{words}", style="bold"))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("name", style="cyan", no_wrap=True)
        table.add_column("in a sentence", ratio=3)
        table.add_column("beta", no_wrap=True)
        table.add_column("needs", ratio=1)
        table.add_column("defaults", ratio=2)
        for row in rows:
            needs = ", ".join(need for need in explain.NEEDS if need in row.needs)
            table.add_row(row.name, Text(row.summary), row.beta_unit, needs, Text(explain.defaults(row)))
        console.print(table)
    console.print("\n`burnish objectives NAME` explains one: formula, gradient, settings, lengths.", markup=False)


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(objectives)

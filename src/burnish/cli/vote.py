"""The verbs of blind votes: vote, vote status, vote export, vote close."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from burnish.cli.frame import Settings, explained, file_and_words, quiet
from burnish.config.balloting import ballot_toml, describe_ballot, load_ballot
from burnish.errors import ConfigError
from burnish.pages.numbers import nan_as_null

if TYPE_CHECKING:
    from burnish.vote.store import Ballot

START = "start"
LOOPBACK = "127.0.0.1"
Opened = Annotated[Path, typer.Argument(metavar="BALLOT.db", help="the ballot's file")]


class StartByDefault(TyperGroup):
    """`burnish vote base=... tuned=...` is `burnish vote start base=... tuned=...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [START, *args]
        return list(super().parse_args(ctx, args))


verbs = typer.Typer(
    cls=StartByDefault, no_args_is_help=True, rich_markup_mode=None,
    help="Blind votes of people on two answers side by side, with figures that hold whenever you look.",
)  # fmt: skip


@verbs.command(name=START)
def start(
    settings: Settings = None,
    host: Annotated[
        str, typer.Option(help="address to listen at; another than the loopback needs votes.raters")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8765,
    browser: Annotated[bool, typer.Option(help="open the page in a browser")] = True,
    serve: Annotated[bool, typer.Option(help="serve the page; without it the ballot is only made")] = True,
    print_config: Annotated[bool, typer.Option("--print-config", help="every key, or the resolved file")] = False,
) -> None:
    """Vote on the answers of models: base=./my-sft tuned=runs/first prompts=prompts.jsonl, or a=answers_a.jsonl
    b=answers_b.jsonl; or open a ballot that was made before: BALLOT.db.

    The models answer, the ballot's file is made, and the page opens. It goes on where it was stopped.
    """
    if print_config and not settings:
        for row in describe_ballot():
            typer.echo(f"{row.name} = {row.default}  # {row.meaning}{f' ({row.unit})' if row.unit else ''}")
        return
    with explained():
        quiet()
        ballot = _ballot(list(settings or []), print_config)
        if ballot is None:
            return
        if not serve:
            typer.echo(f"ballot: {ballot.path}; vote: burnish vote {ballot.path}")
            return
        from burnish.cli.serving import serve as run

        run(ballot, host, port, browser)


def _ballot(words: list[str], print_config: bool) -> Ballot | None:
    """The ballot that the words name, made where it is not there yet; None where only its settings are shown."""
    from burnish.vote.store import open_ballot

    if len(words) == 1 and "=" not in words[0] and not words[0].endswith(".toml"):
        return open_ballot(Path(words[0]))
    file, overrides = file_and_words(words)
    config = load_ballot(file, overrides)
    if print_config:
        typer.echo(ballot_toml(config), nl=False)
        return None
    if Path(config.file).exists():
        ballot = open_ballot(Path(config.file))
        if ballot.settings().get("config") != ballot_toml(config):
            raise ConfigError(
                f"{config.file} is a ballot with other settings; open it with: burnish vote {config.file}, or name "
                "another file=..."
            )
        return ballot
    from burnish.evals.ballots import make_ballot
    from burnish.runlog.progress import Progress

    with Progress() as progress:
        return make_ballot(config, progress)


@verbs.command()
def status(
    file: Opened,
    as_json: Annotated[bool, typer.Option("--json", help="the figures as JSON, in place of the screen")] = False,
    page: Annotated[Path | None, typer.Option(help="write the page of figures, too")] = None,
    without_named: Annotated[bool, typer.Option(help="leave out pairs in which an answer says who made it")] = False,
) -> None:
    """What the votes say so far: look as often as you like. For the organiser: it names the models."""
    with explained():
        from burnish.vote.figures import figures
        from burnish.vote.store import open_ballot

        result = figures(open_ballot(file), without_named=without_named)
        _print(result, file, as_json, page)


@verbs.command()
def close(
    file: Opened,
    page: Annotated[Path | None, typer.Option(help="where the page goes; default beside the ballot")] = None,
) -> None:
    """End the voting: raters see that it is over, the figures are final, and the page is written."""
    with explained():
        from burnish.vote.figures import figures
        from burnish.vote.store import open_ballot

        ballot = open_ballot(file)
        if ballot.settings()["closed"] is None:
            ballot.set("closed", time.time())
        _print(figures(ballot), file, False, page or file.with_suffix(".html"))


@verbs.command()
def export(
    file: Opened,
    form: Annotated[str, typer.Option(help="groups, arena, scores or csv")] = "groups",
    out: Annotated[Path | None, typer.Option(help="the file; default beside the ballot")] = None,
) -> None:
    """Write the votes: as groups for audit, pairs and train, as arena votes, as precomputed scores, as CSV."""
    with explained():
        from burnish.vote.exports import export as write
        from burnish.vote.store import open_ballot

        target = out or file.with_name(f"{file.stem}.{form}.{'csv' if form == 'csv' else 'jsonl'}")
        lines = write(open_ballot(file), form, target)
        typer.echo(f"{target}: {lines:,} lines")
        if form == "groups":
            typer.echo(f"next: burnish audit {target}, burnish train data.train={target} ...")


def _print(result: dict[str, Any], file: Path, as_json: bool, page: Path | None) -> None:
    from burnish.reports.evals.records import write_whole
    from burnish.vote import report

    if page is not None:
        write_whole(page, report.page(result, file.stem))
    if as_json:
        typer.echo(json.dumps(nan_as_null(result), indent=1))
        return
    report.print_figures(result, Console(highlight=False, soft_wrap=True))
    if page is not None:
        typer.echo(f"page: {page}")


def register(app: typer.Typer) -> None:
    """Hang the verbs on the command line."""
    app.add_typer(verbs, name="vote")

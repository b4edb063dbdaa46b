"""The verb that evaluates models: eval."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from burnish.cli.frame import Settings, explained, file_and_words, quiet
from burnish.config.evaluation import describe_evaluation, evaluation_toml, load_evaluation
from burnish.errors import ConfigError


def evaluate(
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="the figures as JSON, in place of the screen")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="every key, or the resolved file")] = False,
) -> None:
    """Evaluate models: win rates, checks, what else moved, the harness's tasks; with honest intervals.

    EVAL.toml, or words: models.base=./my-sft models.tuned=runs/first suite.kind=verifier suite.check=ifeval
    suite.prompts=ifeval.jsonl. Answers and judgements are kept in `dir`; the same command goes on
    where it was stopped.
    """
    file, words = file_and_words(settings)
    if print_config and file is None and not words:
        for row in describe_evaluation():
            typer.echo(f"{row.name} = {row.default}  # {row.meaning}{f' ({row.unit})' if row.unit else ''}")
        return
    evaluation = load_evaluation(file, words)
    if print_config:
        typer.echo(evaluation_toml(evaluation), nl=False)
        return
    folder = Path(evaluation.dir)
    with explained(folder):
        quiet()
        from burnish.evals.evaluate import evaluate as run
        from burnish.reports.evals import page, terminal
        from burnish.reports.evals.records import write_whole
        from burnish.runlog.progress import Progress

        with Progress(stderr=as_json) as progress:
            found = run(evaluation, progress)
        write_whole(folder / "report.html", page.page(found))
        if as_json:
            typer.echo((folder / "results.json").read_text(encoding="utf-8"), nl=False)
            return
        terminal.print_results(found, Console(highlight=False, soft_wrap=True))
        typer.echo(f"\nfigures: {folder / 'results.json'}\npage:    {folder / 'report.html'}")
        typer.echo(f"records: {folder / 'outcomes.jsonl'}, {folder / 'answers'}, {folder / 'judgements'}")


def export(
    folder: Annotated[Path, typer.Argument(metavar="EVAL", help="the folder of an evaluation")],
    form: Annotated[str, typer.Argument(metavar="FORM", help="scores, alpaca or votes")],
    out: Annotated[Path, typer.Option(help="folder of what is written")] = Path("exports"),
) -> None:
    """Write an evaluation's records as other tools read them.

    scores: precomputed scores, a line a sample. alpaca: AlpacaEval's model outputs. votes: judged pairs as arena votes.
    """
    with explained():
        from burnish.reports.evals import exports

        for file in exports.export(folder, form, out):
            typer.echo(str(file))


def lm_eval(words: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
    """The evaluation harness's own command line, with `burnish` among its models.

    As in: burnish lm-eval run --model burnish --model_args pretrained=runs/first --tasks hellaswag
    """
    with explained():
        if importlib.util.find_spec("lm_eval") is None:
            raise ConfigError("this needs the evaluation harness: pip install 'burnish[lm-eval]'")
        quiet()
        from burnish.evals.harness import command_line

        command_line(words or [])


def register(app: typer.Typer) -> None:
    """Hang the verbs on the command line."""
    app.command(name="eval")(evaluate)
    app.command(name="eval-export")(export)
    passed_on = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(name="lm-eval", add_help_option=False, context_settings=passed_on)(lm_eval)

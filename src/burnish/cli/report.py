"""The verb that looks at reward models: reward-report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from burnish import config as configuration
from burnish.cli.frame import explained, quiet
from burnish.errors import ConfigError, StoreError
from burnish.findings import counted

Words = Annotated[list[str], typer.Argument(metavar="DATA SCORER... [key=value]...", show_default=False)]


def reward_report(
    words: Words,
    out: Annotated[str, typer.Option(help="folder for records, figures, picture and page")] = "reward-report",
    probes: Annotated[int, typer.Option(min=0, help="Edit the answers of so many groups: what hacks them?")] = 200,
    trained_on: Annotated[str, typer.Option(help="training data with scores: are better answers ranked right?")] = "",
    coef: Annotated[float, typer.Option(min=0, help="of the variance, where members are combined by it")] = 0.5,
    words_probe: Annotated[bool, typer.Option("--words/--no-words", help="Train the bag of words (seconds).")] = True,
) -> None:
    """How good are reward models, and a policy's implicit reward, on judgements they have not seen?

    DATA: held-out pairs, ranked groups or scored samples, in any format burnish reads; or an earlier scored.jsonl,
    which is then drawn again. SCORER: the folder of a reward model, of a run (its reward model, its members, or
    its policy's implicit reward).
    """
    data, paths, run = _sorted(words)
    with explained():
        if _is_records(data):
            if paths:
                raise ConfigError(f"{data} holds rewards already; to score with {paths[0]}, name the data itself")
            from burnish.reports.rewards import read

            scored = read(Path(data))
        else:
            if not paths:
                raise ConfigError("name at least one scorer behind the data: a reward model's folder, or a run's")
            quiet()
            scored = _scored(data, paths, run, probes, trained_on, coef)
        _write(scored, Path(out), words_probe)


def _sorted(words: list[str]) -> tuple[str, list[str], configuration.Run]:
    """(data, scorers, configuration): a word with '=' is a setting unless a file has that name."""
    settings = [word for word in words if "=" in word and not Path(word).exists()]
    names = [word for word in words if word not in settings]
    if not names:
        raise ConfigError("name the data first: held-out pairs, ranked groups, or scored samples")
    return names[0], names[1:], configuration.load_partly(None, settings)


def _is_records(data: str) -> bool:
    path = Path(data)
    if not path.is_file() or path.suffix != ".jsonl":
        return False
    with path.open("rb") as lines:
        return lines.readline(200).startswith(b'{"record": "scorers"')


def _scored(data: str, paths: list[str], run: configuration.Run, probes: int, trained_on: str, coef: float) -> Any:
    from dataclasses import replace

    from burnish.data.load import left_out
    from burnish.data.readers import read
    from burnish.engine import candidates
    from burnish.evals import rewards
    from burnish.runlog.progress import Progress

    scorers = candidates.find(paths)
    with Progress() as progress:
        groups = read(data, format=run.data.format, split=run.data.split, limit=run.data.limit,
                      keep_faults=run.data.bad_rows == "skip")  # fmt: skip
        progress.note(f"{data}: {counted(len(groups.groups), 'group')} read as {groups.format} {groups.note}")
        for line in left_out(groups):
            progress.note(f"  {line}")
        gold = None
        if trained_on:
            gold = rewards.chosen_gold(read(trained_on, format="auto", split=run.data.split).groups)
            if gold is None:
                raise ConfigError(
                    f"--trained-on: {trained_on} has no scores, so it says nothing of how good its answers are"
                )

        def stage(name: str) -> Callable[[int, int], None]:
            return progress.stage(f"scoring with {name}")

        scored, unfit = rewards.score(
            groups.groups, scorers, run, stage=stage, probes=probes, hows=("mean", "worst", "uncertainty"), coef=coef
        )
        if unfit:
            progress.note(f"{counted(unfit, 'group')} left out: too long for a model, or with an empty answer")
    return replace(scored, trained_on=gold)


def _write(scored: Any, folder: Path, words: bool) -> None:
    from burnish.reports.rewards import report, write
    from burnish.reports.rewards.page import page, picture
    from burnish.reports.rewards.terminal import print_report

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made a folder ({error.strerror}); name another one with --out") from None
    write(folder / "scored.jsonl", scored)  # first: what took long must not be lost
    figures = report(scored.groups, scored.scorers, probes=scored.probes, trained_on=scored.trained_on, words=words)
    print_report(figures, Console(highlight=False))
    try:
        (folder / "report.json").write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(page(figures), encoding="utf-8", errors="backslashreplace")
        (folder / "report.svg").write_text(picture(figures), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StoreError(f"the report cannot be written to {folder}: {error.strerror or error}") from None
    typer.echo(f"\nrecords, figures, picture and page: {folder}/scored.jsonl, report.json, report.svg, report.html")


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command(name="reward-report")(reward_report)

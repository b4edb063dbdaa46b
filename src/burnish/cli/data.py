"""The verbs that look at data and change its form: audit, show, pairs, convert, formats. None of them imports torch."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from burnish import config as configuration
from burnish.errors import ConfigError

Words = Annotated[list[str], typer.Argument(metavar="DATA... [key=value]...", show_default=False)]


def sorted_words(words: list[str]) -> tuple[list[str], configuration.Run]:
    """(names of data, configuration): a word with '=' is a setting unless it is a file; a .toml file names both."""
    data, settings, file = [], [], None
    for word in words:
        if "=" in word and not Path(word).exists():
            settings.append(word)
        elif word.endswith(".toml"):
            if file is not None:
                raise ConfigError(f"{file} and {word}: one run's .toml at a time")
            file = word
        else:
            data.append(word)
    run = configuration.load_partly(file, settings)
    if not data:
        data = [run.data.train] if isinstance(run.data.train, str) else list(run.data.train)
    if not any(data):
        raise ConfigError("name the data: a file, a folder, a hub name, or a run's .toml")
    return data, run


def _renderer(run: configuration.Run) -> Any:
    """The renderer of model.path, or None where none is named."""
    if not run.model.path:
        return None
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from burnish.data import render, tokenizers

    tokenizer = tokenizers.load_light(run.model.path, trust_remote_code=run.model.trust_remote_code)
    return render.Renderer.of(run.data, tokenizer)


def audit(
    words: Words,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output instead of the summary.")] = False,
    html: Annotated[str, typer.Option(help="Where to write the page; empty: nowhere.")] = "audit.html",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where there are warnings.")] = False,
    probe: Annotated[bool, typer.Option(help="Train the bag-of-words probe (seconds).")] = True,
    logps: Annotated[int, typer.Option(min=0, help="Score so many pairs with the model itself (loads it).")] = 0,
) -> None:
    """Look at data before a step is spent: what is broken, how it renders, what it would teach, what to do about it.

    With model.path=FOLDER lengths are in that tokenizer's tokens and its chat template is tried; data.eval=FILE looks
    for leaks. Exit codes: 0 clean or warnings, 1 warnings with --strict, 2 refused.
    """
    data, run = sorted_words(words)
    from burnish.audit import Auditor, audit
    from burnish.runlog.progress import Progress

    renderer = _renderer(run)
    if logps and renderer is None:
        raise ConfigError("--logps scores pairs with the model, so it needs model.path=FOLDER")
    length = run.data.max_length
    sides = [Auditor(renderer, length, run.data.overlong, keep=logps)]
    with Progress(silent=as_json, stderr=True) as progress:
        advance = progress.stage("audit").add
        for path in data:
            sides[0].read(path, format=run.data.format, split=run.data.split, limit=run.data.limit, advance=advance)
        if run.data.eval:
            sides.append(Auditor(renderer, length, run.data.overlong, against=sides[0].scan))
            sides[1].read(run.data.eval, format=run.data.format, split=run.data.eval_split, advance=advance)
        progress.doing("looking for near copies and shortcuts")
        result = audit(sides[0], sides[1] if len(sides) > 1 else None, probe=probe)
        if logps and sides[0].kept:
            progress.doing(f"scoring {len(sides[0].kept)} pair{'s' * (len(sides[0].kept) != 1)} with {run.model.path}")
            from burnish.engine import likelihood

            result.figures["onpolicy"] = likelihood.per_token_logps(run, sides[0].kept, logps)
    _report(result, data, as_json, html)
    raise typer.Exit(2 if result.verdict == "refused" else 1 if strict and result.verdict == "warnings" else 0)


def _report(result: Any, data: list[str], as_json: bool, html: str) -> None:
    from burnish.audit.terminal import print_audit

    values = result.to_json() | {
        "title": ", ".join(Path(p).name for p in data),
        "made": time.strftime("%Y-%m-%d %H:%M"),
    }
    if as_json:
        typer.echo(json.dumps(values, ensure_ascii=True, indent=1, allow_nan=False, default=str))
    else:
        print_audit(result, Console(highlight=False))
    if html:
        from burnish.audit.page import page

        try:
            Path(html).write_text(page(values), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigError(
                f"the page cannot be written to {html}: {error.strerror}; name another place with --html"
            ) from None
        if not as_json:
            typer.echo(f"\n{result.verdict}. The page with pictures: {html}")
    elif not as_json:
        typer.echo(f"\n{result.verdict}.")


def show(
    data: Annotated[str, typer.Argument(help="file, folder or hub name")],
    row: Annotated[int, typer.Argument(help="row, counted from 1")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="model.path=FOLDER [key=value]...")] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Show token ids too.")] = False,
) -> None:
    """One group token by token: prompt, what is trained, where the turns end."""
    run = configuration.load_partly(None, settings or [])
    if not run.model.path:
        raise ConfigError("show needs model.path=FOLDER: the tokenizer whose tokens are shown")
    from burnish.data import show as showing

    group = showing.find(data, row, run.data.format, run.data.split)
    console = Console(highlight=False, soft_wrap=True)
    for line in showing.token_lines(group, _renderer(run), ids):
        console.print(line)


Source = Annotated[str, typer.Argument(help="file, folder or hub name, in any format burnish reads")]
Target = Annotated[str, typer.Argument(help="new file: .jsonl, .jsonl.gz, .jsonl.zst or .parquet")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[key=value]...", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")]
READING = ("format", "split", "limit", "bad_rows")  # keys of [data] that say how to read


def _read(run: configuration.Run, data: str) -> Any:
    from burnish.data.readers import read

    skip = run.data.bad_rows == "skip"
    return read(data, format=run.data.format, split=run.data.split, limit=run.data.limit, keep_faults=skip)


def convert(data: Source, out: Target, settings: Settings = None, overwrite: Overwrite = False) -> None:
    """Write any of the formats as burnish's records, which hold everything that a group holds.

    Settings: data.format, data.split, data.limit, data.bad_rows.
    """
    from burnish.data.convert import write
    from burnish.data.load import left_out

    run = configuration.load_partly(None, settings or [])
    for name, value in run.data:
        if name not in READING and value != type(run.data).model_fields[name].default:
            raise ConfigError(f"convert keeps every group, so data.{name} means nothing here; `burnish pairs` filters")
    source = _read(run, data)
    count = write(source.groups, out, overwrite=overwrite)
    typer.echo(f"{count:,} group{'s' * (count != 1)} read as {source.format} {source.note}, written to {out}")
    for line in left_out(source):
        typer.echo(line)


def pairs(data: Source, out: Target, settings: Settings = None, overwrite: Overwrite = False) -> None:
    """Make pairs by a named rule (pairs.*), and filter them (data.*); each pair remembers where it comes from.

    Lengths are in the tokens of model.path, where it is given, else in characters.
    """
    from burnish.data import filters
    from burnish.data.convert import write
    from burnish.data.load import left_out, rule_of
    from burnish.data.pairing import characters, make_pairs

    run = configuration.load_partly(None, settings or [])
    rule, renderer = rule_of(run.pairs), _renderer(run)
    length = renderer.answer_length if renderer else characters
    source = _read(run, data)
    made = list(make_pairs(source.groups, rule, length))
    kept, notes = filters.apply(made, filters.SelectSettings.of(run.data), length, run.seed)
    count = write(kept, out, overwrite=overwrite)
    of = len(source.groups)
    pair_words, group_words = f"{count:,} pair{'s' * (count != 1)}", f"{of:,} group{'s' * (of != 1)}"
    typer.echo(f"{rule.describe()}\n{pair_words} of {group_words}, written to {out}")
    for line in [*left_out(source), *filter(None, notes)]:
        typer.echo(line)


def formats() -> None:
    """The formats that can be read, and how each is recognised."""
    from burnish.data.readers import READERS

    for name, reader in READERS.items():
        lines = (reader.__doc__ or "").strip().splitlines()
        typer.echo(f"{name:20} {lines[0] if lines else ''}")


def register(app: typer.Typer) -> None:
    """Hang the verbs on the command line."""
    for verb in (audit, show, pairs, convert, formats):
        app.command()(verb)

"""The verb that puts prompts to models: ask."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from burnish import config as configuration
from burnish.cli.frame import explained, quiet
from burnish.errors import ConfigError
from burnish.findings import counted, printable

if TYPE_CHECKING:
    from burnish.evals.ask import Replies

NARROWEST = 40  # columns for an answer beside others; in fewer the answers stand below each other

Words = Annotated[list[str], typer.Argument(metavar="MODEL... [key=value]...", show_default=False)]


def ask(
    words: Words,
    prompt: Annotated[str, typer.Option(help="the prompt; without it lines are read until the input ends")] = "",
    system: Annotated[str, typer.Option(help="a system turn in front of it")] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="answers of each model")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0: the likeliest token; default 0, and 1 where -k is above 1")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="an answer that has not ended by then is cut")] = 256,
    seed: Annotated[int, typer.Option(help="the same seed draws by the same numbers for every model")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="a line of JSON for each prompt")] = False,
) -> None:
    """Put one prompt to one or several models, side by side.

    MODEL: a model's or an adapter's folder, a hub name, a run's folder, or RUN/checkpoints/step-N.
    """
    settings = [word for word in words if "=" in word and not Path(word).exists()]
    paths = [word for word in words if word not in settings]
    if not paths:
        raise ConfigError("name at least one model to ask: a folder, a hub name, or a run's folder")
    if temperature == 0 and k > 1:
        raise ConfigError(f"-k {k} with --temperature 0 would be the same answer {k} times; raise the temperature")
    with explained():
        run = configuration.load_partly(None, settings)
        quiet()
        from burnish.answers.sampler import Decoding
        from burnish.evals import ask as asking

        heat = (1.0 if k > 1 else 0.0) if temperature is None else temperature
        decoding = Decoding(max_new_tokens, heat)
        models = [asking.Respondent(place) for place in asking.places(paths, run)]
        for text in _prompts(prompt):
            asked = [model(asking.question(text, system), k, decoding, seed) for model in models]
            _show(text, asked, as_json)


def _prompts(given: str) -> Iterator[str]:
    """The prompt, or each line that a person types; a text from a pipe is one prompt."""
    if given:
        yield given
    elif not sys.stdin.isatty():
        if not (text := sys.stdin.read().strip()):
            raise ConfigError("there is nothing to ask: give --prompt, or a prompt on the standard input")
        yield text
    else:
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                return
            if line:
                yield line


def _show(text: str, asked: Sequence[Replies], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"prompt": text, "answers": [_as_json(answers) for answers in asked]}, ensure_ascii=False))
        return
    console = Console(highlight=False)
    beside = console.is_terminal and len(asked) > 1 and console.width // len(asked) >= NARROWEST
    width = console.width // len(asked) if beside else None
    for number in range(len(asked[0].texts)):
        panels = [_panel(answers, number, width) for answers in asked]
        if not console.is_terminal:
            for answers in asked:
                console.print(Text(_plain(answers, number)), soft_wrap=True)
        elif beside:
            from rich.columns import Columns

            console.print(Columns(panels, padding=0))
        else:
            console.print(*panels, sep="\n")


def _panel(answers: Replies, number: int, width: int | None) -> Panel:
    return Panel(Text(printable(answers.texts[number])), title=Text(answers.model), title_align="left",
                 subtitle=_about(answers, number), subtitle_align="left", width=width)  # fmt: skip


def _plain(answers: Replies, number: int) -> str:
    return f"{answers.model} ({_about(answers, number)})\n{printable(answers.texts[number])}\n"


def _about(answers: Replies, number: int) -> str:
    """How long an answer is, whether it was cut, and how fast the model answers."""
    sampled = answers.sampled[number]
    cut = ", cut" if sampled.finish == "length" else ""
    return f"{counted(len(sampled.ids), 'token')}{cut}, {answers.tokens / max(answers.seconds, 1e-9):.0f} a second"


def _as_json(answers: Replies) -> dict[str, Any]:
    return {
        "model": answers.model, "texts": list(answers.texts), "finish": [s.finish for s in answers.sampled],
        "tokens": [len(s.ids) for s in answers.sampled], "seconds": round(answers.seconds, 3),
    }  # fmt: skip


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(ask)

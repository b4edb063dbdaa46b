"""What surrounds a verb on the command line: other libraries kept quiet, every failure reported in a sentence."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from burnish.errors import BurnishError, out_of_memory

Settings = Annotated[list[str] | None, typer.Argument(metavar="[RUN.toml] [key=value]...", show_default=False)]


def file_and_words(settings: list[str] | None) -> tuple[str | None, list[str]]:
    """(the TOML file, which is an optional first word without '='; the overrides)."""
    words = list(settings or [])
    is_file = bool(words) and ("=" not in words[0] or Path(words[0]).is_file())  # runs/lr=1e-6/config.toml is a file
    return (words[0], words[1:]) if is_file else (None, words)


def quiet() -> None:
    """transformers' own warnings and bars would bury what burnish has to say."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def reported_once() -> Iterator[None]:
    """Around what every process under torchrun refuses alike: the first process reports it, the others leave."""
    try:
        yield
    except BurnishError as error:
        if os.environ.get("RANK", "0") != "0":
            raise typer.Exit(error.exit_code) from None
        raise


@contextmanager
def explained(run_dir: Path | None = None) -> Iterator[None]:
    """Around a verb: an interruption is a sentence and 130 (75: a cluster asked), the unforeseen is saved and 1."""
    try:
        yield
    except (BurnishError, BrokenPipeError):
        raise
    except KeyboardInterrupt as stopped:
        saved = "; what was saved before is in the run's folder" if run_dir else ""
        typer.echo(f"burnish: {str(stopped) or f'stopped at once{saved}'}", err=True)
        raise typer.Exit(getattr(stopped, "exit_code", 130)) from None
    except Exception as error:
        if os.environ.get("BURNISH_DEBUG"):
            raise
        raise typer.Exit(report_unforeseen(error, run_dir)) from None


def report_unforeseen(error: Exception, run_dir: Path | None = None) -> int:
    """Say what happened in one line, keep the traceback in the run's folder or here; returns the exit code."""
    if out_of_memory(error):
        advice = (
            "lower engine.token_budget or set engine.gradient_checkpointing=true, which change no result; "
            "or drop the longest groups with data.max_length"
        )
        print(f"burnish: out of memory: {advice}", file=sys.stderr)
        return 3
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or run_dir or Path.cwd()
        print(f"burnish: {place}: {error.strerror}; free some space and start it again", file=sys.stderr)
        return 2
    begun = run_dir is not None and (run_dir / "config.toml").exists()
    file = run_dir / "defect.txt" if run_dir is not None and begun else Path("burnish-defect.txt")
    try:
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        where = f"; the details are in {file}"
    except OSError:
        where = "; set BURNISH_DEBUG=1 to see the details"
    message = f"burnish: a defect of burnish, not of your input: {type(error).__name__}: {error}{where}"
    print(message, file=sys.stderr)
    return 1

"""What a person sees while something takes its time: a live display on a terminal, plain lines on a pipe.

One display for training, for the work before its first step, for scoring, for audits and for the built-in world.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from burnish.runlog.records import StepRecord, scalars

LABELS = {
    "loss": "loss",
    "reward": "reward",
    "gold": "gold",
    "kl/answer": "KL",
    "length": "length",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logratio/chosen": "chosen log-ratio",
    "logratio/rejected": "rejected log-ratio",
    "length/chosen": "chosen length",
    "length/rejected": "rejected length",
    "imbalance": "imbalance",
}  # of the metrics that are displayed, in this order
PLAIN_SECONDS = 5.0  # between two lines on a pipe


class _Output(Console):
    """A console whose reader may leave (`| head`): the run goes on without it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Progress:
    """`update` after each optimiser step, `stage` for other work that can be counted, `doing` for work that cannot, and
    `note` for a sentence that stays.

    On a terminal the display changes in place and is gone when it is closed; on a pipe a line comes every five seconds,
    and at the first and the last of what is counted. `total` is the number of optimiser steps.
    """

    def __init__(self, total: int = 0, *, live: bool | None = None, silent: bool = False, stderr: bool = False) -> None:
        self.total = total
        self.console = _Output(highlight=False, soft_wrap=True, quiet=silent, stderr=stderr)
        terminal = (sys.stderr if stderr else sys.stdout).isatty() if live is None else live
        self._live = None
        if terminal and not silent:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
        self._first: int | None = None
        self._tokens = 0
        self._seconds = 0.0
        self._printed = time.perf_counter()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def doing(self, text: str) -> None:
        self.display(text, text)

    def stage(self, name: str, unit: str = "groups") -> Stage:
        return Stage(self, name, unit)

    def update(self, record: StepRecord, refresh: Mapping[str, float]) -> None:
        """An optimiser step is done; `refresh` holds the metrics of the newest refresh, if there was one."""
        step, metrics = record.step, {**refresh, **scalars(record)}
        self._first = step if self._first is None else self._first
        self._tokens += record.tokens
        self._seconds += record.seconds
        rate = self._tokens / max(self._seconds, 1e-9)
        left = clock((self.total - step) * self._seconds / (step - self._first + 1))
        values = {label: metrics[name] for name, label in LABELS.items() if name in metrics}
        table = Table.grid(padding=(0, 2))
        table.add_row("step", f"{step}/{self.total}", f"{rate:,.0f} tokens/s", f"{left} left")
        for label, value in values.items():
            table.add_row(label, f"{value:.4f}")
        numbers = ", ".join(f"{label} {value:.4g}" for label, value in values.items())
        line = f"step {step}/{self.total}: {numbers}; {rate:,.0f} tokens/s, {left} left"
        self.display(table, line, always=step in (self._first, self.total))

    def display(self, live: RenderableType, line: str, *, always: bool = False) -> None:
        """Show `live` on a terminal, or print `line` on a pipe where it is time for one."""
        now = time.perf_counter()
        if self._live:
            self._live.update(live)
        elif always or now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            self.note(line)


class Stage:
    """Work that is counted: called with how much is done, it displays the rate and, where the total is known, the time
    that is left."""

    def __init__(self, progress: Progress, name: str, unit: str) -> None:
        self.progress, self.name, self.unit = progress, name, unit
        self.done = 0
        self.began = time.perf_counter()

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        self.done = done
        rate = done / max(time.perf_counter() - self.began, 1e-9)
        count = f"{done:,}" if total is None else f"{done}/{total}"
        parts = [f"{self.name}: {count} {self.unit}", *([note] if note else []), f"{rate:,.1f}/s"]
        if total is not None:
            parts.append(f"{clock((total - done) / max(rate, 1e-9))} left")
        text = ", ".join(parts)
        self.progress.display("" if done == total else text, text, always=done == total)

    def add(self, count: int) -> None:
        """So much more is done, of a total that is not known."""
        self(self.done + count)


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` under an hour."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

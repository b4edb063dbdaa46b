"""What a person sees while a run goes on: a live display on a terminal, plain lines on a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table

from burnish.runlog.records import StepRecord, scalars

SHOWN = {
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
}
PLAIN_SECONDS = 5.0


class _Lines(Console):
    """A console whose reader may leave (`| head`): the run goes on without it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """`update` once a step, `note` for a sentence, `stage` for work before the first step."""

    def __init__(self, total: int, *, live: bool | None = None, silent: bool = False) -> None:
        self.total = total
        self.console = _Lines(highlight=False, soft_wrap=True, quiet=silent)
        wanted = not silent and (sys.stdout.isatty() if live is None else live)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True) if wanted else None
        self._began = time.perf_counter()
        self._first: int | None = None
        self._tokens = 0
        self._seconds = 0.0
        self._spoke = 0.0

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """A callback `(done, total)` that reports a stage's rate and time left."""
        began = time.perf_counter()

        def advance(done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - began, 1e-9)
            text = f"{name}: {done}/{total} groups, {rate:.1f}/s, {clock((total - done) / max(rate, 1e-9))} left"
            if self._live:
                self._live.update(text if done < total else "")
            elif self._due(done == total):
                self.note(text)

        return advance

    def update(self, record: StepRecord, refresh: Mapping[str, float]) -> None:
        """A step is done; `refresh` holds the metrics of the newest refresh, if there was one."""
        step, metrics = record.step, {**refresh, **scalars(record)}
        self._first = step if self._first is None else self._first
        self._tokens += record.tokens
        self._seconds += record.seconds
        rate = self._tokens / max(self._seconds, 1e-9)
        left = clock((self.total - step) * self._seconds / (step - self._first + 1))
        if self._live:
            table = Table.grid(padding=(0, 2))
            table.add_row("step", f"{step}/{self.total}", f"{rate:,.0f} tokens/s", f"{left} left")
            for name, label in SHOWN.items():
                if name in metrics:
                    table.add_row(label, f"{metrics[name]:.4f}")
            self._live.update(table)
        elif self._due(step == self.total or step == self._first):
            numbers = ", ".join(f"{label} {metrics[name]:.4g}" for name, label in SHOWN.items() if name in metrics)
            self.note(f"step {step}/{self.total}: {numbers}; {rate:,.0f} tokens/s, {left} left")

    def _due(self, always: bool) -> bool:
        now = time.perf_counter()
        if not always and now - self._spoke < PLAIN_SECONDS:
            return False
        self._spoke = now
        return True


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` under an hour."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

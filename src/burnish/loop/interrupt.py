"""Ctrl-C and a cluster's signals: the step that runs is finished and saved before the run is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PREEMPTED = 75  # exit code after SIGTERM and SIGUSR1: not done, to be started again with run.resume=true


class Interrupted(KeyboardInterrupt):
    """Asked to stop, after the step was finished and saved; the message says how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 130 if number == signal.SIGINT else PREEMPTED


@contextmanager
def signals_collected(numbers: list[int], note: Callable[[str], None], *, patient: bool) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGUSR1 is put into `numbers` and noted; a second one interrupts at once.
    `patient`: but for the one that torchrun passes on of the same Ctrl-C, which arrives with it."""
    arrived = time.monotonic()

    def collect(number: int, frame: Any) -> None:
        nonlocal arrived
        if numbers and not (patient and time.monotonic() - arrived < 1):
            raise KeyboardInterrupt
        arrived = time.monotonic()
        if not numbers:
            note("asked to stop: this step is finished and saved first; ask again to stop at once")
        numbers.append(number)

    try:
        before = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    except ValueError:  # not the main thread: no signals reach us
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

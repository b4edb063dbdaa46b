"""Prompts that raters ask themselves: both models answer, and both answers appear at one pace."""

from __future__ import annotations

import json
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from burnish.errors import BurnishError
from burnish.group import Turns
from burnish.vote.records import BallotPair, Task
from burnish.vote.store import Ballot, new_id

Answers = Callable[[Turns, int, int, int], tuple[str, str]]  # prompt, the two models' places, seed -> their answers
PIECES = 40  # in which an answer appears
PACE = 0.05  # seconds between two pieces
KEPT = 64  # requests that are remembered


@dataclass
class _Request:
    """Two answers on their way. `ready` is set once there are both, or an error."""

    rater: int
    turns: Turns
    models: tuple[int, int]
    seed: int
    ready: threading.Event = field(default_factory=threading.Event)
    answers: tuple[str, str] | None = None
    error: str = ""


class LiveAnswers:
    """Answers prompts one after the other in a thread of its own, since a model answers one at a time."""

    def __init__(self, ballot: Ballot, answers: Answers) -> None:
        self.ballot, self.answers = ballot, answers
        self.count = len(ballot.models())
        self._requests: dict[str, _Request] = {}
        self._queue: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, rater: int, prompt: str) -> str:
        """Have a prompt of the rater's own answered by two models; the id under which the answers are streamed."""
        first = secrets.randbelow(self.count)
        second = (first + 1 + secrets.randbelow(self.count - 1)) % self.count
        return self._enter(_Request(rater, prompt, (min(first, second), max(first, second)), secrets.randbits(31)))

    def again(self, rater: int, task: Task) -> str:
        """Have a task's prompt answered anew by the same two models."""
        with self.ballot.reading() as db:
            row = db.execute("SELECT a, b FROM pairs WHERE id = ?", (task.pair,)).fetchone()
        return self._enter(_Request(rater, task.turns, (row["a"], row["b"]), secrets.randbits(31)))

    def _enter(self, request: _Request) -> str:
        name = new_id()
        self._requests[name] = request
        for old in list(self._requests)[:-KEPT]:
            del self._requests[old]
        self._queue.put(name)
        return name

    def _work(self) -> None:
        while True:
            request = self._requests.get(self._queue.get())
            if request is None:
                continue
            try:
                request.answers = self.answers(request.turns, *request.models, request.seed)
            except BurnishError as error:
                request.error = str(error)
            except Exception as error:  # of a model, whatever it is: the ballot goes on
                request.error = f"the models could not answer ({type(error).__name__})"
            request.ready.set()

    def stream(self, rater: int, name: str) -> Iterator[str]:
        """Events for the page: that one waits; then both answers in pieces, side by side; then that they are there.

        Nothing is sent of one answer before the other is finished, and both appear in the same number of pieces, so
        that speed names nobody.
        """
        request = self._requests.get(name)
        if request is None or request.rater != rater:
            yield _event({"error": "these answers are not there any more"})
            return
        began = time.monotonic()
        while not request.ready.wait(1.0):
            yield _event({"waiting": round(time.monotonic() - began)})
        if request.answers is None:
            yield _event({"error": _nameless(request.error, self.ballot.models())})
            return
        del self._requests[name]
        swapped = bool(secrets.randbelow(2))
        pair = BallotPair(f"asked-{name}", request.turns, *request.models, *request.answers, origin="asked")
        self.ballot.add_asked(rater, pair, swapped)
        left, right = reversed(request.answers) if swapped else request.answers
        for piece in range(PIECES):
            yield _event({"left": _piece(left, piece), "right": _piece(right, piece)})
            time.sleep(PACE)
        yield _event({"done": True})


def _piece(text: str, number: int) -> str:
    return text[len(text) * number // PIECES : len(text) * (number + 1) // PIECES]


def _event(values: object) -> str:
    return f"data: {json.dumps(values)}\n\n"


def _nameless(error: str, models: list[str]) -> str:
    """An error without the models' names in it."""
    return "the models could not answer" if any(name in error for name in models) else error

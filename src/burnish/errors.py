"""What can go wrong, drawn as a tree. Every message is a sentence for people: what, where, what to do.

    BurnishError              exit code 2 unless a child says otherwise
    |-- ConfigError           a key, a value, or a combination that cannot be meant
    |-- DataError             a file or a row that cannot be trained on
    |-- ModelError            a model folder or architecture that cannot be used as asked
    |-- JudgeError            judges or samplers that cannot be reached, or that judge nothing
    |-- StoreError            a folder that cannot be written, or holds something else
    |-- VotesWanted           people are to vote before a run goes on; exit code 76
    `-- TrainingError         the run itself went wrong (non-finite loss, failed self-check); exit code 3

Interruption by the user is not an error: the command line reports it and exits with 130.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class BurnishError(Exception):
    """Any condition burnish explains to a person; the command line prints it without a traceback."""

    exit_code = 2


class ConfigError(BurnishError):
    """A key, a value, or a combination in the configuration that cannot be meant."""


class DataError(BurnishError):
    """A file or a row that cannot be trained on; the message names the file and the row."""


class ModelError(BurnishError):
    """A model folder or an architecture that cannot be used as asked."""


class JudgeError(BurnishError):
    """A judge that judges nothing at all, or that cannot be reached."""


class StoreError(BurnishError):
    """A folder or disk that cannot be written, or already holds something else."""


class VotesWanted(BurnishError):
    """A run's answers wait for people's votes: nothing went wrong, and the run goes on once they are there."""

    exit_code = 76

    def __init__(self, path: Path, voted: int, needed: int, advice: str) -> None:
        super().__init__(f"{path} waits for votes, {voted} of {needed} so far. {advice}")
        self.path, self.voted, self.needed = path, voted, needed


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what Python, torch on a GPU or torch on a CPU raises when memory runs out."""
    kinds = isinstance(error, MemoryError), type(error).__name__ == "OutOfMemoryError", "allocate memory" in str(error)
    return any(kinds)


class TrainingError(BurnishError):
    """The run itself went wrong: a loss that is not finite, or a self-check that failed."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "", cutoff: float = 0.6) -> str:
    """`; did you mean 'x'?` with the name nearest to what was given, or nothing where none is near.

    `prefix` stands before the name that is shown. `cutoff` is difflib's: 1 is the same word, 0 takes any.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean '{prefix}{near[0]}'?" if near else ""

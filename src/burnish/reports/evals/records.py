"""The records of an evaluation, a JSON object a line, and the files in its folder that hold them.

    eval.toml             the resolved configuration
    answers/MODEL.jsonl   what a model wrote
    judgements/SUITE.jsonl  what was said of it
    outcomes.jsonl        a number for each suite, model and prompt: what every figure is made from
    results.json          the figures
    report.html           the page

A record's `key` is a hash of everything that decides it, so that an evaluation that goes on asks nothing twice, and one
with other settings takes nothing that does not fit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from burnish.errors import DataError, StoreError


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """An answer of a model. `tokens` is None where nobody counted them; `finish` is "stop", "length", or empty.

    `asked` is the prompt as people read it, `sample` its id in the file of prompts.
    """

    key: str
    prompt: str
    number: int
    text: str
    tokens: int | None = None
    finish: str = ""
    asked: str = ""
    sample: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of the answers to a prompt: numbers, one an answer or one an order; or why it said nothing."""

    key: str
    values: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SuiteOutcome:
    """A number that a suite found of a model at a prompt (or text, or document).

    `metric` names it. `draw` numbers the answers to a prompt. `length` is the answer's in characters, or a text's in
    tokens; 0 where there is neither. `answer` is the key of the answer that it is about, `other` of the baseline's.
    """

    suite: str
    kind: str
    model: str
    prompt: str
    metric: str
    value: float
    draw: int = 0
    length: float = 0.0
    answer: str = ""
    other: str = ""


RecordT = TypeVar("RecordT", ModelAnswer, Judgement)


class Kept(Generic[RecordT]):
    """Records by key in a file: read once, appended a line at a time. A line cut short by a crash is passed over."""

    def __init__(self, file: Path, kind: type[RecordT]) -> None:
        self.file = file
        self.known: dict[str, RecordT] = {}
        if file.exists():
            for row in _rows(file):
                try:
                    record = kind(**{**row, "values": tuple(row["values"])} if "values" in row else row)
                except (TypeError, KeyError):
                    continue  # of another version
                self.known[record.key] = record

    def get(self, key: str) -> RecordT | None:
        return self.known.get(key)

    def add(self, records: Iterable[RecordT]) -> None:
        """Append records. Raises StoreError where the file cannot be written."""
        new = [record for record in records if record.key not in self.known]
        text = "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in new)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            _end_line(self.file)
            with self.file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
        except OSError as error:
            raise StoreError(f"{self.file} cannot be written: {error.strerror}. Free some space") from None
        self.known |= {record.key: record for record in new}


def _end_line(file: Path) -> None:
    """What a crash left of a line must not become part of the next."""
    if file.exists() and file.stat().st_size:
        with file.open("rb+") as stream:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from None
    for line in text.split("\n"):  # not splitlines, which also ends lines at U+2028
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def write_outcomes(folder: Path, outcomes: Iterable[SuiteOutcome]) -> None:
    """Write outcomes.jsonl anew. Raises StoreError."""
    write_whole(folder / "outcomes.jsonl", "".join(json.dumps(asdict(o), ensure_ascii=False) + "\n" for o in outcomes))


def read_outcomes(folder: Path) -> list[SuiteOutcome]:
    """The outcomes of an evaluation's folder. Raises DataError where it holds none."""
    file = folder / "outcomes.jsonl"
    if not file.exists():
        raise DataError(f"{file} is missing: is {folder} the folder of an evaluation that has come to its end?")
    try:
        return [SuiteOutcome(**row) for row in _rows(file)]
    except TypeError as error:
        raise DataError(f"{file} holds a line that is no outcome: {error}") from None


def read_results(folder: Path) -> Mapping[str, Any]:
    """The figures of an evaluation's folder. Raises DataError where it holds none."""
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'results.json'} cannot be read ({error}); `burnish eval` writes it") from None
    if not isinstance(results, dict) or not {"models", "suites"} <= set(results):
        raise DataError(f"{folder / 'results.json'} holds no results of an evaluation")
    return results


def write_whole(file: Path, text: str) -> None:
    """Replace a file at once: who is killed meanwhile leaves the old one. Raises StoreError."""
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror or error}. Free some space") from None

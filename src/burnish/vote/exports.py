"""A ballot's votes in the forms that burnish and other tools read.

groups    burnish's own record, a line a pair: `audit`, `pairs` and `train` read it
arena     a line a vote, as arena votes
scores    Inspect's `precomputed_scores`: a line a vote, the second model's outcome
csv       a row a vote, for a spreadsheet
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from burnish.data.readers.ballot import ballot_rows
from burnish.errors import ConfigError, DataError, StoreError, did_you_mean
from burnish.vote.store import Ballot

COLUMNS = ("prompt", "model_a", "model_b", "choice", "rater", "at", "seconds", "note", "flagged", "reasons")
OUTCOME = {"a": 0.0, "b": 1.0}  # of the second model; anything else is one half
Votes = Iterator[tuple[dict[str, Any], dict[str, Any]]]  # the pair's record, one of its votes


def export(ballot: Ballot, form: str, out: Path) -> int:
    """Write the votes in a form; how many lines. Raises ConfigError, StoreError, or DataError without votes."""
    if form not in FORMS:
        raise ConfigError(f"there is no form '{form}'{did_you_mean(form, FORMS)}. They are: {', '.join(FORMS)}")
    records = [record for _, record in ballot_rows(ballot.path)]
    if not records:
        raise DataError(f"{ballot.path} holds no vote yet")
    text = FORMS[form](records)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}") from None
    return len(records) if form == "groups" else sum(len(record["meta"]["votes"]) for record in records)


def _groups(records: list[dict[str, Any]]) -> str:
    return _lines(records)


def _arena(records: list[dict[str, Any]]) -> str:
    names = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}
    return _lines(
        [
            {"model_a": record["completions"][0]["model"], "model_b": record["completions"][1]["model"],
             "winner": names[vote["choice"]], "judge": vote["rater"], "tstamp": vote["at"], "turn": _turns(record),
             "conversation_a": _conversation(record, 0), "conversation_b": _conversation(record, 1)}
            for record, vote in _votes(records)
        ]
    )  # fmt: skip


def _scores(records: list[dict[str, Any]]) -> str:
    rows = []
    numbers: dict[int, int] = {}
    for record, vote in _votes(records):
        numbers[id(record)] = numbers.get(id(record), 0) + 1
        rows.append(
            {"id": _asked(record), "epoch": numbers[id(record)], "value": OUTCOME.get(vote["choice"], 0.5),
             "answer": record["completions"][1]["messages"][0]["content"],
             "metadata": {"model": record["completions"][1]["model"], "against": record["completions"][0]["model"],
                          "rater": vote["rater"], "note": vote["note"]}}
        )  # fmt: skip
    return _lines(rows)


def _csv(records: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    for record, vote in _votes(records):
        row = {"prompt": _asked(record), "model_a": record["completions"][0]["model"],
               "model_b": record["completions"][1]["model"], **vote, "reasons": "; ".join(vote["reasons"])}  # fmt: skip
        writer.writerow({name: _harmless(row[name]) for name in COLUMNS})
    return stream.getvalue()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet takes for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _votes(records: list[dict[str, Any]]) -> Votes:
    return ((record, vote) for record in records for vote in record["meta"]["votes"])


def _asked(record: dict[str, Any]) -> str:
    prompt = record["prompt"]
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def _turns(record: dict[str, Any]) -> int:
    """The number of the answer that was voted on, in its conversation."""
    prompt = record["prompt"]
    return 1 if isinstance(prompt, str) else 1 + sum(turn["role"] == "assistant" for turn in prompt)


def _conversation(record: dict[str, Any], side: int) -> list[dict[str, Any]]:
    prompt = record["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*turns, *record["completions"][side]["messages"]]


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


FORMS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "groups": _groups, "arena": _arena, "scores": _scores, "csv": _csv,
}  # fmt: skip

"""A ballot's file -> its voted pairs as rows of burnish's own record: what people voted, with rater and time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from burnish.errors import DataError

MAGIC = b"SQLite f"  # how the file begins
APPLICATION = 0x6275726E  # "burn", where SQLite keeps an application's number


def ballot_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pair that was voted on: `preferences` with the number of votes as weight; ties alone make it unjudged.

    `meta.votes` lists the votes: choice, rater, time, note, reasons. Hidden repeats are left out. Raises DataError
    where the file is no ballot.
    """
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=15.0)) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                raise DataError(f"{file} is an SQLite file, and no ballot of burnish")
            db.row_factory = sqlite3.Row
            for number, row in enumerate(db.execute("SELECT * FROM voted_pairs"), 1):
                yield f"{file}:{number}", _record(row)
    except sqlite3.Error as error:
        raise DataError(f"{file} cannot be read as a ballot: {error}") from error


def _record(row: sqlite3.Row) -> dict[str, Any]:
    votes = json.loads(row["votes"])
    counts = [sum(vote["choice"] == side for vote in votes) for side in "ab"]
    record: dict[str, Any] = {
        "prompt": json.loads(row["turns"]),
        "completions": [
            {"messages": [{"role": "assistant", "content": row[f"answer_{side}"]}], "model": row[f"model_{side}"]}
            for side in "ab"
        ],
        "meta": {**json.loads(row["meta"]), "votes": votes, "origin": row["origin"]},
    }
    triples = [[winner, 1 - winner, float(count)] for winner, count in enumerate(counts) if count]
    if triples:
        record["preferences"] = triples
    else:
        record["unjudged"] = "a tie"
    return record

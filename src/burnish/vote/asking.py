"""Which pair a rater sees next, and on which side which answer."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Sequence

import numpy as np

from burnish.stats import next_pair, ranking
from burnish.vote.records import Settings, Task, outcome_of
from burnish.vote.store import Ballot, new_id, read_turns

BLOCK = 4  # of a rater's tasks: two have b on the left
APART = 5  # tasks between a pair and its hidden repeat, at least
ABANDONED = 1800.0  # seconds after which a task that was given and not answered is given to another rater


def next_task(ballot: Ballot, rater: int) -> Task | None:
    """The rater's open task, or a new one; None where nothing is left for this rater, or the ballot is closed.

    A pair is given to as many raters as `overlap` wants, to nobody twice; those that have votes already come first, so
    that prompts are completed one by one. With several pairs of models it is the pair whose vote would narrow the
    ranking most. Every so often (`repeats`) an earlier pair comes again with its sides swapped.
    """
    settings = ballot.settings()
    if settings["closed"] is not None:
        return None
    with ballot.writing() as db:
        row = db.execute("SELECT id FROM tasks WHERE rater = ? AND state = 'open'", (rater,)).fetchone()
        if row is None:
            row = _repeat(db, rater, settings) or _new(db, rater, settings)
        return None if row is None else _task(db, rater, row["id"], settings)


def _repeat(db: sqlite3.Connection, rater: int, settings: Settings) -> sqlite3.Row | None:
    """A hidden repeat of one of the rater's votes, where one is due."""
    votes = db.execute(
        "SELECT tasks.id, pair, swapped, repeats FROM votes JOIN tasks ON tasks.id = votes.task "
        "WHERE rater = ? ORDER BY at", (rater,)
    ).fetchall()  # fmt: skip
    first = [row for row in votes if row["repeats"] is None]
    again = {row["repeats"] for row in votes if row["repeats"] is not None}
    ripe = [row for row in first[:-APART] if row["id"] not in again]
    if not ripe or len(again) >= int(settings["repeats"] * len(first)):
        return None
    chosen = ripe[secrets.randbelow(len(ripe))]
    return _give(db, rater, chosen["pair"], not chosen["swapped"], chosen["id"])


def _new(db: sqlite3.Connection, rater: int, settings: Settings) -> sqlite3.Row | None:
    """A pair that the rater has not had, and that wants votes."""
    rows = db.execute(
        "SELECT pairs.id, a, b, place, COUNT(tasks.id) AS had FROM pairs LEFT JOIN tasks "
        "ON tasks.pair = pairs.id AND tasks.repeats IS NULL "
        "AND (tasks.state = 'voted' OR (tasks.state = 'open' AND tasks.given > ?)) "
        "WHERE pairs.rater IS NULL AND NOT pairs.alike "
        "AND NOT EXISTS (SELECT 1 FROM tasks AS own WHERE own.pair = pairs.id AND own.rater = ?) "
        "GROUP BY pairs.id HAVING COUNT(tasks.id) < ? ORDER BY COUNT(tasks.id) > 0 DESC, place",
        (time.time() - ABANDONED, rater, settings["overlap"]),
    ).fetchall()
    if not rows:
        return None
    kinds = list(dict.fromkeys((row["a"], row["b"]) for row in rows))
    if len(kinds) > 1 and not settings.get("round"):  # a run's answers are no models to be ranked
        kind = _narrowing(db, kinds)
        rows = [row for row in rows if (row["a"], row["b"]) == kind]
    return _give(db, rater, rows[0]["id"], _side(db, rater), None)


def _narrowing(db: sqlite3.Connection, kinds: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The pair of models whose vote would narrow the ranking most; while little is known, the one with fewest votes."""
    votes = db.execute(
        "SELECT a, b, swapped, choice, prompt FROM votes JOIN tasks ON tasks.id = votes.task "
        "JOIN pairs ON pairs.id = tasks.pair WHERE repeats IS NULL"
    ).fetchall()
    counts = {kind: sum((row["a"], row["b"]) == kind for row in votes) for kind in kinds}
    fewest = min(kinds, key=lambda kind: counts[kind])
    if counts[fewest] < 2:
        return fewest
    models = db.execute("SELECT COUNT(*) AS n FROM models").fetchone()["n"]
    a, b = (np.array([row[side] for row in votes], dtype=np.int64) for side in "ab")
    outcomes = np.array([outcome_of(row["choice"], bool(row["swapped"])) for row in votes])
    _, clusters = np.unique([row["prompt"] for row in votes], return_inverse=True)
    return next_pair(ranking(a, b, outcomes, clusters.astype(np.int64), models), list(kinds))


def _side(db: sqlite3.Connection, rater: int) -> bool:
    """Whether b is on the left: drawn, and balanced in each block of the rater's tasks."""
    rows = db.execute(
        "SELECT swapped FROM tasks WHERE rater = ? AND repeats IS NULL ORDER BY given, id", (rater,)
    ).fetchall()
    block = [row["swapped"] for row in rows[len(rows) - len(rows) % BLOCK :]]
    left = BLOCK // 2 - sum(block)  # of the block's swapped ones
    return secrets.randbelow(BLOCK - len(block)) < int(left)


def _give(db: sqlite3.Connection, rater: int, pair: int, swapped: bool, repeats: str | None) -> sqlite3.Row:
    task = new_id()
    db.execute(
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, 'open', ?)", (task, rater, pair, int(swapped), repeats, time.time())
    )
    row: sqlite3.Row = db.execute("SELECT id FROM tasks WHERE id = ?", (task,)).fetchone()
    return row


def _task(db: sqlite3.Connection, rater: int, task: str, settings: Settings) -> Task:
    """The task with its texts, and how far the rater is."""
    row = db.execute(
        "SELECT pair, swapped, turns, answer_a, answer_b FROM tasks JOIN pairs ON pairs.id = tasks.pair "
        "JOIN prompts ON prompts.id = pairs.prompt WHERE tasks.id = ?", (task,)
    ).fetchone()  # fmt: skip
    done = db.execute("SELECT COUNT(*) AS n FROM tasks WHERE rater = ? AND state != 'open'", (rater,)).fetchone()["n"]
    left, right = (row["answer_b"], row["answer_a"]) if row["swapped"] else (row["answer_a"], row["answer_b"])
    total = max(done + 1, done + _wanted(db, rater, settings))
    return Task(task, row["pair"], read_turns(row["turns"]), left, right, done + 1, total)


def _wanted(db: sqlite3.Connection, rater: int, settings: Settings) -> int:
    """Pairs that the rater may still be given, this one included."""
    row = db.execute(
        "SELECT COUNT(*) AS n FROM pairs WHERE rater IS NULL AND NOT alike AND NOT EXISTS (SELECT 1 FROM tasks AS own "
        "WHERE own.pair = pairs.id AND own.rater = ? AND own.state != 'open') AND (SELECT COUNT(*) FROM tasks "
        "WHERE tasks.pair = pairs.id AND repeats IS NULL AND state = 'voted') < ?", (rater, settings["overlap"])
    ).fetchone()  # fmt: skip
    return int(row["n"])

"""The ballot: one SQLite file with prompts, answers, raters, tasks and votes. Every change is one transaction."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from burnish.errors import StoreError
from burnish.group import Turns, turns, turns_to_json
from burnish.stats import asking_order
from burnish.vote.makers import names_maker
from burnish.vote.records import BallotPair, Reply, Settings, Vote, outcome_of

APPLICATION, VERSION = 0x6275726E, 1  # "burn"
BUSY = 15.0  # seconds that a writer waits for another


@dataclass(frozen=True)
class Ballot:
    """A ballot's file. Connections are opened for each call, so that threads and processes can share it."""

    path: Path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection. Raises StoreError where the file cannot be read or written, with the reason."""
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("PRAGMA synchronous = FULL")  # a vote that was acknowledged outlives a loss of power
                yield db
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be used: {error}; no vote that was acknowledged is lost") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file's write lock from its start; undone where an exception leaves it."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.rollback()
                raise
            db.commit()

    # ------------------------------------------------------------------------------------------------ settings

    def settings(self) -> Settings:
        with self.reading() as db:
            return {row["name"]: json.loads(row["value"]) for row in db.execute("SELECT name, value FROM settings")}

    def set(self, name: str, value: Any) -> None:
        with self.writing() as db:
            db.execute("REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def models(self) -> list[str]:
        with self.reading() as db:
            return [row["name"] for row in db.execute("SELECT name FROM models ORDER BY place")]

    # ------------------------------------------------------------------------------------------------ raters

    def rater(self, name: str) -> str:
        """The token of a rater, who is entered where the name is new."""
        with self.writing() as db:
            db.execute("INSERT OR IGNORE INTO raters (name, token) VALUES (?, ?)", (name, secrets.token_urlsafe(16)))
            return str(db.execute("SELECT token FROM raters WHERE name = ?", (name,)).fetchone()["token"])

    def begin_session(self, token: str) -> str | None:
        """A new session's secret for the rater with this token; None where nobody has it."""
        secret = secrets.token_urlsafe(32)
        with self.writing() as db:
            row = db.execute("SELECT id FROM raters WHERE token = ?", (token,)).fetchone()
            if row is None:
                return None
            db.execute("INSERT INTO sessions VALUES (?, ?)", (_digest(secret), row["id"]))
        return secret

    def rater_of(self, secret: str) -> int | None:
        """The rater whose session it is."""
        with self.reading() as db:
            row = db.execute("SELECT rater FROM sessions WHERE digest = ?", (_digest(secret),)).fetchone()
        return None if row is None else int(row["rater"])

    # ------------------------------------------------------------------------------------------------ votes

    def vote(self, rater: int, reply: Reply) -> bool:
        """Cast a vote on a rater's open task. False where it is not open, for it was cast before and counts once; and
        where the ballot is closed."""
        with self.writing() as db:
            if _closed(db):
                return False
            done = db.execute(
                "UPDATE tasks SET state = 'voted' WHERE id = ? AND rater = ? AND state = 'open'", (reply.task, rater)
            )
            if done.rowcount == 0:
                return False
            db.execute(
                "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?, ?)",
                (reply.task, reply.choice, reply.note, int(reply.flagged), json.dumps(list(reply.reasons)),
                 reply.seconds, time.time()),
            )  # fmt: skip
        return True

    def skip(self, rater: int, task: str) -> bool:
        """Pass over an open task of the rater's, for good. False as of a vote."""
        with self.writing() as db:
            if _closed(db):
                return False
            done = db.execute(
                "UPDATE tasks SET state = 'skipped' WHERE id = ? AND rater = ? AND state = 'open'", (task, rater)
            )
        return done.rowcount > 0

    def undo(self, rater: int) -> bool:
        """Take back the rater's last vote: its task is open again, and the one that was open is withdrawn. False where
        there is none, or the ballot is closed."""
        with self.writing() as db:
            if _closed(db):
                return False
            last = db.execute(
                "SELECT task FROM votes JOIN tasks ON tasks.id = votes.task WHERE rater = ? ORDER BY at DESC LIMIT 1",
                (rater,),
            ).fetchone()
            if last is None:
                return False
            db.execute("DELETE FROM tasks WHERE rater = ? AND state = 'open'", (rater,))
            db.execute("DELETE FROM votes WHERE task = ?", (last["task"],))
            db.execute("UPDATE tasks SET state = 'open', given = ? WHERE id = ?", (time.time(), last["task"]))
        return True

    def votes(self) -> list[Vote]:
        """Every vote, in the order cast."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT votes.*, tasks.swapped, tasks.repeats, raters.name AS rater_name, pairs.id AS pair_id, "
                "pairs.prompt AS prompt_id, pairs.a, pairs.b, pairs.names_maker, prompts.origin, prompts.kind, "
                "length(pairs.answer_a) AS length_a, length(pairs.answer_b) AS length_b "
                "FROM votes JOIN tasks ON tasks.id = votes.task JOIN raters ON raters.id = tasks.rater "
                "JOIN pairs ON pairs.id = tasks.pair JOIN prompts ON prompts.id = pairs.prompt "
                "ORDER BY votes.at, votes.task"
            ).fetchall()
        return [_vote(row) for row in rows]

    def pairs(self) -> list[sqlite3.Row]:
        """Every pair of the set, in the order of asking: id, prompt, a, b, alike, verdict, weight."""
        with self.reading() as db:
            return db.execute(
                "SELECT id, prompt, a, b, alike, verdict, weight FROM pairs WHERE rater IS NULL ORDER BY place"
            ).fetchall()

    def add_asked(self, rater: int, pair: BallotPair, swapped: bool) -> str:
        """Enter a pair that a rater asked for, and its task, which becomes the open one; its id."""
        with self.writing() as db:
            db.execute("DELETE FROM tasks WHERE rater = ? AND state = 'open'", (rater,))
            _insert(db, pair, place=0, rater=rater)
            key = db.execute("SELECT last_insert_rowid() AS id").fetchone()["id"]
            task = new_id()
            db.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?, NULL, 'open', ?)", (task, rater, key, int(swapped), time.time())
            )
        return task


def create(path: Path, models: Sequence[str], pairs: Sequence[BallotPair], settings: Mapping[str, Any]) -> Ballot:
    """Make a ballot's file, whole or not at all. Raises StoreError where there is one, or it cannot be written."""
    if path.exists():
        raise StoreError(f"{path} exists; open it with: burnish vote {path}, or name another file=...")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"file = {path} cannot be written: {error.strerror}") from None
    draft = Ballot(part)
    with draft.reading() as db:
        db.executescript(files("burnish.vote").joinpath("schema.sql").read_text(encoding="utf-8"))
        db.execute("BEGIN IMMEDIATE")
        values = {"organiser": secrets.token_urlsafe(16), "closed": None, "made": time.time(), **settings}
        db.executemany("INSERT INTO settings VALUES (?, ?)", [(name, json.dumps(v)) for name, v in values.items()])
        db.executemany("INSERT INTO models VALUES (?, ?)", list(enumerate(models)))
        for place, number in enumerate(_order(pairs, int(settings.get("seed", 0)))):
            _insert(db, pairs[number], place, None)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.commit()
    os.replace(part, path)
    ballot = Ballot(path)
    with ballot.reading() as db:
        db.execute("PRAGMA journal_mode = WAL")
    for name in settings.get("raters", ()):
        ballot.rater(name)
    return ballot


def open_ballot(path: Path) -> Ballot:
    """A ballot that was made before. Raises StoreError where the file is none, or is of another version."""
    if not path.is_file():
        raise StoreError(f"{path} does not exist; burnish vote makes one from models and prompts")
    with path.open("rb") as stream:
        if stream.read(16) != b"SQLite format 3\0":
            raise StoreError(f"{path} is no ballot: it is not an SQLite file")
    ballot = Ballot(path)
    with ballot.reading() as db:
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
    if application != APPLICATION:
        raise StoreError(f"{path} is an SQLite file, and no ballot of burnish")
    if version != VERSION:
        raise StoreError(f"{path} is a ballot of version {version}, and this burnish reads version {VERSION}")
    return ballot


def new_id() -> str:
    """A task's id: random, and the same length for all, so that it tells nothing."""
    return secrets.token_urlsafe(16)


def read_turns(text: str) -> Turns:
    return turns(json.loads(text), "ballot", "prompt")


def _order(pairs: Sequence[BallotPair], seed: int) -> list[int]:
    """The places of the pairs in the order of asking; those of one prompt follow one another in the order given."""
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    weights = {pair.prompt: pair.weight for pair in pairs}
    if not prompts:
        return []
    order = asking_order(np.array([weights[prompt] for prompt in prompts]), np.random.default_rng(seed))
    rank = {prompts[int(number)]: place for place, number in enumerate(order)}
    return sorted(range(len(pairs)), key=lambda number: (rank[pairs[number].prompt], number))


def _insert(db: sqlite3.Connection, pair: BallotPair, place: int, rater: int | None) -> None:
    text = json.dumps(turns_to_json(pair.turns), ensure_ascii=False)
    meta = json.dumps(dict(pair.meta), ensure_ascii=False, default=str)
    db.execute(
        "INSERT OR IGNORE INTO prompts VALUES (?, ?, ?, ?, ?)", (pair.prompt, text, pair.kind, meta, pair.origin)
    )
    named = names_maker(pair.answer_a) or names_maker(pair.answer_b)
    db.execute(
        "INSERT INTO pairs (prompt, a, b, answer_a, answer_b, alike, names_maker, verdict, weight, place, rater) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (pair.prompt, pair.a, pair.b, pair.answer_a, pair.answer_b, int(pair.is_alike), int(named), pair.verdict,
         pair.weight, place, rater),
    )  # fmt: skip


def _vote(row: sqlite3.Row) -> Vote:
    return Vote(
        row["task"], row["pair_id"], row["prompt_id"], row["kind"], row["origin"], row["a"], row["b"],
        outcome_of(row["choice"], bool(row["swapped"])), row["choice"], row["rater_name"], bool(row["swapped"]),
        row["repeats"], row["seconds"], row["at"], row["length_a"], row["length_b"], bool(row["names_maker"]),
        row["note"], bool(row["flagged"]), tuple(json.loads(row["reasons"])),
    )  # fmt: skip


def _closed(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT value FROM settings WHERE name = 'closed'").fetchone()
    return json.loads(row["value"]) is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

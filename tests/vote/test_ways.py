"""The ways in and out: ballots made of files, and votes that audit, pairs, train and other tools read."""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path

import pytest

from burnish.data.readers import read
from burnish.errors import ConfigError, DataError
from burnish.group import Preferences, Unjudged, last_text
from burnish.vote.asking import next_task
from burnish.vote.exports import export
from burnish.vote.records import Reply
from burnish.vote.store import Ballot, open_ballot
from tests.runs.cli import burnish
from tests.vote.pages import MODELS, ballot_of
from tests.vote.test_asking import all_of, rater
from tests.vote.test_figures import cast


@pytest.fixture
def voted(tmp_path: Path) -> Ballot:
    """Two people: they agree on p0, differ on p1, tie on p2; one note begins like a formula."""
    ballot = ballot_of(tmp_path, [(f"one {i}", f"other {i}") for i in range(3)], overlap=2)
    cast(ballot, "ann", {"p0": "b", "p1": "a", "p2": "tie"})
    who = rater(ballot, "bo")
    choices = {"p0": "other 0", "p1": "other 1"}
    while (task := next_task(ballot, who)) is not None:
        number = task.left[-1]
        wish = choices.get(f"p{number}")
        choice = "both_bad" if wish is None else "left" if task.left == wish else "right"
        ballot.vote(who, Reply(task.id, choice, note="=1+1", flagged=True))  # type: ignore[arg-type]
    return ballot


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_groups_are_the_same_from_the_ballot_and_from_its_export(voted: Ballot, tmp_path: Path) -> None:
    assert export(voted, "groups", tmp_path / "groups.jsonl") == 3
    ours, exported = read(str(voted.path)).groups, read(str(tmp_path / "groups.jsonl")).groups
    assert [(g.prompt, g.completions, g.feedback, g.meta) for g in ours] == [
        (g.prompt, g.completions, g.feedback, g.meta) for g in exported
    ]
    by_answer = {last_text(group.completions[0].messages): group for group in ours}
    assert by_answer["one 0"].feedback == Preferences(((1, 0, 2.0),))
    assert set(by_answer["one 1"].feedback.triples) == {(0, 1, 1.0), (1, 0, 1.0)}  # type: ignore[union-attr]
    assert isinstance(by_answer["one 2"].feedback, Unjudged)
    votes = by_answer["one 0"].meta["votes"]
    assert {vote["rater"] for vote in votes} == {"ann", "bo"} and all(vote["at"] > 1e9 for vote in votes)
    assert [completion.model for completion in by_answer["one 0"].completions] == list(MODELS)


def test_the_judge_reads_the_ballot(voted: Ballot) -> None:
    from burnish.answers.judges import human
    from burnish.config import HumanConfig

    judge = human.make(HumanConfig(votes=str(voted.path)))
    group = next(g for g in read(str(voted.path)).groups if last_text(g.completions[0].messages) == "one 0")
    assert judge([group]) == [Preferences(((1, 0, 2.0),))]


def test_audit_and_pairs_read_a_ballot(
    voted: Ballot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert burnish("audit", str(voted.path)) == 0
    assert burnish("pairs", str(voted.path), str(tmp_path / "pairs.jsonl")) == 0
    pairs = read(str(tmp_path / "pairs.jsonl")).groups
    assert pairs and last_text(pairs[0].completions[0].messages) in ("one 0", "other 0")
    capfd.readouterr()


def test_arena_votes(voted: Ballot, tmp_path: Path) -> None:
    assert export(voted, "arena", tmp_path / "arena.jsonl") == 6
    found = rows(tmp_path / "arena.jsonl")
    assert sorted(str(row["winner"]) for row in found) == [
        "model_a",
        "model_b",
        "model_b",
        "model_b",
        "tie",
        "tie (bothbad)",
    ]
    assert {(row["model_a"], row["model_b"]) for row in found} == {MODELS}
    again = read(str(tmp_path / "arena.jsonl")).groups
    assert len(again) == 4 and all(isinstance(group.feedback, Preferences) for group in again)  # ties teach nothing


def test_scores_and_csv(voted: Ballot, tmp_path: Path) -> None:
    """A score is the second model's outcome; a note that a spreadsheet takes for a formula is marked as text."""
    assert export(voted, "scores", tmp_path / "scores.jsonl") == 6
    values = [row["value"] for row in rows(tmp_path / "scores.jsonl")]
    assert sorted(values) == [0.0, 0.5, 0.5, 1.0, 1.0, 1.0]  # type: ignore[type-var]
    assert export(voted, "csv", tmp_path / "votes.csv") == 6
    with (tmp_path / "votes.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert {row["note"] for row in table} == {"", "'=1+1"} and {row["flagged"] for row in table} == {"True", "False"}


def test_what_cannot_be_exported(voted: Ballot, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'arena'"):
        export(voted, "arenas", tmp_path / "x")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no vote yet"):
        export(ballot_of(tmp_path / "none", [("a", "b")]), "csv", tmp_path / "x")


# ------------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`a.jsonl` and `b.jsonl`, which share four prompts, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, numbers in (("a", range(5)), ("b", range(1, 6))):
        lines = [json.dumps({"prompt": f"What is {i}?", "response": f"{name} says {i}"}) for i in numbers]
        Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a refusal."""
    message = capfd.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("burnish: ")]
    assert len(lines) == 1 and "Traceback" not in message and "defect" not in message
    return lines[0]


def test_from_two_files_of_answers_to_a_closed_ballot(answers: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert burnish("vote", "one=a.jsonl", "two=b.jsonl", "file=first.db", "--no-serve") == 0
    out = capfd.readouterr()
    assert "1 prompt of" in out.out + out.err and "burnish vote first.db" in out.out
    ballot = open_ballot(Path("first.db"))
    assert ballot.models() == ["one", "two"] and len(ballot.pairs()) == 4
    assert burnish("vote", "status", "first.db") == 0
    assert "no vote yet" in capfd.readouterr().out
    assert len(all_of(ballot, rater(ballot, "ann"))) == 4
    assert burnish("vote", "close", "first.db") == 0 and Path("first.html").is_file()
    assert "closed: 4 votes by 1 rater" in capfd.readouterr().out
    assert burnish("vote", "status", "first.db", "--json") == 0
    assert json.loads(capfd.readouterr().out)["votes"] == 4
    assert burnish("vote", "export", "first.db") == 0 and Path("first.groups.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["one=a.jsonl", "two=far.jsonl"], "share no prompt"),
        (["one=a.jsonl", "two=mute.jsonl"], "two answered nothing to any of 5 prompts"),
        (["one=a.jsonl"], "compares two models at least"),
        (["one=a.jsonl", "two=b.jsonl", "votes.overlp=2"], "did you mean 'votes.overlap'"),
        (["one=a.jsonl", "two=b.jsonl", "prompt=x.jsonl"], "prompts"),
        (["one=a.jsonl", "two=b.jsonl", 'votes.raters=["ann"]', "votes.overlap=2"], "needs as many people"),
        (["one=a.jsonl", "two=b.jsonl", "votes.spend=unsure"], "needs a judge's verdicts"),
        (["one=a.jsonl", "two=b.jsonl", "file=/proc/x.db"], "cannot be"),
        (["none.db"], "none.db does not exist"),
    ],
)
def test_bad_input_is_a_sentence(
    answers: Path, capfd: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    for name, text in (("far", "Something else?"), ("mute", "What is {}?")):
        lines = [json.dumps({"prompt": text.format(i), "response": "" if name == "mute" else "x"}) for i in range(5)]
        Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert burnish("vote", *words, "--no-serve") == 2
    assert sentence in said(capfd)


def test_a_ballot_with_other_settings_is_not_taken_for_this_one(
    answers: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert burnish("vote", "one=a.jsonl", "two=b.jsonl", "--no-serve") == 0
    assert burnish("vote", "one=a.jsonl", "two=b.jsonl", "--no-serve") == 0  # goes on
    capfd.readouterr()
    assert burnish("vote", "one=a.jsonl", "two=b.jsonl", "votes.overlap=2", "--no-serve") == 2
    assert "ballot with other settings" in said(capfd)


def test_a_port_in_use_and_an_open_address_without_raters(answers: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert burnish("vote", "one=a.jsonl", "two=b.jsonl", "--port", port, "--no-browser") == 2
        assert "--port" in said(capfd)
    assert burnish("vote", "ballot.db", "--host", "0.0.0.0", "--no-browser") == 2
    assert "votes.raters" in said(capfd)

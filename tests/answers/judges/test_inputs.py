"""What judges read is hashed: rows' fields, votes, templates, schemas, reward models; and nothing that they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.answers.judges.inputs import fingerprint
from burnish.config import HumanConfig, LLMConfig, RewardModelConfig, VerifierConfig
from burnish.data.prompts import Prompt
from burnish.group import Group

PROMPT = Prompt("k", (1, 2), Group("What is 7+5?", (), meta={"answer": "12", "of": {"b": [1.5], "a": None}}))


def test_fields_of_rows_count_and_their_order_does_not() -> None:
    tables = [VerifierConfig(name="gsm8k")]

    def of(**meta: object) -> str:
        return fingerprint(tables, [replace(PROMPT, group=replace(PROMPT.group, meta=meta))])

    assert of(answer="12", of={"a": 1, "b": 2}) == of(of={"b": 2, "a": 1}, answer="12")
    assert len({of(), of(answer="12"), of(answer="13"), of(answer=12), of(answers="12")}) == 5
    assert fingerprint(tables, [PROMPT]) != fingerprint(tables, [PROMPT, PROMPT])
    assert fingerprint([], [PROMPT]) == ""


def reward_model(place: Path) -> RewardModelConfig:
    return RewardModelConfig(path=[str(place / "rm"), str(place / "run")])


CHANGES: list[tuple[str, Callable[[Path], object], bool]] = [
    ("votes.jsonl", lambda place: HumanConfig(votes=str(place / "votes.jsonl")), True),
    ("judge.txt", lambda place: LLMConfig(template=str(place / "judge.txt")), True),
    ("schema.json", lambda place: VerifierConfig(name="json_schema", schema_file=str(place / "schema.json")), True),
    ("rm/model.safetensors", reward_model, True),
    ("rm/inner/tokenizer.json", reward_model, True),
    ("rm/README.md", reward_model, False),
    ("run/member-1/model/reward.json", reward_model, True),
    ("run/member-1/log.jsonl", reward_model, False),
]


@pytest.mark.parametrize(("name", "table", "counts"), CHANGES)
def test_files_count_by_their_content(name: str, table: Callable[[Path], object], counts: bool, tmp_path: Path) -> None:
    for file, *_ in CHANGES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("before")
    tables = [table(tmp_path)]
    before = fingerprint(tables, [PROMPT])  # type: ignore[arg-type]
    (tmp_path / name).write_text("before")  # another time, the same content
    assert fingerprint(tables, [PROMPT]) == before  # type: ignore[arg-type]
    (tmp_path / name).write_text("after_")
    assert (fingerprint(tables, [PROMPT]) != before) == counts  # type: ignore[arg-type]

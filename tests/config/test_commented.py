"""The whole configuration as commented TOML, and as the command's help."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from burnish import config
from burnish.cli import main
from burnish.objectives import TABLE
from burnish.objectives.explain import setting_lines
from burnish.objectives.meanings import MEANINGS, meaning

JUDGE = ["judge.kind=llm", "judge.url=http://x", "judge.budget=2.5"]
OBJECTIVES = """[[objective]]
name = "ipo"
tau = 0.2
[[objective]]
name = "sft"
weight = 0.5
[[gold]]
kind = "human"
[[gold]]
kind = "reward_model"
path = ["a", "b"]
"""


@pytest.mark.parametrize(
    "words", [[], ["model.path=a\"b", "data.weights=[1, 2]", "stop.when=kl", "optim.lr=3e-7", "seed=4"], JUDGE]
)  # fmt: skip
def test_what_print_config_writes_reads_back(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(["train", *words, "--print-config"])
    text = capsys.readouterr().out
    (tmp_path / "run.toml").write_text(text)
    assert left.value.code == 0
    assert config.load_partly(str(tmp_path / "run.toml")) == config.load_partly(None, words)
    assert max(map(len, text.splitlines())) < 110


def test_several_objectives_and_judges_read_back(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(OBJECTIVES)
    run = config.load_partly(str(tmp_path / "run.toml"))
    (tmp_path / "again.toml").write_text(config.to_commented_toml(run, [], 80))
    assert config.load_partly(str(tmp_path / "again.toml")) == run


def test_every_judge_in_the_comments_is_one_that_can_be_read(tmp_path: Path) -> None:
    text = config.to_commented_toml(config.load_partly(None), [], 100)
    kinds = []
    for block in text.split("# [judge]\n")[1:]:
        lines = block.split("\n\n")[0].splitlines()
        keys = [line.removeprefix("# ") for line in lines if " = " in line]
        kinds.append(tomllib.loads("\n".join(keys))["kind"])
    assert kinds == ["verifier", "reward_model", "llm", "human"]


def test_help_names_every_kind_of_judge_in_lines_below_110_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for table in ("judge", "gold"):
        assert f"    {table}.kind = unset [verifier | reward_model | llm | human]" in lines
    assert max(map(len, lines)) < 110


def test_keys_that_two_kinds_of_judge_share_are_told_apart() -> None:
    rows = [(row.default, row.meaning.split(":")[0]) for row in config.describe_keys() if row.name == "judge.seconds"]
    assert rows == [("10.0", "kind = verifier"), ("60.0", "kind = llm")]


def test_every_setting_of_every_objective_has_a_meaning_and_no_meaning_is_left_over() -> None:
    used = {
        f"{row.name}.{name}" if f"{row.name}.{name}" in MEANINGS else name
        for row in TABLE.values()
        for name in row.settings
    }
    assert used == set(MEANINGS)
    assert all(meaning(row.name, name) for row in TABLE.values() for name in row.settings)
    assert "    0.2 in beta_dpo" in list(setting_lines())

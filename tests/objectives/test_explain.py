"""The table of objectives explains itself, completely, and the documentation is what it says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.objectives import TABLE, explain

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", list(TABLE))
def test_every_row_is_whole(name: str) -> None:
    row = TABLE[name]
    assert row.loss and row.gradient and row.summary.endswith(".") and row.source
    assert set(row.needs) <= set(explain.NEEDS) and row.view in explain.VIEWS
    low, high = row.lr_range
    assert 0 < low < high < 1e-3
    told = tomllib.loads(explain.snippet(row))["objective"]
    assert told.pop("name") == name
    row.validate(told)  # what is shown can be pasted


def test_the_page_is_what_the_table_says() -> None:
    file = ROOT / "docs" / "objectives.md"
    assert file.read_text(encoding="utf-8") == explain.page(), (
        "docs/objectives.md is old: run `burnish objectives --markdown > docs/objectives.md`"
    )


def burnish(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main.main(["objectives", *words])
    found = capsys.readouterr()
    return int(left.value.code or 0), found.out + found.err


def test_the_verb_lists_all_and_explains_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = burnish(capsys)
    assert code == 0 and all(name in told for name in TABLE)
    code, told = burnish(capsys, "tdpo2")
    assert (
        code == 0 and "-log s(beta (D - alpha (K_l - sg(K_w))))" in told and "https://arxiv.org/abs/2404.11999" in told
    )
    assert 'name = "tdpo2"' in told and "per sequence" in told and "reference in memory" in told
    code, told = burnish(capsys, "dp0")
    assert code == 2 and "did you mean 'dpo'" in told

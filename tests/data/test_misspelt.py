"""Columns that are nearly named as a format's are refused with the name that was meant, and others are let be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.data.readers import read
from burnish.errors import DataError

CALL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def rows(folder: Path, *given: dict[str, Any]) -> str:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return str(folder / "d.jsonl")


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"prompt": "q", "choosen": "a", "reject": "b"}, "'chosen' by 'choosen', 'rejected' by 'reject'"),
        ({"prompt": "q", "chosen": "a", "rejectd": "b"}, "'rejected' by 'rejectd'"),
        ({"prompt": "q", "Chosen ": "a", "REJECTED": "b"}, "'chosen' by 'Chosen ', 'rejected' by 'REJECTED'"),
        ({"promt": "q", "chosen": "a", "rejected": "b"}, "'prompt' by 'promt'"),
        ({"prmopt": "q", "completion": "a", "label": True}, "'prompt' by 'prmopt'"),
        ({"prompt": "q", "completion": "a", "lable": True}, "'label' by 'lable'"),
        ({"prompt": "q", "completion": "a", "labels": False}, "'label' by 'labels'"),
        ({"prompt": "q", "completoin": "a"}, "'completion' by 'completoin'"),
        ({"prompt": "q", "completions": ["a", "b"], "score": [1, 0]}, "'scores' by 'score'"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": 1, "rejected_scor": 2}, "'rejected_score' by"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margn": 2.0}, "'margin' by 'margn'"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "tool": [CALL]}, "'tools' by 'tool'"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "sytem": "Be brief."}, "'system' by 'sytem'"),
    ],
)
def test_misspelt_columns_are_refused_with_the_name_that_was_meant(
    tmp_path: Path, row: dict[str, Any], hint: str
) -> None:
    with pytest.raises(DataError, match=r"d\.jsonl:1: ") as refusal:
        read(rows(tmp_path, row))
    assert f"did you mean {hint}" in str(refusal.value)


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b", "message": "commit", "prompt_id": "7", "score": 3}, "pairs"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chosen-model": "x", "rejected-model": "y"}, "pairs"),
        ({"prompt": "q", "completion": "a", "labels": ["poetry"], "system_id": "s"}, "sft"),
        ({"prompt": "q", "completion": "a", "label": True, "labels": 3, "tool": "search"}, "unpaired"),
        ({"prompt": "q", "promt": "", "closed": True, "solution": "4", "test_cases": []}, "prompts"),
    ],
)
def test_other_columns_are_let_be(tmp_path: Path, row: dict[str, Any], format: str) -> None:
    assert read(rows(tmp_path, row)).format == format


@pytest.mark.parametrize("names", [("accepted", "refused"), ("winner", "loser"), ("positive", "negative")])
def test_columns_that_say_which_is_better_make_no_file_of_prompts(tmp_path: Path, names: tuple[str, str]) -> None:
    path = rows(tmp_path, {"prompt": "q", names[0]: "a", names[1]: "b"})
    with pytest.raises(DataError, match=r"no known format.*data\.format=prompts"):
        read(path)
    assert len(read(path, format="prompts").groups) == 1


@pytest.mark.parametrize(
    ("first", "second", "format"),
    [
        ({"prompt": "q"}, {"prompt": "q", "chosen": "a", "rejected": "b"}, "pairs"),
        ({"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "a", "label": False}, "unpaired"),
    ],
)
def test_a_later_row_of_another_format_is_refused(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], format: str
) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl:2: a row of the format {format}"):
        read(rows(tmp_path, first, second))

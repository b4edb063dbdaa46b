"""Every malformed or tricky file gets what a careful person would do. `BURNISH_NASTY` names another folder of them.

The index (`nasty.json`, in the folder or beside it) holds for each case the verdict, the words that the output must
hold, and how many rows there are.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from burnish.cli.main import main
from burnish.data.readers import read
from burnish.errors import BurnishError
from tests.shared import shared_folder
from tests.zoo import tokenizer


def _index() -> tuple[Path, list[dict[str, Any]]]:
    named, shared = os.environ.get("BURNISH_NASTY"), shared_folder()
    folder = Path(named) if named else shared / "data" / "nasty" if shared else Path("nowhere")
    for file in (folder / "nasty.json", folder.parent / "nasty.json"):
        if file.is_file():
            inner = folder / "nasty"
            return inner if inner.is_dir() else folder, json.loads(file.read_text(encoding="utf-8"))["cases"]
    return folder, []


FOLDER, CASES = _index()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer("chatml").save_pretrained(folder)
    return str(folder)


def _paths(case: dict[str, Any]) -> tuple[Path, list[str]]:
    """(the data, further settings): a case of two files is train and held-out data."""
    train, settings = FOLDER / case["path"], []
    if case["kind"] == "train+test":
        stem = case["path"].split("_")[0]
        other = next(p for p in sorted(FOLDER.glob(f"{stem}*")) + sorted(FOLDER.glob("*_test*")) if "test" in p.name
                     and p.name.startswith(stem))  # fmt: skip
        settings.append(f"data.eval={other}")
    limit = re.search(r"max length (\d+)", case.get("args", ""))
    return train, [*settings, *([f"data.max_length={limit.group(1)}"] if limit else [])]


def _audit(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = 0
    try:
        main(["audit", "--html", "", *words])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BurnishError as error:  # `main` prints these and exits
        pytest.fail(f"{error} got through")
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_there_are_cases() -> None:
    if not CASES:
        if os.environ.get("BURNISH_REQUIRE_SHARED"):
            pytest.fail("the nasty files are missing")
        pytest.skip("no nasty.json: set BURNISH_NASTY, or BURNISH_SHARED, to the folder that has it")


# with a tokenizer, and without one where the case has no limit in tokens
TRIED = [(case, True) for case in CASES] + [(case, False) for case in CASES if not case.get("args")]


@pytest.mark.parametrize(
    ("case", "with_model"), TRIED, ids=[f"{case['id']}-{'tokens' if m else 'characters'}" for case, m in TRIED]
)
def test_every_case_gets_what_it_deserves(
    case: dict[str, Any], with_model: bool, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train, settings = _paths(case)
    began = time.perf_counter()
    code, printed = _audit([str(train), *settings, *([f"model.path={model}"] if with_model else [])], capsys)
    assert time.perf_counter() - began < 20
    assert "Traceback" not in printed and "defect of burnish" not in printed
    assert train.name.casefold() in printed.casefold()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", printed), "control characters reached the terminal"
    verdict = case["verdict"]
    allowed = {"accept": {0}, "warn": {0}, "refuse": {2}, "warn_or_refuse": {0, 2}, "accept_or_refuse": {0, 2}}[verdict]
    if verdict in ("accept", "warn") and "refus" in str(case.get("also_acceptable", "")):
        allowed = {0, 2}
    if verdict == "refuse" and re.search("accept|warn", str(case.get("also_acceptable", ""))):
        allowed = {0, 2}
    assert code in allowed, printed
    if verdict == "warn" and code == 0:
        assert "warning" in printed, printed
    if verdict == "warn_or_refuse":
        assert "warning" in printed or code == 2, printed
    for words in case.get("message_must_mention", []):
        assert any(word.casefold() in printed.casefold() for word in words), (words, printed)
    limit = case.get("facts", {}).get("message_shorter_than_chars")
    assert limit is None or len(printed) < limit
    if code == 0 and "rows_if_loaded" in case and case["kind"] != "train+test":
        found = read(str(train))
        assert len(found.groups) + len(found.skipped) == case["rows_if_loaded"]


BAD = [case for case in CASES if "rows_if_bad_rows_are_skipped_on_request" in case]


@pytest.mark.parametrize("case", BAD, ids=[case["id"] for case in BAD])
def test_bad_rows_can_be_left_out_on_request(case: dict[str, Any]) -> None:
    found = read(str(FOLDER / case["path"]), keep_faults=True)
    assert found.faults or found.skipped or case["verdict"] in ("warn", "warn_or_refuse")
    if found.faults:
        assert len(found.groups) == case["rows_if_bad_rows_are_skipped_on_request"]

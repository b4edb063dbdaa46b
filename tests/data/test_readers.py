"""Every format is read as its fields say; every fault is a sentence with file and row."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from burnish.data.readers import read
from burnish.errors import DataError
from burnish.group import Completion, Group, Labels, Message, Preferences, Scores, Unjudged, from_json, to_json

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
USER, GOOD, BAD = (
    {"role": r, "content": c} for r, c in (("user", "Why?"), ("assistant", "Because."), ("assistant", "No."))
)


def write(folder: Path, *rows: Any, name: str = "data.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


EQUAL_PAIRS = [
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"chosen": "\n\nHuman: Why?\n\nAssistant: Because.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
]


@pytest.mark.parametrize("row", EQUAL_PAIRS, ids=["explicit", "implicit", "repeated prompt", "hh"])
def test_one_pair_in_four_shapes_is_one_group(tmp_path: Path, row: dict[str, Any]) -> None:
    (group,) = read(write(tmp_path, row)).groups
    assert group.prompt == (Message("user", "Why?"),)
    assert [c.messages for c in group.completions] == [
        (Message("assistant", "Because."),),
        (Message("assistant", "No."),),
    ]
    assert group.feedback == Preferences(((0, 1, 1.0),))


@pytest.mark.parametrize("pack", ["plain", "gz", "zst", "bom", "crlf", "array", "parquet", "folder"])
def test_containers_hold_the_same_rows(tmp_path: Path, pack: str) -> None:
    rows = [PAIR, {**PAIR, "prompt": "How? \u2028 é"}]
    path = Path(write(tmp_path, *rows))
    text = path.read_bytes()
    if pack == "gz":
        (path := path.with_suffix(".jsonl.gz")).write_bytes(gzip.compress(text))
    elif pack == "zst":
        import zstandard

        (path := path.with_suffix(".jsonl.zst")).write_bytes(zstandard.compress(text))
    elif pack == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + text)
    elif pack == "crlf":
        path.write_bytes(text.replace(b"\n", b"\r\n"))
    elif pack == "array":
        path.write_text(json.dumps(rows))
    elif pack == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path := tmp_path / "data.parquet")
    elif pack == "folder":
        path = tmp_path
    assert [g.prompt for g in read(str(path)).groups] == ["Why?", "How? \u2028 é"]


def test_corrections(tmp_path: Path) -> None:
    """With the answer that was given, a pair; without it, an answer to imitate; both may stand in one file."""
    rows = [{"prompt": "p", "better": "yes", "worse": "well, yes"}, {"prompt": "q", "better": "no"},
            {"prompt": "r", "better": "same", "worse": "same"}]  # fmt: skip
    result = read(write(tmp_path, *rows))
    assert result.format == "corrections"
    pair, alone = result.groups
    assert pair.feedback == Preferences(((0, 1, 1.0),)) and [c.messages for c in pair.completions] == [
        "yes",
        "well, yes",
    ]
    assert len(alone.completions) == 1 and isinstance(alone.feedback, Unjudged)
    with pytest.raises(DataError, match="not written the same way"):
        read(write(tmp_path, {"prompt": "p", "better": "a", "worse": [{"role": "assistant", "content": "b"}]}))
    with pytest.raises(DataError, match="worse"):
        read(write(tmp_path, {"prompt": "p", "better": "a", "wrose": "b"}))


def test_ranked_and_unpaired_and_sft(tmp_path: Path) -> None:
    ranked = {"prompt": "p", "completions": [{"text": "a", "rank": 1}, {"text": "b", "rank": 0}]}
    assert read(write(tmp_path, ranked)).groups[0].feedback == Scores((-1.0, 0.0))
    unpaired = {"prompt": "p", "completion": "a", "label": False}
    assert read(write(tmp_path, unpaired)).groups[0].feedback == Labels((False,))
    assert read(write(tmp_path, {"messages": [USER, GOOD]})).groups[0].prompt == (Message("user", "Why?"),)


def test_hub_loading_code_on_a_local_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    local = write(tmp_path, PAIR)
    original = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: original("json", data_files=local, split=split))
    (group,) = read("someone/pairs").groups
    assert group.prompt == "Why?" and group.where == "someone/pairs:1"


FAULTS = [
    ('{"prompt": "\\ud83d", "chosen": "a", "rejected": "b"}', "lone surrogate"),
    ("{not json", "not JSON"),
    ('{"prompt": "p", "chosen": "a"}', "no known format"),
    ('{"prompt": "p", "chosen": null, "rejected": "b"}', "'chosen' is null"),
    ('{"prompt": 3, "chosen": "a", "rejected": "b"}', "must be text or a list of messages"),
    ('{"chosen": "a", "rejected": "b"}', "is not guessed"),
    ('{"prompt": "p", "completion": "a", "label": "good"}', "must be true or false"),
    ('{"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b"}]}', "2 completions but 1 scores"),
    ('[1, 2]', "must be an object"),
    ('{"prompt": "p", "completions": [{"text": "a", "score": NaN}]}', "not a JSON number"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), FAULTS, ids=[m for _, m in FAULTS])
def test_a_bad_row_is_a_sentence_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message) as error:
        read(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b"<html><body>404</body></html>", "HTML"),
        ("a.jsonl", b"\xff\xfea\x00", "UTF-16"),
        ("a.jsonl", b'{"prompt": "\xe9"}', "not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b"x" * 1000)[:20], "cut short"),
        ("a.parquet", b"PAR1 nothing", "not a sound Parquet file"),
        ("a.jsonl", b"prompt,chosen,rejected\n1,2,3\n", "CSV"),
    ],
    ids=lambda x: str(x)[:12],
)
def test_a_bad_file_is_a_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(str(tmp_path / name))
    with pytest.raises(DataError, match="no such file or folder"):
        read(str(tmp_path / "missing.jsonl"))


def test_useless_rows_are_counted_not_silent(tmp_path: Path) -> None:
    found = read(write(tmp_path, PAIR, {**PAIR, "chosen": " "}, {**PAIR, "chosen": "No."}))
    assert len(found.groups) == 1
    assert [s.reason for s in found.skipped] == ["a blank chosen answer", "chosen equals rejected"]


def test_codec_round_trip() -> None:
    answers = (Completion("x", "model-a", {"k": 1}), Completion((Message("assistant", "y", {"name": "n"}),)))
    for feedback in (Scores((0.5, 1.0)), Labels((True, False)), Preferences(((1, 0, 2.0),))):
        group = Group(
            (Message("user", "p"),), answers, feedback, "id", "source", "file:1", ({"type": "function"},), {"a": 1}
        )
        again = from_json(json.loads(json.dumps(to_json(group))), "file:1")
        assert again == group


@pytest.mark.parametrize(
    ("file", "groups", "skipped"),
    [
        (
            "hh/harmless_base_pairs.jsonl",
            1775,
            {"the two transcripts have different prompts": 5, "an empty chosen answer": 4},
        ),
        ("chat_pairs/dpo_en.jsonl", 215, {}),
        ("chat_pairs/dpo_zh.jsonl", 182, {}),
        ("chat_pairs/kto_en.jsonl", 189, {}),
        ("chat_pairs/gsm8k_verified_pairs.jsonl", 1197, {}),
        ("human/oasst_ranked.jsonl", 160, {}),
    ],
)
def test_real_files_are_read_row_for_row(shared_data: Path, file: str, groups: int, skipped: dict[str, int]) -> None:
    found = read(str(shared_data / file))
    assert len(found.groups) == groups
    assert Counter(s.reason for s in found.skipped) == skipped


def test_an_answer_that_begins_with_the_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="chosen answer begins with a turn of the user"):
        read(write(tmp_path, {"prompt": [USER], "chosen": [USER], "rejected": [BAD]}))


def test_tools_may_be_a_list_or_its_json_text(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    for given in ([tool], json.dumps([tool])):
        (group,) = read(write(tmp_path, {**PAIR, "tools": given})).groups
        assert group.tools == (tool,)
    assert read(write(tmp_path, {**PAIR, "tools": "[]"})).groups[0].tools == ()
    for wrong in ("[1]", "not json", {"name": "f"}):
        with pytest.raises(DataError, match="'tools' must be a list of objects"):
            read(write(tmp_path, {**PAIR, "tools": wrong}))


def test_of_a_saved_data_set_the_files_that_it_names_are_read(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_list([{**PAIR, "prompt": f"Why {i}?"} for i in range(6)])
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "saved"))
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))["train"]
    loaded.map(lambda row: {"prompt": row["prompt"].upper()})
    assert list((tmp_path / "saved" / "train").glob("cache-*.arrow"))
    assert [g.prompt for g in read(str(tmp_path / "saved")).groups] == [f"Why {i}?" for i in range(6)]
    (tmp_path / "saved" / "train" / "state.json").unlink()
    with pytest.raises(DataError, match=r"the same rows twice \(cache-.*\.arrow is a cache of `datasets`\)"):
        read(str(tmp_path / "saved"))


def test_a_saved_data_set_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list([PAIR] * 4).save_to_disk(str(tmp_path), num_shards=2)
    (tmp_path / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"state\.json names data-00001-of-00002\.arrow, and no such file is there"):
        read(str(tmp_path))


def test_a_folder_with_one_name_in_two_forms_is_refused_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, PAIR, name="pairs.jsonl")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    write(tmp_path / ".ipynb_checkpoints", PAIR, name="pairs-checkpoint.jsonl")
    assert len(read(str(tmp_path)).groups) == 1
    (tmp_path / "pairs.jsonl.gz").write_bytes(gzip.compress(json.dumps(PAIR).encode()))
    with pytest.raises(DataError, match=r"the same rows twice \(pairs\.jsonl and pairs\.jsonl\.gz\)"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("written", "label"),
    [("True", True), ("false", False), ("1", True), ("0", False), ("1.0", True), ("0.0", False), ("Yes", True),
     (" no ", False), (1.0, True), (0, False), (True, True)],
)  # fmt: skip
def test_a_label_is_read_as_files_write_yes_and_no(tmp_path: Path, written: object, label: bool) -> None:
    row = {"prompt": "p", "completion": "a", "label": written}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "rows.csv").write_text(f"prompt,completion,label\np,a,{written}\n")
    for name in ("rows.jsonl", "rows.csv"):
        (group,) = read(str(tmp_path / name)).groups
        assert group.feedback == Labels((label,))


@pytest.mark.parametrize("written", ["good", "", "2", "-1", "0,9", "None"])
def test_a_label_that_is_neither_yes_nor_no_is_refused(tmp_path: Path, written: str) -> None:
    (tmp_path / "rows.csv").write_text(f'prompt,completion,label\np,a,"{written}"\n')
    with pytest.raises(DataError, match="'label' must be true or false"):
        read(str(tmp_path / "rows.csv"))


def test_a_csv_file_holds_a_ranked_list_as_json(tmp_path: Path) -> None:
    answers, scores = ["good, sound", 'a "bad" one'], [0.9, 0.1]
    row = {"prompt": "p", "completions": answers, "scores": scores}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow({**row, "completions": json.dumps(answers), "scores": json.dumps(scores)})
    held, plain = (read(str(tmp_path / name)).groups[0] for name in ("rows.csv", "rows.jsonl"))
    assert (held.prompt, held.completions, held.feedback) == (plain.prompt, plain.completions, plain.feedback)
    assert held.feedback == Scores((0.9, 0.1))


@pytest.mark.parametrize("score", ["0,9", "1,234.5", "-3,5"])
def test_a_score_with_a_decimal_comma_is_no_missing_score(tmp_path: Path, score: str) -> None:
    (tmp_path / "rows.csv").write_text(f'prompt,chosen,rejected,chosen_score,rejected_score\np,a,b,"{score}",0.5\n')
    with pytest.raises(DataError, match=r"'chosen_score' is .* write numbers with a point"):
        read(str(tmp_path / "rows.csv"))

"""What could be passed over in silence is refused in a sentence: columns, splits, tails of files, look-alikes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers

from burnish.config import load_partly
from burnish.data.load import gather
from burnish.data.pairing import characters
from burnish.data.readers import read
from burnish.data.render import Renderer
from burnish.data.show import token_lines
from burnish.errors import DataError
from burnish.group import Completion, Group, Message, from_json
from tests.zoo import tokenizer

ROW = {"prompt": "p", "chosen": "a", "rejected": "b"}


def write(path: Path, *rows: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


@pytest.mark.parametrize(
    "names",
    [("train.jsonl.gz", "test.jsonl.gz"), ("train/a.jsonl", "test/a.jsonl"), ("my_train.jsonl", "my-test.jsonl")],
)
def test_splits_in_one_folder_are_not_mixed(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        write(tmp_path / "d" / name, ROW)
    with pytest.raises(DataError, match="several splits"):
        read(str(tmp_path / "d"))


@pytest.mark.parametrize("tail", ['[{"a": 1}]', "garbage{{{", "]"])
def test_nothing_may_follow_an_array(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ROW]) + "\n" + tail)
    with pytest.raises(DataError, match="behind the end"):
        read(str(path))
    path.write_text(json.dumps([ROW]) + " \n\n")
    assert len(read(str(path)).groups) == 1


@pytest.mark.parametrize("column", ["system", "images"])
def test_columns_that_change_the_prompt_are_not_passed_over(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"column '{column}' would be passed over"):
        read(write(tmp_path / "a.jsonl", {**ROW, column: "You are a pirate."}))
    assert len(read(write(tmp_path / "a.jsonl", {**ROW, column: None})).groups) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "completions": ["a", "b"], "scores": [10**400, 1]}, "OverflowError|cannot be read"),
        ({"prompt": "p", "completions": [{"messages": "a"}], "scores": [1e38]}, "one is beyond 1e\\+15"),
        ({"prompt": "p", "completions": [{"text": "a", "score": 1e38}]}, "beyond 1e\\+15"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": 1e38}, "a margin of 1e\\+38"),
        (
            {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": 0}], "scores": [0, 1]},
            "differ",
        ),
        ({"prompt": "p", "completions": [{"messages": "a"}], "meta": [1]}, "'meta' must be an object"),
        ({"prompt": "p", "completions": [{"messages": "a", "model": [1]}]}, "'model' a name"),
        (
            {"prompt": "p", "completions": [{"messages": "a"}, {"messages": "b"}], "scores": "12"},
            "'scores' must be a list",
        ),
    ],
)
def test_odd_values_are_sentences(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.jsonl", row))


def test_scores_beside_texts_are_read(tmp_path: Path) -> None:
    row = {"prompt": "p", "completions": [{"text": "a"}, {"text": "b"}], "scores": [1, 0]}
    assert read(write(tmp_path / "a.jsonl", row)).groups[0].feedback.values == (1.0, 0.0)  # type: ignore[union-attr]


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_arrays([["p"], ["a"], ["x"], ["b"]], ["prompt", "chosen", "chosen", "rejected"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="stands twice"):
        read(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x.jsonl", "x" * 5000])
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(DataError):
        read(path)


def test_filters_look_across_sources(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.jsonl", ROW), write(tmp_path / "b.jsonl", ROW, {**ROW, "prompt": "q"})
    run = load_partly(None, [f'data.train=["{one}", "{two}"]', "data.dedupe=true"])
    assert [g.prompt for g in gather(run, "pairs", characters).train] == ["p", "q"]


def test_control_tokens_in_keys_are_text_too() -> None:
    made = tokenizer("chatml")
    renderer = Renderer(made)
    control = set(renderer.guard.ids.values()) if renderer.guard else set()
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"<|im_end|>": 1}}}]
    plain = [{"type": "function", "function": {"name": "f", "arguments": {"key": 1}}}]
    counts = []
    for given in (calls, plain):
        prompt = (Message("user", "x"), Message("assistant", "", {"tool_calls": given}), Message("user", "y"))
        ids = renderer.encode(Group(prompt, (Completion("a"),), where="f:1")).prompt_ids
        counts.append(sum(i in control for i in ids))
    assert counts[0] == counts[1]


def test_text_that_a_normaliser_turns_into_a_control_token_is_refused_by_row() -> None:
    made = tokenizer("chatml")
    backend = made.backend_tokenizer
    backend.normalizer = normalizers.Lowercase()
    backend.add_special_tokens([AddedToken("<|stop|>", special=True, normalized=True)])
    assert made.convert_tokens_to_ids("<|stop|>") in made("<|STOP|>", add_special_tokens=False)["input_ids"]
    group = Group((Message("user", "stop <|STOP|> now"),), (Completion("a"),), where="f:7")
    with pytest.raises(DataError, match=r"f:7: .*(normaliser|takes it for one)"):
        Renderer(made).encode(group)


def test_private_use_characters_that_serve_as_marks_are_refused() -> None:
    renderer = Renderer(tokenizer("chatml"))
    assert renderer.guard is not None
    run = renderer.guard.marks["<|im_end|>"] * len("<|im_end|>")
    with pytest.raises(DataError, match=r"f:7: .*private-use"):
        renderer.encode(Group("p " + run, (Completion("a"),), where="f:7"))


def test_a_prompt_without_answers_can_be_shown() -> None:
    assert token_lines(Group("p", (), where="f:1"), Renderer(tokenizer("chatml")))


def test_from_json_needs_lists() -> None:
    with pytest.raises(DataError, match="must be a list"):
        from_json({"prompt": "p", "completions": [{"messages": "a"}], "preferences": "x"}, "f:1")

"""What the configuration's filters, pair rules, mixing and splitting make of files, through the code a run uses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from burnish.cli.main import main
from burnish.config import load_partly
from burnish.data.load import Gathered, gather
from burnish.data.pairing import characters
from burnish.data.readers import read
from burnish.errors import ConfigError, DataError
from burnish.group import Preferences


def write(folder: Path, rows: list[dict[str, Any]], name: str) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pair(prompt: str, chosen: str = "good", rejected: str = "bad") -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def made(*words: str, view: str = "pairs") -> Gathered:
    return gather(load_partly(None, words), view, characters)


RANKED = {
    "prompt": "p",
    "completions": [{"text": "best one", "score": 3}, {"text": "mid", "score": 2}, {"text": "low", "score": 0}],
}


def test_rules_give_preferences_and_keep_the_answers_together(tmp_path: Path) -> None:
    data = write(tmp_path, [RANKED], "r.jsonl")
    for rule, triples in (
        ("best_vs_worst", {(0, 2)}), ("all", {(0, 1), (0, 2), (1, 2)}), ("adjacent", {(0, 1), (1, 2)}),
        ("threshold", {(0, 2), (1, 2)}),
    ):  # fmt: skip
        more = ["pairs.min_gap=2"] if rule == "threshold" else []
        (group,) = made(f"data.train={data}", f"pairs.rule={rule}", *more).train
        assert isinstance(group.feedback, Preferences) and len(group.completions) == 3
        assert {(w, l) for w, l, _ in group.feedback.triples} == triples
    (group,) = made(f"data.train={data}", view="winners").train
    assert not isinstance(group.feedback, Preferences)


def test_filters_of_pairs_see_the_pairs_of_a_ranked_group(tmp_path: Path) -> None:
    data = write(tmp_path, [RANKED], "r.jsonl")
    found = made(f"data.train={data}", "pairs.rule=all", "data.min_score_gap=2")
    assert sorted(g.meta["score_gap"] for g in found.train) == [2.0, 3.0]
    assert all(len(g.completions) == 2 for g in found.train)


def test_what_filters_leave_out_is_said(tmp_path: Path) -> None:
    rows = [pair("a"), pair("A "), pair("b"), pair("b", "bad", "good"), pair("c", "x" * 60)]
    data = write(tmp_path, rows, "d.jsonl")
    found = made(f"data.train={data}", "data.dedupe=true", "data.contradictions=drop", "data.max_length_gap=10")
    assert [g.prompt for g in found.train] == ["a"]
    assert sum("left out" in line for line in found.lines) == 3


def test_bad_rows_stop_or_are_left_out(tmp_path: Path) -> None:
    data = write(tmp_path, [pair("a"), {"prompt": "x", "chosen": "y"}, pair("b")], "d.jsonl")
    with pytest.raises(DataError, match=r"d\.jsonl:2: 'rejected' is missing"):
        made(f"data.train={data}")
    found = made(f"data.train={data}", "data.bad_rows=skip")
    assert len(found.train) == 2 and any("1 row left out that cannot be read" in line for line in found.lines)


def test_weights_are_copies_and_prompts_are_held_out_whole(tmp_path: Path) -> None:
    one = write(tmp_path, [pair(f"one {i // 2}", f"good {i}") for i in range(40)], "one.jsonl")
    two = write(tmp_path, [pair(f"two {i}") for i in range(10)], "two.jsonl")
    sources = f'data.train=["{one}", "{two}"]'
    counts = Counter(g.source for g in made(sources, "data.weights=[0.5, 2.0]").train)
    assert counts == {"one.jsonl": 20, "two.jsonl": 20}
    found = made(sources, "data.eval_fraction=0.3")
    train, held = ({g.prompt for g in side} for side in (found.train, found.evaluation))
    assert train and held and not train & held
    assert len(found.train) + len(found.evaluation) == 50
    mixed = made(sources, "data.eval_fraction=0.3", "data.weights=[1.0, 2.0]")
    assert not {g.prompt for g in mixed.train} & {g.prompt for g in mixed.evaluation}
    assert [g.id for g in mixed.evaluation] == [g.id for g in found.evaluation]


def test_the_limit_counts_groups_after_reading_and_filtering(tmp_path: Path) -> None:
    rows = [pair("p0"), pair("p0"), pair("tie", "a", "a"), *(pair(f"p{k}") for k in range(1, 9))]
    one, two = write(tmp_path, rows, "one.jsonl"), write(tmp_path, rows[1:], "two.jsonl")
    prompts = [g.prompt for g in made(f"data.train={one}", "data.limit=4").train]
    assert prompts == ["p0", "p0", "p1", "p2"], "a tie is no group"
    prompts = [g.prompt for g in made(f"data.train={one}", "data.limit=4", "data.dedupe=true").train]
    assert prompts == ["p0", "p1", "p2", "p3"]
    both = made(f'data.train=["{one}", "{two}"]', "data.limit=3", f"data.eval={two}")
    assert Counter(g.source for g in both.train) == {"one.jsonl": 3, "two.jsonl": 3}
    assert [g.prompt for g in both.evaluation] == ["p0", "p1", "p2"]


def test_the_limit_counts_groups_where_a_row_holds_several(tmp_path: Path) -> None:
    replies = [{"text": f"a{k}", "role": "assistant", "rank": k, "replies": []} for k in range(2)]
    last = [{"text": "and?", "role": "prompter", "replies": replies}]
    tree = {"prompt": {"text": "q", "role": "prompter", "replies": [{**replies[0], "replies": last}, replies[1]]}}
    data = write(tmp_path, [tree, tree], "t.jsonl")
    assert [len(read(data, limit=limit).groups) for limit in (1, 2, 3, None)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pairs.rule=threshold"], "needs min_gap"),
        (["pairs.min_gap=1"], "does not look at min_gap"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(f"data.train={write(tmp_path, [pair('a')], 'd.jsonl')}", *words)


def run_verb(*words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert not stopped.value.code


def test_pairs_and_convert_write_what_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write(tmp_path, [RANKED], "r.jsonl"), str(tmp_path / "pairs.parquet")
    run_verb("pairs", data, out, "pairs.rule=all", "data.max_length_gap=4")
    groups = read(out).groups
    assert [(g.meta["from"], g.meta["pair_rule"], g.meta["scores"]) for g in groups] == [
        ("r.jsonl:1", "all", [2.0, 0.0])
    ]
    run_verb("convert", data, str(tmp_path / "own.jsonl.zst"))
    assert read(str(tmp_path / "own.jsonl.zst")).groups[0].feedback == read(data).groups[0].feedback
    assert "1 pair of 1 group" in capsys.readouterr().out


def test_prompts_without_answers_convert_and_read_back(tmp_path: Path) -> None:
    data = write(tmp_path, [{"prompt": "Say it"}, {"prompt": [{"role": "user", "content": "Say that"}]}], "p.jsonl")
    run_verb("convert", data, str(tmp_path / "own.jsonl"))
    run_verb("convert", str(tmp_path / "own.jsonl"), str(tmp_path / "own.parquet"))
    ours = [(g.prompt, g.completions) for g in read(str(tmp_path / "own.parquet")).groups]
    assert ours == [(g.prompt, g.completions) for g in read(data).groups] and len(ours) == 2


def test_convert_refuses_what_it_would_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["convert", write(tmp_path, [RANKED], "r.jsonl"), str(tmp_path / "x.jsonl"), "data.dedupe=true"])
    assert stopped.value.code == 2 and "data.dedupe means nothing here" in capsys.readouterr().err


def test_an_unknown_first_row_can_be_left_out(tmp_path: Path) -> None:
    data = write(tmp_path, [{"text": "?"}, pair("a")], "d.jsonl")
    assert len(made(f"data.train={data}", "data.bad_rows=skip").train) == 1

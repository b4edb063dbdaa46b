"""What scoring leaves is read back as it was; what does not fit is refused; a row's subset reaches its group."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.data.readers import read as read_data
from burnish.errors import DataError, StoreError
from burnish.reports.rewards import read, report, write
from burnish.reports.rewards.records import ScoredGroups, Scorer
from tests.reports.rewards.world import group, world

RM = Scorer("a", "reward model")


def test_records_are_read_back_equal(tmp_path: Path) -> None:
    scored = world(20, probed=True)
    odd = group({s.name: (0.1,) for s in scored.scorers}, prompt="\u2028x\n\U0001f600")
    whole = ScoredGroups((*scored.groups, odd), scored.scorers, _one_more(scored), scored.trained_on)
    write(tmp_path / "scored.jsonl", whole)
    assert read(tmp_path / "scored.jsonl") == whole
    bare = ScoredGroups((group({"a": (1.0, 2.0)}),), (RM,))
    write(tmp_path / "scored.jsonl", bare)
    assert read(tmp_path / "scored.jsonl") == bare


def _one_more(scored: ScoredGroups) -> dict[str, dict[str, list[tuple[float | None, ...]]]]:
    return {probe: {name: [*rows, (None,)] for name, rows in by.items()} for probe, by in scored.probes.items()}


def test_a_report_of_the_records_is_that_of_the_scores(tmp_path: Path) -> None:
    scored = world(30, probed=True)
    write(tmp_path / "scored.jsonl", scored)
    again = read(tmp_path / "scored.jsonl")
    first, second = (report(s.groups, s.scorers, probes=s.probes, trained_on=s.trained_on) for s in (scored, again))
    assert json.dumps(first, allow_nan=False) == json.dumps(second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (1,)}, "1 lengths for 2 answers"),
        ({"gold": (1.0,)}, "1 gold scores for 2 answers"),
        ({"rewards": {"a": (1.0,)}}, "1 rewards of a for 2 answers"),
        ({"rewards": {"a": (1.0, float("nan"))}}, "rewards of a: answer 2 of 2 has nan, no finite number"),
        ({"pairs": ((0, 2, 1.0),)}, "does not fit 2 answers"),
        ({"pairs": ((1, 1, 1.0),)}, "does not fit 2 answers"),
        ({"pairs": ((0, 1, 0.0),)}, "does not fit 2 answers"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        replace(group({"a": (1.0, 2.0)}), **change)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda g: ScoredGroups((), (RM,)), "0 groups and 1 scorers"),
        (lambda g: ScoredGroups((g,), ()), "1 groups and 0 scorers"),
        (lambda g: ScoredGroups((g,), (RM, RM)), "two scorers are named a"),
        (lambda g: ScoredGroups((g,), (RM, Scorer("b", "implicit"))), "has no rewards of b"),
        (lambda g: ScoredGroups((g,), (Scorer("a", "ensemble", members=("x", "y")),)), "names x as a member"),
        (lambda g: ScoredGroups((g,), (RM,), {"p": {"a": []}}), "probe p of a does not have one reward"),
        (lambda g: ScoredGroups((g,), (RM,), {"p": {"a": [(1.0,)]}}), "probe p of a does not have one reward"),
        (lambda g: ScoredGroups((g,), (RM,), {"p": {"z": [(1.0, 2.0)]}}), "probe p of z does not have one reward"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    build: Callable[[Any], ScoredGroups], message: str, tmp_path: Path
) -> None:
    scored = build(group({"a": (1.0, 2.0)}))
    with pytest.raises(DataError, match=message):
        report(scored.groups, scored.scorers, probes=scored.probes)
    with pytest.raises(DataError, match=message):
        write(tmp_path / "x.jsonl", scored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "no record of its scorers"),
        (lambda rows: [rows[0], {**rows[1], "lengths": [1]}], "x.jsonl:2: scored group g: 1 lengths"),
        (lambda rows: [rows[0], {"record": "scored"}], "x.jsonl:2: no record of scored answers: KeyError"),
        (lambda rows: [{**rows[0], "scorers": [{**rows[0]["scorers"][0], "kind": "x"}]}, rows[1]], "kind is 'x'"),
        (lambda rows: [rows[0], "text"], "x.jsonl:2: no record of scored answers"),
    ],
)  # fmt: skip
def test_broken_records_are_named_by_line(
    change: Callable[[list[Any]], list[Any]], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.jsonl"
    write(file, ScoredGroups((group({"a": (1.0, 2.0)}),), (RM,)))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in change(rows)), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        read(file)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "absent" / "x.jsonl", ScoredGroups((group({"a": (1.0, 2.0)}),), (RM,)))


def test_a_rows_subset_reaches_its_group(tmp_path: Path) -> None:
    """RewardBench's rows; where the row names a source as well, both are kept."""
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "hep-python", "id": 7}
    file = tmp_path / "bench.jsonl"
    file.write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'source': 'mine'})}\n", encoding="utf-8")
    first, second = read_data(str(file)).groups
    assert first.meta["subset"] == second.meta["subset"] == "hep-python"
    assert (first.source, second.source) == ("hep-python", "mine")
    llmbar = {"id": "x", "subset": "Natural", "prompt": "Hi.", "output_1": "No.", "output_2": "Hi!", "label": 2}
    file.write_text(f"{json.dumps(llmbar)}\n", encoding="utf-8")
    assert read_data(str(file)).groups[0].meta["subset"] == "Natural"
    file.write_text(f"{json.dumps({**row, 'subset': ''})}\n", encoding="utf-8")
    assert "subset" not in read_data(str(file)).groups[0].meta

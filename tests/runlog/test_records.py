"""The codec of a run's records: what is written is read back, and logs of other versions are read as far as known."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import DataError
from burnish.runlog import log
from burnish.runlog.records import (
    KINDS,
    AlarmRecord,
    CompletionRecord,
    EndRecord,
    EvalRecord,
    NoteRecord,
    Record,
    ReferenceRecord,
    RefreshRecord,
    RunRecord,
    StepRecord,
    StoppedRecord,
    from_row,
    scalars,
    to_row,
)  # fmt: skip

RECORDS = [
    RunRecord(objective="dpo + 0.2 sft", steps=2, first_step=0, notes=("train: pairs.jsonl: 3 groups",)),
    ReferenceRecord(weights="5f0c", computed=3, stored=0, seconds=0.25),
    CompletionRecord(step=1, group="row-1", index=0, length=4, logp=-3.5, reference_logp=-3.25, reward=-0.025),
    CompletionRecord(step=1, group="row-1", index=1, length=7),
    StepRecord(step=1, loss=0.75, lr=1e-6, grad_norm=2.0, tokens=11, seconds=0.5, groups=1, metrics={"kl/mean": 0.0}),
    StepRecord(step=2, loss=0.0, groups=0),
    EvalRecord(step=2, loss=math.inf, groups=3, metrics={"rewards/accuracies": 0.5, "up": -math.inf}),
    RefreshRecord(step=1, metrics={"length": 5.5, "reward": 0.25}),
    AlarmRecord(step=1, name="kl", text="far"),
    StoppedRecord(step=2, alarm="kl", best=1),
    NoteRecord(text="nan", step=1, token_budget=4096),
    EndRecord(step=2),
]

OLD = """\
{"record": "reference", "time": 1.0, "weights": "5f0c", "computed": 3, "stored": 0, "seconds": 0.25}
{"record": "run", "time": 1.1, "objective": "dpo", "steps": 2, "first_step": 0, "notes": ["a line"]}
{"record": "fresh", "time": 1.2, "step": 1, "answers": 8.0, "length": 5.5, "kl/answer": "nan", "seconds/sampling": 0.1}
{"record": "completion", "time": 1.3, "step": 1, "group": "row-1", "index": 0, "length": 4, "logp": -3.5}
{"record": "step", "time": 1.4, "step": 1, "loss": 0.75, "lr": 1e-06, "grad_norm": 2.0, "tokens": 11, \
"rewards/margins": "-inf", "seconds": 0.5}
{"record": "step", "time": 1.5, "step": 2, "loss": 0.0, "tokens": 0, "seconds": 0.5, "groups": 0}
{"record": "eval", "time": 1.6, "step": 2, "loss": "inf", "groups": 3, "rewards/accuracies": 0.5}
{"record": "end", "time": 1.7, "step": 2}
"""


def test_every_kind_is_written_and_read_back(tmp_path: Path) -> None:
    assert {type(record) for record in RECORDS} == set(KINDS.values())
    with log.RunLog(tmp_path) as opened:
        for record in RECORDS:
            opened.write(record)
    assert list(log.read(tmp_path, Record)) == RECORDS
    for kind in KINDS.values():
        assert list(log.read(tmp_path, kind)) == [record for record in RECORDS if type(record) is kind]


def drawn(kind: type[Record]) -> st.SearchStrategy[Record]:
    metrics = st.dictionaries(st.text().map("metric/{}".format), st.floats())
    return st.builds(kind, **({"metrics": metrics} if kind in (StepRecord, EvalRecord, RefreshRecord) else {}))


@given(record=st.one_of([drawn(kind) for kind in KINDS.values()]))
def test_a_row_is_flat_json_and_gives_the_record_back(record: Record) -> None:
    text = json.dumps(to_row(record), allow_nan=False)
    again = from_row(json.loads(text), type(record))
    assert to_row(again) == to_row(record) and str(again) == str(record)


def test_a_row_is_what_the_file_always_held() -> None:
    record = StepRecord(step=1, loss=math.nan, tokens=11, seconds=0.5, groups=1, metrics={"logratio/chosen": math.inf})
    assert to_row(record) == {
        "record": "step", "time": 0.0, "step": 1, "loss": "nan", "tokens": 11, "seconds": 0.5, "groups": 1,
        "logratio/chosen": "inf",
    }  # fmt: skip


def test_an_old_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(OLD)
    reference, run, refresh, completion, first, second, evaluation, end = log.read(tmp_path, Record)
    assert (
        reference == RECORDS[1]
        and end == EndRecord(step=2)
        and second == StepRecord(step=2, loss=0.0, seconds=0.5, groups=0)
    )
    assert run == RunRecord(objective="dpo", steps=2, first_step=0, notes=("a line",)) and run.time == 1.1
    assert isinstance(refresh, RefreshRecord) and math.isnan(refresh.metrics["kl/answer"])
    assert completion == CompletionRecord(step=1, group="row-1", index=0, length=4, logp=-3.5)
    assert first == StepRecord(
        step=1, loss=0.75, lr=1e-6, grad_norm=2.0, tokens=11, seconds=0.5, metrics={"rewards/margins": -math.inf}
    )
    assert evaluation == EvalRecord(step=2, loss=math.inf, groups=3, metrics={"rewards/accuracies": 0.5})


def test_what_a_newer_log_holds_besides_is_passed_over_and_stays_in_the_file(tmp_path: Path) -> None:
    newer = [
        {"record": "vote", "step": 1, "winner": 0},
        {"record": "step", "step": 1, "loss": 0.5, "energy": 3.0, "device": "cpu", "exact": True, "spread": "nan"},
        {"record": "end", "step": 1, "reason": "done", "total": 3.0},
        {"record": "note", "text": "late", "step": 9},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in newer))
    step, end, note = log.read(tmp_path, Record)
    assert isinstance(step, StepRecord) and step.metrics.keys() == {"energy", "spread"}
    assert (end, note) == (EndRecord(step=1), NoteRecord(text="late", step=9))
    with log.RunLog(tmp_path) as opened:
        opened.cut_after(1)
    assert list(log.read_rows(tmp_path)) == newer[:2]


@pytest.mark.parametrize(("row", "missing"), [({"step": 1}, "loss"), ({"loss": 1.0}, "step")])
def test_a_record_without_what_every_log_has_is_named(tmp_path: Path, row: dict[str, Any], missing: str) -> None:
    lines = [{"record": "end", "step": 1}, {"record": "step", **row}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=rf"log.jsonl:2: a record 'step' without '{missing}'"):
        list(log.read(tmp_path, StepRecord))
    assert list(log.read(tmp_path, EndRecord)) == [EndRecord(step=1)]


def test_scalars_are_the_numbers_by_their_names_in_the_file() -> None:
    assert scalars(RECORDS[4]) == {
        "loss": 0.75, "lr": 1e-6, "grad_norm": 2.0, "tokens": 11.0, "seconds": 0.5, "groups": 1.0, "kl/mean": 0.0,
    }  # fmt: skip
    assert math.isnan(scalars(StepRecord(step=1, loss=math.nan))["loss"])
    assert scalars(StoppedRecord(step=2, alarm="kl", best=1)) == {"best": 1.0}


def test_every_kind_has_its_line_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = page.split("| record | what it is |")[1].split("\n\n")[0]
    assert set(KINDS) == set(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:])))

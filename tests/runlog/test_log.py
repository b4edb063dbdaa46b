"""The run's log: what is written is read back, and a crash costs its own line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import DataError, StoreError
from burnish.runlog import log as runlog
from burnish.runlog.records import (
    CompletionRecord,
    EndRecord,
    NoteRecord,
    Record,
    RunRecord,
    StepRecord,
)  # fmt: skip


def test_records_come_back_in_order_and_infinities_as_strings(tmp_path: Path) -> None:
    with runlog.RunLog(tmp_path) as log:
        log.write(RunRecord(objective="dpo", steps=1, first_step=0))
        log.write(CompletionRecord(step=1, group="g", index=0, length=4, logp=-3.5))
        log.write(StepRecord(step=1, loss=0.5, metrics={"margin": math.inf, "ece": math.nan}))
        lines = (tmp_path / "log.jsonl").read_text().splitlines()  # before closing: a step's record is on disk at once
    records = list(runlog.read_rows(tmp_path))
    assert [json.loads(line) for line in lines] == records
    assert [r["record"] for r in records] == ["run", "completion", "step"]
    assert (records[2]["loss"], records[2]["margin"], records[2]["ece"]) == (0.5, "inf", "nan")
    assert all(math.isfinite(r["time"]) for r in records)


@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_survives_even_half_a_surrogate_pair(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("log")
    with runlog.RunLog(folder) as log:
        log.write(NoteRecord(text=text))
        log.cut_after(0)
    assert list(runlog.read(folder, Record)) == [NoteRecord(text=text)]


def test_a_line_cut_by_a_crash_costs_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"record": "step", "step": 1}\n{"record": "st')
    assert [r["step"] for r in runlog.read_rows(tmp_path)] == [1]
    with runlog.RunLog(tmp_path) as log:
        log.write(StepRecord(step=2, loss=0.5))
        log.write(StepRecord(step=3, loss=0.5))
    assert [r["step"] for r in runlog.read_rows(tmp_path)] == [1, 2, 3]
    file.write_text('{"record": "st')
    with runlog.RunLog(tmp_path) as log:
        log.write(StepRecord(step=1, loss=0.5))
    assert [r["step"] for r in runlog.read_rows(tmp_path)] == [1]


@pytest.mark.parametrize("broken", [b"{oops\n", b"[1]\n", b'{"step": 2}\n', b"\xff\n"])
def test_damage_elsewhere_is_reported_not_passed_over(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "log.jsonl").write_bytes(broken + b'{"record": "step", "step": 1}\n')
    with pytest.raises(DataError, match="not a record"):
        list(runlog.read_rows(tmp_path))


def test_a_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder of a run"):
        list(runlog.read_rows(tmp_path))


def test_a_resumed_run_repeats_no_record(tmp_path: Path) -> None:
    with runlog.RunLog(tmp_path) as log:
        log.write(RunRecord(objective="dpo", steps=4, first_step=0))
        for step in (1, 2, 3):
            log.write(StepRecord(step=step, loss=0.5))
        log.write(EndRecord(step=3))
        log.cut_after(2)
        log.write(StepRecord(step=3, loss=0.5))
    assert [(r["record"], r.get("step")) for r in runlog.read_rows(tmp_path)] == [
        ("run", None), ("step", 1), ("step", 2), ("step", 3),
    ]  # fmt: skip


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    log = runlog.RunLog(tmp_path)
    log._stream.close()
    log._stream = Full()  # type: ignore[assignment]
    with pytest.raises(StoreError, match="No space left on device"):
        log.write(StepRecord(step=1, loss=0.5))

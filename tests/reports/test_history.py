"""A run's folder read back: whatever state the run is in."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.reports.history import read_history
from burnish.reports.reading import read_any
from burnish.runlog.log import RunLog
from burnish.runlog.records import CompletionRecord, EndRecord, RunRecord, StepRecord


def a_run(folder: Path, *, end: bool) -> Path:
    folder.mkdir()
    with RunLog(folder) as log:
        log.write(RunRecord(objective="dpo", steps=2, first_step=0))
        for step in (1, 2):
            for index in (0, 1):
                log.write(CompletionRecord(step=step, group=f"row-{step}", index=index, length=3 + index, logp=-2.0))
            log.write(StepRecord(step=step, loss=float("nan") if step == 2 else 0.5))
        if end:
            log.write(EndRecord(step=2))
    return folder


def test_completions_become_columns(tmp_path: Path) -> None:
    history = read_history(a_run(tmp_path / "run", end=True))
    columns = history.completions
    assert (len(columns), columns.groups) == (4, ("row-1", "row-2"))
    assert columns.group.tolist() == [0, 0, 1, 1] and columns.length.tolist() == [3, 4, 3, 4]
    assert bool((columns.reward != columns.reward).all())  # none was recorded: NaN, not 0
    assert (history.state, history.objective, history.planned) == ("finished", "dpo", 2)


def test_a_run_is_running_while_its_lock_is_held_and_unfinished_after(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", end=False)
    (folder / "lock").write_text("process 1 on host", encoding="utf-8")
    assert read_history(folder).state == "unfinished"  # the file alone is what a killed process leaves
    with (folder / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert read_history(folder).state == "running"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", end=True)
    (folder / "config.toml").write_text("[objectve]\nname = 'dpo'\n", encoding="utf-8")
    history = read_history(folder)
    assert history.run is None and history.settings == {} and "objectve" in history.remarks[0]
    with pytest.raises(DataError, match="no folder"):
        read_any(tmp_path / "nothing")

"""The run's folder and its log: what is appended is read back, a crash costs its own line, nothing else is deleted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish import config
from burnish.errors import DataError, StoreError
from burnish.reports import run as summary
from burnish.runlog import log as runlog
from burnish.runlog.records import (
    CompletionRecord,
    EndRecord,
    EvalRecord,
    NoteRecord,
    Record,
    RunRecord,
    StepRecord,
    from_row,
)  # fmt: skip


def configured(folder: Path, *more: str) -> config.Run:
    return config.load(None, ["model.path=m", "data.train=d", f"run.dir={folder}", *more])


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


def test_claiming_a_folder_writes_the_configuration_without_this_starts_wishes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert runlog.claim_run_dir(configured(folder)) == folder
    again = configured(folder, "run.resume=true")
    runlog.claim_run_dir(again)
    assert config.load(str(folder / "config.toml")) == configured(folder)


def test_another_run_is_thrown_away_only_when_asked_and_nothing_else_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    runlog.claim_run_dir(configured(folder))
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_text("weights")
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds another run"):
        runlog.claim_run_dir(configured(folder))
    assert (folder / "model" / "model.safetensors").exists()
    runlog.claim_run_dir(configured(folder, "run.overwrite=true"))
    assert sorted(p.name for p in folder.iterdir()) == ["config.toml", "thesis.txt"]


def test_a_link_is_removed_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_text("weights")
    runlog.claim_run_dir(configured(folder))
    (folder / "model").symlink_to(elsewhere)
    runlog.claim_run_dir(configured(folder, "run.overwrite=true"))
    assert not (folder / "model").exists() and (elsewhere / "model.safetensors").exists()


@pytest.mark.parametrize("key", ["model.path={}/model", "data.train={}/checkpoints/a.jsonl", "data.eval={}/log.jsonl"])
def test_overwriting_spares_what_the_new_run_is_made_from(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "run"
    runlog.claim_run_dir(configured(folder))
    with pytest.raises(StoreError, match=f"would delete {key.split('=')[0]}"):
        runlog.claim_run_dir(configured(folder, "run.overwrite=true", key.format(folder)))
    assert (folder / "config.toml").exists()


def test_folders_that_cannot_be_a_runs(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="is a file"):
        runlog.claim_run_dir(configured(file))
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        runlog.claim_run_dir(configured(file / "run"))
    with pytest.raises(StoreError, match="does not delete them"):
        runlog.claim_run_dir(configured(tmp_path, "run.overwrite=true"))


def steps(count: int, chosen: float, rejected: float, **more: float) -> list[dict[str, Any]]:
    """Log-ratios that go evenly from 0 to these."""
    rows = []
    for i in range(count):
        share = i / max(1, count - 1)
        ratios = {"logratio/chosen": chosen * share, "logratio/rejected": rejected * share}
        row = {"step": i + 1, "loss": 0.69 - 0.1 * share, "tokens": 10, "seconds": 0.5, **ratios}
        row |= {"rewards/margins": 0.1 * (chosen - rejected) * share, "rewards/accuracies": 0.5 + 0.2 * share}
        rows.append({**row, "length/longer_wins": 0.5, **more})
    return rows


@pytest.mark.parametrize(
    ("chosen", "rejected", "told"),
    [
        (-3.0, -11.2, "chosen answers lost 3.00 nats, rejected lost 11.20 nats: this is normal"),
        (4.0, 1.0, "both rose"),
        (2.0, -1.0, "the two sides parted"),
        (-2.0, -1.0, "the ranking got worse"),
        (1.0, 2.0, "the ranking got worse"),
        (0.01, -0.01, "hardly left its reference"),
        (5.0, 4.99, "the margin hardly moved: optim.lr is likely too low"),
    ],
)  # fmt: skip
def test_the_summary_says_in_words_what_moved(chosen: float, rejected: float, told: str) -> None:
    assert told in summary.words(steps(10, chosen, rejected), [])


def test_a_reference_that_is_another_model_is_measured_from_where_the_run_began() -> None:
    rows = steps(10, -1.0, -2.0)
    for row in rows:
        row["logratio/chosen"] -= 50.0
        row["logratio/rejected"] -= 50.0
    assert "chosen answers lost 1.00 nats, rejected lost 2.00 nats" in summary.words(rows, [])


def test_signs_of_data_that_teaches_something_else() -> None:
    told = summary.words(steps(40, -1.0, -9.0, **{"rewards/accuracies": 1.0, "length/longer_wins": 0.9}), [])
    assert "something trivial separates the sides" in told
    assert "the longer answer is the chosen one in 90% of the pairs" in told
    assert "trivial" not in summary.words(steps(40, -1.0, -9.0), [])


def test_summary_and_picture_come_from_the_log_alone(tmp_path: Path) -> None:
    with runlog.RunLog(tmp_path) as log:
        for row in steps(5, -1.0, -2.0):
            log.write(from_row({"record": "step", **row}, StepRecord))
        log.write(EvalRecord(step=5, loss=math.nan, groups=7))
    text = summary.write_summary(tmp_path)
    assert "5 steps, 50 tokens, 2.5 s" in text and "held out (7 groups): loss nan" in text
    assert (tmp_path / "summary.txt").read_text() == text
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_reference_log_probs_are_told_and_drawn_never_invented_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: list[list[float]] = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, **kw: (drawn.append(y), plot(self, x, y, **kw))[1])
    rows = steps(3, 0.0, 0.0)
    for row, chosen in zip(rows, (-1.0, -1.25, -1.5), strict=True):
        del row["logratio/chosen"], row["logratio/rejected"]
        row |= {"logps/chosen_per_token": chosen, "logps/rejected_per_token": chosen - 1}
    told = summary.words(rows, [])
    assert "chosen answers -1.000 -> -1.500 nats a token, rejected answers -2.000 -> -2.500 nats a token" in told
    summary.draw(rows, tmp_path / "picture.png")
    assert drawn[:2] == [[-1.0, -1.25, -1.5], [-2.0, -2.25, -2.5]]


def test_imitation_has_one_side() -> None:
    row = {"step": 1, "loss": 2.0, "tokens": 5, "seconds": 0.1, "logps/chosen_per_token": -2.0}
    told = summary.words([row, {**row, "step": 2, "loss": 1.5, "logps/chosen_per_token": -1.5}], [])
    assert "chosen answers -2.000 -> -1.500 nats a token (no reference" in told and "rejected" not in told


def test_the_model_card_holds_the_settings_as_they_were(tmp_path: Path) -> None:
    run = config.load(None, ['model.path=a: "b"', "data.train=d", "objective.beta=0.3"])
    card = summary.model_card(run, ["train: d: 5 groups"])
    assert 'base_model: "a: \\"b\\""' in card and "beta = 0.3" in card and "    train: d: 5 groups" in card
    settings = tmp_path / "settings.toml"
    settings.write_text(card.split("```toml\n")[1].split("```")[0])
    assert config.load(str(settings)) == run

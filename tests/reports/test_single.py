"""The report of one run: what it says of healthy, hacked and broken runs, and that it says no more than it can."""

from __future__ import annotations

import json
import math
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from burnish.runlog.log import RunLog
from burnish.runlog.records import CompletionRecord, EvalRecord, RefreshRecord, RunRecord, StepRecord
from tests.reports.logs import write_run
from tests.runs.cli import burnish


def report(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert burnish("report", str(folder), "--json", *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert burnish("report", str(folder), *words) == 0  # the screen and the page of the same figures
    return found


def hump(t: float) -> float:
    return 0.5 + 1.2 * t - 1.5 * t * t  # highest at t = 0.4


def test_a_run_whose_gold_rose_is_kept_and_rings_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(write_run(tmp_path / "r", lambda t: 0.4 + 0.3 * t), capsys)
    assert found["verdict"]["keep"] == "yes" and not found["verdict"]["worse"] and not found["alarms"]
    assert re.match(r"gold went from 0\.4\d* \(.*\) to 0\.\d+ \(", found["verdict"]["better"][0])
    assert "not identifiable" in found["beyond"]["curve"]["reason"]  # highest at the end: no peak is told


def test_a_hacked_run_names_the_step_of_gold_s_peak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(write_run(tmp_path / "r", hump, steps=120), capsys)
    assert found["verdict"]["keep"] == "earlier" and "learnt the judge" in found["verdict"]["worse"][0]
    step = int(re.search(r"step (\d+)", found["verdict"]["headline"])[1])  # type: ignore[index]
    assert abs(step - 0.4 * 120) < 20
    d, low, high = found["beyond"]["curve"]["peak"]["d"]
    assert low <= math.sqrt(4 * 0.4) <= high and low <= d <= high


def test_flat_gold_settles_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of sixteen flat runs at most three are said to have risen, fallen or peaked."""
    kept = [report(write_run(tmp_path / str(s), lambda t: 0.5, seed=s), capsys)["verdict"]["keep"] for s in range(16)]
    assert kept.count("unknown") >= 13


def test_without_gold_and_held_out_groups_the_run_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(write_run(tmp_path / "r", None), capsys)
    assert "cannot tell" in found["verdict"]["headline"] and found["verdict"]["keep"] == "unknown"
    assert "burnish eval" in found["verdict"]["change"][0]


def test_held_out_pairs_say_how_pairs_are_ranked_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "r", None, end=False)
    with RunLog(folder) as log:
        log.write(EvalRecord(step=100, loss=0.6, groups=400, metrics={"rewards/accuracies": 0.7}))
    found = report(folder, capsys)
    assert "70% of 400 held-out pairs" in found["verdict"]["better"][0] and found["verdict"]["keep"] == "unknown"
    assert "cannot tell" in found["verdict"]["headline"] and "was cut off" in found["verdict"]["headline"]


@pytest.mark.parametrize("kind", ["nothing", "one step", "not finite", "half a line", "started twice", "no config"])
def test_nothing_crashes_on_a_broken_run(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    nan, inf = float("nan"), float("inf")
    with RunLog(folder) as log:
        if kind != "nothing":
            log.write(RunRecord(objective="dpo", steps=10, first_step=0))
            log.write(StepRecord(step=1, loss=nan if kind == "not finite" else 0.7, groups=4, metrics={"a": inf}))
        if kind in ("not finite", "half a line", "started twice"):
            log.write(RefreshRecord(step=1, metrics={"gold": nan, "kl/answer": nan, "reward": inf, "length": 3.0}))
            log.write(RefreshRecord(step=2, metrics={"gold": 0.5, "kl/answer": 0.1}))
            log.write(CompletionRecord(step=1, group="g", index=0, length=3, logp=-inf, reference_logp=nan))
        if kind == "started twice":
            log.write(RunRecord(objective="dpo", steps=10, first_step=1))
    if kind == "half a line":
        (folder / "log.jsonl").open("a").write('{"record": "step", "st')
        (folder / "answers.jsonl").write_text('{"prompt": "x", "completions": [\n')
    found = report(folder, capsys)
    assert found["about"]["state"] == "unfinished" and (folder / "report.html").exists()
    assert found["about"]["starts"] == {"nothing": 0, "started twice": 2}.get(kind, 1)


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert burnish("report", str(tmp_path / "nowhere")) == 2 and burnish("report", str(tmp_path)) == 2
    assert "Is" in (said := capsys.readouterr().err) and "the folder of a run?" in said


def test_the_page_fetches_nothing_and_holds_the_answers_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "r", hump, answers=True)
    found = report(folder, capsys)
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"']?https?:", page) and "<script" not in page
    assert "&lt;b&gt;" in page and "after 99 <b>" not in page
    row = found["answers"][0]
    assert f'id="{row["id"]}"' in page and f'href="#{row["id"]}"' in page
    assert "".join(text for kind, text in row["words"] if kind != "new").split()[:2] == [
        "answer",
        row["prompt"].split()[1],
    ]


def test_reports_load_no_torch(tmp_path: Path) -> None:
    write_run(tmp_path / "a", hump, answers=True)
    write_run(tmp_path / "b", lambda t: 0.4 + t, answers=True)
    code = (
        "import sys\nfrom burnish.cli import main\n"
        "for words in (['report', sys.argv[1]], ['compare', sys.argv[1], sys.argv[2]]):\n"
        "    try: main.main(words)\n    except SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a", tmp_path / "b"], check=True, capture_output=True)


TRL = {
    "global_step": 20, "max_steps": 20, "train_batch_size": 8, "logging_steps": 10,
    "log_history": [
        {"epoch": 0.5, "step": 10, "loss": 0.69, "grad_norm": 2.0, "learning_rate": 1e-6, "rewards/chosen": 0.1,
         "rewards/rejected": 0.0, "rewards/accuracies": 0.6, "rewards/margins": 0.1, "logps/chosen": -50.0},
        {"epoch": 1.0, "step": 20, "loss": 0.6, "grad_norm": 2.0, "learning_rate": 0.0, "rewards/accuracies": 0.8,
         "rewards/margins": 0.4, "rewards/chosen": 0.2, "rewards/rejected": -0.2, "logps/chosen": -51.0},
        {"epoch": 1.0, "step": 20, "eval_loss": 0.62, "eval_rewards/accuracies": 0.7, "eval_runtime": 3.0},
        {"epoch": 1.0, "step": 20, "train_runtime": 10.0, "train_loss": 0.65},
    ],
}  # fmt: skip


def test_a_run_of_trl_is_read_as_far_as_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out" / "checkpoint-20").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-20" / "trainer_state.json").write_text(json.dumps(TRL))
    found = report(tmp_path / "out", capsys)
    assert found["about"]["trainer"] == "TRL" and found["about"]["state"] == "finished"
    assert [row[:2] for row in found["steps"]["rewards/margins"]["points"]] == [[10, 0.1], [20, 0.4]]
    assert found["held_out"]["rewards/accuracies"]["points"][0][:2] == [20, 0.7]
    online = {**TRL, "log_history": [
        {"step": s, "loss": 0.0, "reward": 0.1 * s, "completions/mean_length": 30.0, "completions/clipped_ratio": 0.25,
         "kl": 0.01 * s, "entropy": 1.0, "rewards/judge/mean": 0.1 * s, "rewards/judge/std": 0.3} for s in (1, 2, 3)
    ]}  # fmt: skip
    (tmp_path / "grpo").mkdir()
    (tmp_path / "grpo" / "trainer_state.json").write_text(json.dumps(online))
    found = report(tmp_path / "grpo", capsys)
    assert found["refreshes"]["finished"]["points"][0][1] == 0.75 and found["refreshes"]["reward"]["points"][2][
        1
    ] == pytest.approx(0.3)
    assert "kl/answer" not in found["refreshes"]  # TRL's is a mean over tokens


@pytest.mark.slow
def test_a_million_completions_take_a_minute_and_half_a_gigabyte(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", hump, end=False)
    with (folder / "log.jsonl").open("a") as stream:
        for i in range(1_000_000):
            row = {"record": "completion", "time": 1.0, "step": 1 + i // 10_000, "group": f"g{i // 4}", "index": i % 4,
                   "length": 10 + i % 90, "logp": -50.0 - i % 7, "reference_logp": -50.0, "reward": 0.1}  # fmt: skip
            stream.write(json.dumps(row) + "\n")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "burnish", "report", folder], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{seconds:.1f} s, {peak:.0f} MiB")
    assert seconds < 120 and peak < 1024
